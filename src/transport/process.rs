//! A child process and the signals it can be sent.

use std::io;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, test_kill_process, waitid,
};
use tokio::process;

/// A child process, shared by all who may send it signals.
///
/// Signals and reaping exclude each other, so that no signal goes to another process that has
/// got the number since.
///
/// Tokio would also reap a child that is dropped while it runs, but only while some runtime
/// turns, and it would not end it; so the last clone must not go before the process has ended.
#[derive(Clone, Debug)]
pub(crate) struct Process(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    child: process::Child,
    /// Set once it is reaped; the status is missing if somebody else has done it, or the system
    /// by itself because the program ignores SIGCHLD (K47).
    ended: Option<Option<ExitStatus>>,
}

impl Process {
    pub(super) fn new(child: process::Child) -> Self {
        Self(Arc::new(Mutex::new(Inner { child, ended: None })))
    }

    /// Its number, while it is running.
    pub(crate) fn id(&self) -> Option<u32> {
        let mut inner = self.lock();
        inner.running()?;
        inner.child.id()
    }

    /// Sends a signal; `ESRCH` if the process has ended, `EINVAL` if the number is not one
    /// of the signals with a name.
    pub(crate) fn kill(&self, signal: i32) -> io::Result<()> {
        // Locked until the signal is sent.
        let mut inner = self.lock();
        let pid = inner.running().ok_or(Errno::SRCH)?;
        match signal {
            0 => test_kill_process(pid)?,
            _ => {
                let signal = Signal::from_named_raw(signal).ok_or(Errno::INVAL)?;
                kill_process(pid, signal)?;
            }
        }
        Ok(())
    }

    /// Waits until it ends, and reaps it. Only one task can wait.
    pub(super) fn poll_wait(&self, cx: &mut Context<'_>) -> Poll<Option<ExitStatus>> {
        let mut inner = self.lock();
        if inner.ended.is_none() {
            // Made anew each time, as the lock is not held in between; it can be dropped at any
            // time without losing anything.
            let waited = pin!(inner.child.wait()).poll(cx);
            match ready!(waited) {
                Ok(status) => inner.ended = Some(Some(status)),
                // Either there is nothing to reap, or the runtime cannot tell when there is. The
                // latter child is left to the reaper, like all that are not waited for.
                Err(_) => return Poll::Ready(inner.try_wait().flatten()),
            }
        }
        inner.ended.map_or(Poll::Pending, Poll::Ready)
    }

    /// Reaps it if it has ended; works without a runtime.
    ///
    /// Not while a task waits: it might not be woken.
    pub(super) fn try_wait(&self) -> Option<Option<ExitStatus>> {
        self.lock().try_wait()
    }

    /// Its number, while it is not reaped.
    #[cfg(test)]
    pub(super) fn number(&self) -> u32 {
        self.lock().child.id().unwrap()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Where to send signals.
    ///
    /// This does not reap. Tokio's child would forget the task that waits for it, and might do
    /// so before that has been woken.
    fn running(&mut self) -> Option<Pid> {
        if self.ended.is_some() {
            return None;
        }
        let pid = Pid::from_raw(self.child.id()?.try_into().ok()?)?;
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(pid), look) {
            Ok(None) => Some(pid),
            Ok(Some(_)) => None,
            Err(_) => {
                self.lose();
                None
            }
        }
    }

    fn try_wait(&mut self) -> Option<Option<ExitStatus>> {
        if self.ended.is_none() {
            match self.child.try_wait() {
                Ok(ended) => self.ended = ended.map(Some),
                Err(_) => self.lose(),
            }
        }
        self.ended
    }

    /// Somebody else has reaped it: the error is `ECHILD`. The number may be another's from now
    /// on, so it is never asked for again; but for the two looks that Tokio takes when it is
    /// dropped, and then handles SIGCHLD for: nothing tells it not to.
    fn lose(&mut self) {
        self.ended = Some(None);
    }
}
