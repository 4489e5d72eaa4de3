//! A child process and the signals it can be sent.

use std::io;
use std::process::{self, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// A child process, shared by all who may send it signals.
///
/// Signals and reaping exclude each other, so that no signal goes to another process that has
/// got the number since.
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
        inner.poll().is_pending().then(|| inner.child.id())
    }

    /// Sends a signal; `ESRCH` if the process has ended, `EINVAL` if the number is not one
    /// of the signals with a name.
    pub(crate) fn kill(&self, signal: i32) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.poll().is_ready() {
            return Err(Errno::SRCH.into());
        }
        let pid = Pid::from_child(&inner.child);
        match signal {
            0 => test_kill_process(pid)?,
            _ => {
                let signal = Signal::from_named_raw(signal).ok_or(Errno::INVAL)?;
                kill_process(pid, signal)?;
            }
        }
        Ok(())
    }

    /// Reaps it if it has ended; works without a runtime.
    pub(super) fn poll(&self) -> Poll<Option<ExitStatus>> {
        self.lock().poll()
    }

    /// Its number, whether it is running or not.
    #[cfg(test)]
    pub(super) fn number(&self) -> u32 {
        self.lock().child.id()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn poll(&mut self) -> Poll<Option<ExitStatus>> {
        if self.ended.is_none() {
            // An error is ECHILD. The number may be another's from now on: never ask again.
            self.ended = self
                .child
                .try_wait()
                .map_or(Some(None), |ended| ended.map(Some));
        }
        self.ended.map_or(Poll::Pending, Poll::Ready)
    }
}
