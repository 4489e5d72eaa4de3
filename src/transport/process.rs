//! A child process and the signals it can be sent.

use std::io;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, test_kill_process,
    test_kill_process_group, waitid,
};
use tokio::process;

/// A child process, shared by everything that sends it signals.
///
/// Signals and reaping exclude each other: after reaping, the system may give the number of the
/// process to another one, and no signal must go there. The number also names the process group that
/// the child leads, if it leads one; the system does not reuse it while the group has members. So the
/// group is checked when the child is reaped, and the number is forgotten once the group is empty.
///
/// Tokio also reaps a child that is dropped while it runs, but it does not end the child, and it
/// needs a running runtime. So the last clone must not be dropped before the process has ended.
#[derive(Clone, Debug)]
pub(crate) struct Process(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    child: process::Child,
    /// Set once the process is reaped. The status is missing if other code of the program reaped the
    /// process, or if the system did because the program ignores SIGCHLD.
    ended: Option<Option<ExitStatus>>,
    /// The process group that the child leads, until the group is empty.
    group: Option<Pid>,
    /// Whether it was started as the leader of a group.
    leads: bool,
}

/// How a process has ended that is gone, with all of its group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Gone {
    /// Whether it exited, and was not ended by a signal.
    pub(crate) has_exited: bool,
    /// Whether it led a group of its own.
    pub(crate) led: bool,
}

impl Process {
    /// A process that was just started, and whether it leads a group of its own.
    pub(super) fn new(child: process::Child, leads: bool) -> Self {
        let mut inner = Inner {
            child,
            ended: None,
            group: None,
            leads,
        };
        inner.group = inner.number().filter(|_| leads);
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Its number, while it is running.
    pub(crate) fn id(&self) -> Option<u32> {
        let mut inner = self.lock();
        inner.running()?;
        inner.child.id()
    }

    /// Sends a signal, SIGKILL to all of the group; `ESRCH` if the process has ended, `EINVAL` if
    /// the number is not one of the signals with a name.
    pub(crate) fn kill(&self, signal: i32) -> io::Result<()> {
        // Locked until the signal is sent.
        let mut inner = self.lock();
        let pid = inner.running().ok_or(Errno::SRCH)?;
        match signal {
            0 => test_kill_process(pid)?,
            _ => {
                let signal = Signal::from_named_raw(signal).ok_or(Errno::INVAL)?;
                match inner.group {
                    Some(group) if signal == Signal::KILL => kill_led(group, Some(pid), signal)?,
                    _ => kill_process(pid, signal)?,
                }
            }
        }
        Ok(())
    }

    /// Sends a signal to the group of the process, or to the process alone if it leads no group.
    pub(super) fn kill_all(&self, signal: Signal) {
        let mut inner = self.lock();
        // A failure means that there is no such process, or that this program may not signal it.
        let _ = match (inner.running(), inner.group) {
            (running, Some(group)) => kill_led(group, running, signal),
            (Some(pid), None) => kill_process(pid, signal),
            (None, None) => Ok(()),
        };
    }

    /// Waits until the process ends, and reaps it. Only one task can wait.
    pub(super) fn poll_wait(&self, cx: &mut Context<'_>) -> Poll<Option<ExitStatus>> {
        let mut inner = self.lock();
        if inner.ended.is_none() {
            // Each poll makes a new future, since the lock is not held between polls. Dropping the
            // future loses nothing.
            let waited = pin!(inner.child.wait()).poll(cx);
            match ready!(waited) {
                Ok(status) => inner.reaped(status),
                // Either there is nothing to reap, or the runtime cannot tell when there is. The
                // latter child is left to their parent, like all that are not waited for.
                Err(_) => return Poll::Ready(inner.try_wait().flatten()),
            }
        }
        inner.ended.map_or(Poll::Pending, Poll::Ready)
    }

    /// Reaps the process if it has ended. Works without a runtime.
    ///
    /// Must not be called while a task waits: the task might not be woken.
    pub(super) fn try_wait(&self) -> Option<Option<ExitStatus>> {
        self.lock().try_wait()
    }

    /// Returns whether the process and its group have ended. Reaps the process as
    /// [`try_wait`](Self::try_wait) does.
    pub(super) fn is_gone(&self) -> bool {
        let mut inner = self.lock();
        inner.try_wait().is_some() && inner.is_group_empty()
    }

    /// Returns how it has ended, once it was reaped and nothing is left of its group. This reaps
    /// nothing, so it can be called while a task waits.
    pub(crate) fn gone(&self) -> Option<Gone> {
        let mut inner = self.lock();
        let status = inner.ended?;
        inner.is_group_empty().then(|| Gone {
            has_exited: status.is_some_and(|status| status.code().is_some()),
            led: inner.leads,
        })
    }

    /// Returns the number of the process, until it is reaped.
    #[cfg(test)]
    pub(super) fn number(&self) -> u32 {
        self.lock().child.id().unwrap()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a signal to a group, or to the process that has led it and is running if that has left it,
/// and nothing else is in it.
fn kill_led(group: Pid, running: Option<Pid>, signal: Signal) -> Result<(), Errno> {
    match (kill_process_group(group, signal), running) {
        (Err(Errno::SRCH), Some(pid)) => kill_process(pid, signal),
        (result, _) => result,
    }
}

impl Inner {
    fn number(&self) -> Option<Pid> {
        Pid::from_raw(self.child.id()?.try_into().ok()?)
    }

    /// Where to send signals.
    ///
    /// This does not reap. Tokio's child would forget the task that waits for it, and might do
    /// so before that has been woken.
    fn running(&mut self) -> Option<Pid> {
        if self.ended.is_some() {
            return None;
        }
        let pid = self.number()?;
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
                Ok(Some(status)) => self.reaped(status),
                Ok(None) => {}
                Err(_) => self.lose(),
            }
        }
        self.ended
    }

    /// Records that other code has reaped the process (`ECHILD`). The number may belong to another
    /// process from now on, so it is not used again, except for Tokio's own two checks on drop, and
    /// at SIGCHLD after that, which cannot be prevented.
    fn lose(&mut self) {
        self.ended = Some(None);
        self.group = None;
    }

    fn reaped(&mut self, status: ExitStatus) {
        self.ended = Some(Some(status));
        self.is_group_empty();
    }

    /// Looks whether anything is left of the group. What belongs to another user does not count:
    /// nothing can be done about it.
    fn is_group_empty(&mut self) -> bool {
        self.group = self
            .group
            .filter(|group| test_kill_process_group(*group).is_ok());
        self.group.is_none()
    }
}
