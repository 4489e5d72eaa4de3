//! The thread that is the parent of child processes: it starts them, and ends those for which no task
//! waits any more.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};
use std::{process, thread};

use tokio::process::{Child, Command};
use tokio::runtime::Handle;

use super::process::Process;
use super::stderr::Stderr;
use super::termination::Termination;

/// How often the children are looked at while there are any.
const TICK: Duration = Duration::from_millis(10);

/// The way to the thread, and the process that has the thread; started with the first child, kept for
/// the life of the program.
///
/// It is a thread and not a task because children must be reaped when the runtime is gone, too
/// (K44), and because on Linux a program can ask for a signal at the end of the thread that has started
/// it: nbdkit does. The threads of a runtime come and go, and so may those of the caller.
///
/// A process that was forked from this one has no such thread, and starts its own.
static THREAD: Mutex<Option<(u32, Parent)>> = Mutex::new(None);
/// The process that has the thread, to be known without the lock: in a process that was forked, the lock
/// may be held by a thread that is not there. What it guards is guarded by the lock.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// The way to the thread. It is made before a child is started, so that handing the child over cannot
/// fail.
#[derive(Clone, Debug)]
pub(super) struct Parent(Sender<Order>);

enum Order {
    Start(Box<dyn FnOnce() + Send>),
    End(Doomed),
}

impl Parent {
    /// Returns the way to the thread of this process, which the first call starts.
    pub(super) fn get() -> io::Result<Self> {
        let this = process::id();
        let owner = OWNER.load(Ordering::Relaxed);
        let mut kept = if owner == this || owner == 0 {
            THREAD.lock().unwrap_or_else(PoisonError::into_inner)
        } else {
            match THREAD.try_lock() {
                Ok(kept) => kept,
                Err(TryLockError::Poisoned(kept)) => kept.into_inner(),
                // Whoever holds it may not be there. This thread ends after the last of its children.
                Err(TryLockError::WouldBlock) => return Self::begin(),
            }
        };
        match &*kept {
            Some((owner, parent)) if *owner == this => return Ok(parent.clone()),
            _ => {}
        }
        let parent = Self::begin()?;
        // To drop the way to a thread that is not there could wait for it.
        std::mem::forget(kept.replace((this, parent.clone())));
        OWNER.store(this, Ordering::Relaxed);
        Ok(parent)
    }

    /// Starts a thread.
    fn begin() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new()
            .name("nbd-parent".into())
            .spawn(move || run(&receiver))?;
        Ok(Self(sender))
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
            // Not while the static or a child holds the sender; the children here are not lost even then.
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

/// To fork takes unsafe code, so the tests leave behind what a fork would.
#[cfg(test)]
mod tests {
    use std::sync::MutexGuard;

    use tokio::runtime::Builder;

    use super::*;

    /// Starts a program, and fails if that takes for ever.
    fn starts() {
        let (sender, done) = mpsc::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let status = runtime.block_on(async {
                let mut child = Parent::get()?.start(Command::new("true"))?;
                child.wait().await
            });
            let _ = sender.send(status);
        });
        let status = done.recv_timeout(Duration::from_secs(60));
        assert!(status.expect("it hangs").unwrap().success());
    }

    /// Leaves the way to a thread of another process.
    fn fork() -> (Receiver<Order>, MutexGuard<'static, Option<(u32, Parent)>>) {
        let (sender, nobody) = mpsc::channel();
        let theirs = process::id() + 1;
        let mut kept = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some((theirs, Parent(sender)));
        OWNER.store(theirs, Ordering::Relaxed);
        (nobody, kept)
    }

    #[test]
    fn a_forked_process_starts_a_thread_of_its_own() {
        let (nobody, kept) = fork();
        // The lock is held by a thread that is not there.
        starts();
        drop(kept);
        starts();
        assert_eq!(OWNER.load(Ordering::Relaxed), process::id());
        starts();
        let asked = nobody.try_recv();
        assert!(asked.is_err(), "of a thread that is not there");
    }
}
