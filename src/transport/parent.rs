//! The thread that is the parent of child processes: it starts them, and ends those for which no task
//! waits any more.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::runtime::Handle;

use super::process::Process;
use super::stderr::Stderr;
use super::termination::Termination;

/// How often the children are looked at while there are any.
const TICK: Duration = Duration::from_millis(10);

/// The way to the thread; started with the first child, kept for the life of the program.
///
/// It is a thread and not a task because children must be reaped when the runtime is gone, too
/// (K44), and because on Linux a program can ask for a signal at the end of the thread that has started
/// it: nbdkit does. The threads of a runtime come and go, and so may those of the caller.
static THREAD: Mutex<Option<Parent>> = Mutex::new(None);

/// The way to the thread. It is made before a child is started, so that handing the child over cannot
/// fail.
#[derive(Clone, Debug)]
pub(super) struct Parent(Sender<Order>);

enum Order {
    Start(Box<dyn FnOnce() + Send>),
    End(Doomed),
}

impl Parent {
    pub(super) fn get() -> io::Result<Self> {
        let mut running = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(parent) = &*running {
            return Ok(parent.clone());
        }
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new()
            .name("nbd-parent".into())
            .spawn(move || run(&receiver))?;
        Ok(running.insert(Self(sender)).clone())
    }

    /// Starts a child, which the runtime of the caller knows.
    pub(super) fn start(&self, mut command: Command) -> io::Result<Child> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let (answer, started) = mpsc::channel();
        let start = move || {
            let _entered = runtime.enter();
            let child = command.spawn();
            // With it go the copies of what the child gets, which would hide its exit.
            drop(command);
            // The caller waits for it.
            let _ = answer.send(child);
        };
        let gone = || io::Error::other("the thread that starts programs is gone");
        let order = Order::Start(Box::new(start));
        self.0.send(order).map_err(|_| gone())?;
        started.recv().map_err(|_| gone())?
    }

    /// Ends the child and its group, and reaps it, in the background.
    pub(super) fn leave(&self, child: Doomed) {
        if let Err(mpsc::SendError(Order::End(mut child))) = self.0.send(Order::End(child)) {
            // Only if the thread has panicked.
            child.termination.tell(&child.process);
            child.termination.step(&child.process);
            child.process.is_gone();
        }
    }
}

fn run(incoming: &Receiver<Order>) {
    let mut children = Vec::new();
    loop {
        let next = if children.is_empty() {
            incoming.recv().map_err(RecvTimeoutError::from)
        } else {
            incoming.recv_timeout(TICK)
        };
        match next {
            Ok(Order::End(child)) => children.push(child),
            // Should Tokio panic, the caller learns it, and the other children are not left alone.
            Ok(Order::Start(start)) => drop(catch_unwind(AssertUnwindSafe(start))),
            Err(RecvTimeoutError::Timeout) => {}
            // Not while the static holds the sender; the children here are not lost even then.
            Err(RecvTimeoutError::Disconnected) if children.is_empty() => return,
            Err(RecvTimeoutError::Disconnected) => thread::sleep(TICK),
        }
        children.retain_mut(|child| !child.ended());
    }
}

/// A child that is to go.
#[derive(Debug)]
pub(super) struct Doomed {
    pub(super) process: Process,
    pub(super) termination: Termination,
    /// Read until nothing is left of the child that could write.
    pub(super) _stderr: Stderr,
}

impl Doomed {
    fn ended(&mut self) -> bool {
        let reaped = self.process.try_wait().is_some();
        if reaped {
            // Nothing survives SIGKILL: what is seen of the group is not reaped yet.
            if self.process.is_gone() || self.termination.is_killed() {
                return true;
            }
            // What the server leaves behind has no reason to wait.
            self.termination.tell(&self.process);
        }
        let due = self.termination.due();
        if due.is_some_and(|at| at <= Instant::now()) {
            self.termination.step(&self.process);
        }
        false
    }
}
