//! The thread that ends child processes for which no task waits any more.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::process::Process;
use super::stderr::Stderr;
use super::termination::Termination;

/// How often the children are looked at while there are any.
const TICK: Duration = Duration::from_millis(10);

/// The way to the thread; started with the first child, kept for the life of the program.
///
/// It is a thread and not a task because children must be reaped when the runtime is gone, too
/// (K44).
static THREAD: Mutex<Option<Reaper>> = Mutex::new(None);

/// The way to the thread that reaps children. It is made before a child is started, so that handing the
/// child over cannot fail.
#[derive(Clone, Debug)]
pub(super) struct Reaper(Sender<Doomed>);

impl Reaper {
    pub(super) fn get() -> io::Result<Self> {
        let mut running = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reaper) = &*running {
            return Ok(reaper.clone());
        }
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new()
            .name("nbd-reaper".into())
            .spawn(move || run(&receiver))?;
        Ok(running.insert(Self(sender)).clone())
    }

    /// Ends the child and its group, and reaps it, in the background.
    pub(super) fn leave(&self, child: Doomed) {
        if let Err(mpsc::SendError(mut child)) = self.0.send(child) {
            // Only if the thread has panicked.
            child.termination.tell(&child.process);
            child.termination.step(&child.process);
            child.process.is_gone();
        }
    }
}

fn run(incoming: &Receiver<Doomed>) {
    let mut children = Vec::new();
    loop {
        let next = if children.is_empty() {
            incoming.recv().map_err(RecvTimeoutError::from)
        } else {
            incoming.recv_timeout(TICK)
        };
        match next {
            Ok(child) => children.push(child),
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
