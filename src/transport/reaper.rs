//! The thread that ends child processes nobody waits for any more.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::process::Process;

/// How long a child has between SIGTERM and SIGKILL.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// How often the children are looked at while there are any.
const TICK: Duration = Duration::from_millis(10);

/// The way to the thread; started with the first child, kept for the life of the program.
///
/// It is a thread and not a task because children must be reaped when the runtime is gone, too
/// (K44).
static THREAD: Mutex<Option<Reaper>> = Mutex::new(None);

/// A place to leave a child. Got before the child is started, so that leaving it cannot fail.
#[derive(Clone, Debug)]
pub(super) struct Reaper(Sender<Process>);

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

    /// Ends the child and reaps it, in the background.
    pub(super) fn leave(&self, process: Process) {
        if let Err(mpsc::SendError(process)) = self.0.send(process) {
            // Only if the thread has panicked.
            let _ = process.kill(Signal::KILL.as_raw());
            let _ = process.try_wait();
        }
    }
}

fn run(incoming: &Receiver<Process>) {
    let mut children = Vec::new();
    loop {
        let next = if children.is_empty() {
            incoming.recv().map_err(RecvTimeoutError::from)
        } else {
            incoming.recv_timeout(TICK)
        };
        match next {
            Ok(process) => children.push(Doomed::new(process)),
            Err(RecvTimeoutError::Timeout) => {}
            // Not while the static holds the sender; the children here are not lost even then.
            Err(RecvTimeoutError::Disconnected) if children.is_empty() => return,
            Err(RecvTimeoutError::Disconnected) => thread::sleep(TICK),
        }
        children.retain_mut(|child| !child.ended());
    }
}

/// A child that has been told to go.
struct Doomed {
    process: Process,
    /// When it is killed, if it has not been yet.
    deadline: Option<Instant>,
}

impl Doomed {
    fn new(process: Process) -> Self {
        // It has ended if the signal cannot be sent, and is then reaped.
        let _ = process.kill(Signal::TERM.as_raw());
        Self {
            process,
            deadline: Some(Instant::now() + PATIENCE),
        }
    }

    fn ended(&mut self) -> bool {
        if self.process.try_wait().is_some() {
            return true;
        }
        if self.deadline.is_some_and(|at| at <= Instant::now()) {
            self.deadline = None;
            let _ = self.process.kill(Signal::KILL.as_raw());
        }
        false
    }
}
