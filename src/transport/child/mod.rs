//! A server that runs as a child process.

use std::ffi::{OsStr, OsString};
use std::future::poll_fn;
use std::io::{self, Write};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::io::Errno;
use tokio::{process, time};

use super::command::not_run;
use super::process::Process;
use super::reaper::{Doomed, Reaper};
use super::stderr::{Stderr, Words};
use super::termination::Termination;
use crate::error::{ChildReport, Error};
use crate::wire::Text;

/// How long the standard error of a child that has ended is read on. Processes that it started
/// may hold the other end for ever.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How a child is started and ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// How long it may take to exit by itself once its connection is closed.
    pub(super) grace: Duration,
    /// How long it has between SIGTERM and SIGKILL.
    pub(super) kill_delay: Duration,
    /// Whether it leads a process group of its own, which ends with it.
    pub(super) leads: bool,
}

/// The only owner of a child process.
///
/// Dropping it while anything of the process and its group is left ends that, without blocking:
/// SIGTERM, after a time SIGKILL, and in every case it is reaped, also when the runtime is gone
/// (K44).
#[derive(Debug)]
pub(crate) struct Child {
    process: Process,
    stderr: Stderr,
    reaper: Reaper,
    terms: Terms,
    termination: Option<Termination>,
    /// The program, if a shell is to become it and says so where it cannot.
    by_shell: Option<OsString>,
}

/// What others may do with a child.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    pub(crate) process: Process,
    pub(crate) words: Words,
}

impl Child {
    /// Takes charge of a process. If its standard error is a pipe, it is copied.
    ///
    /// Must be called inside a Tokio runtime.
    pub(super) fn new(
        mut child: process::Child,
        reaper: Reaper,
        copy: impl Write + Send + 'static,
        terms: Terms,
    ) -> io::Result<Self> {
        let stderr = child.stderr.take();
        // From here on an error ends the process.
        let mut child = Self {
            process: Process::new(child, terms.leads),
            stderr: Stderr::default(),
            reaper,
            terms,
            termination: None,
            by_shell: None,
        };
        if let Some(stderr) = stderr {
            child.stderr = Stderr::read(stderr.into_owned_fd()?, copy)?;
        }
        Ok(child)
    }

    /// The same for a shell that becomes this program.
    pub(super) fn by_shell(mut self, program: &OsStr) -> Self {
        self.by_shell = Some(program.to_owned());
        self
    }

    /// Why the program could not be run, if its report shows that.
    pub(crate) fn run_failure(&self, report: &ChildReport) -> Option<Error> {
        const NOT_EXECUTABLE: i32 = 126;
        const NOT_FOUND: i32 = 127;
        let program = self.by_shell.as_ref()?;
        let why = match report.status?.code()? {
            NOT_FOUND => io::Error::from_raw_os_error(Errno::NOENT.raw_os_error()),
            NOT_EXECUTABLE => io::Error::from_raw_os_error(Errno::ACCESS.raw_os_error()),
            _ => return None,
        };
        // Not a server that has been running and exits with such a number.
        let is_shell = report.stderr.as_str().starts_with("sh: ");
        is_shell.then(|| not_run(program, why))
    }

    /// The means to look at it and to send it signals.
    pub(crate) fn handle(&self) -> Handle {
        Handle {
            process: self.process.clone(),
            words: self.stderr.words().clone(),
        }
    }

    /// Waits until it ends by itself. Only one task can wait.
    ///
    /// # Cancel safety
    ///
    /// Can be dropped and called again, also after the end.
    pub(crate) async fn ended(&self) -> Option<ExitStatus> {
        poll_fn(|cx| self.process.poll_wait(cx)).await
    }

    /// Its connection is closed, or about to be: from now on it has its grace, and at least
    /// `least`, to exit by itself.
    pub(crate) fn close(&mut self, least: Duration) {
        let Terms {
            grace, kill_delay, ..
        } = self.terms;
        self.termination
            .get_or_insert_with(|| Termination::new(grace.max(least), kill_delay));
    }

    /// Asks what is left of it to go.
    pub(crate) fn tell(&mut self) {
        self.close(Duration::ZERO);
        if let Some(termination) = &mut self.termination {
            termination.tell(&self.process);
        }
    }

    /// Ends it: waits until its grace is over, because a server may stop when its socket is
    /// closed, then sends SIGTERM, and later SIGKILL. Even that has to wait for a process that hangs
    /// in the kernel.
    ///
    /// # Cancel safety
    ///
    /// Can be dropped and called again.
    pub(crate) async fn terminate(&mut self) -> Option<ExitStatus> {
        self.close(Duration::ZERO);
        while let Some(due) = self.termination.as_ref().and_then(Termination::due) {
            if let Ok(status) = time::timeout_at(due.into(), self.ended()).await {
                return status;
            }
            if let Some(termination) = &mut self.termination {
                termination.step(&self.process);
            }
        }
        self.ended().await
    }

    /// What is known of it by now: how it ended, if it did so by itself, and what it said.
    ///
    /// # Cancel safety
    ///
    /// Can be dropped and called again, but what it said is given to one.
    pub(crate) async fn report(&mut self) -> ChildReport {
        let ended = time::timeout(Duration::ZERO, self.ended()).await.ok();
        let was_told = |status| self.termination.is_some_and(|it| it.explains(status));
        let ended_by_itself = ended.is_some_and(|status| !was_told(status));
        if ended.is_some() {
            // Others may hold the pipe.
            self.tell();
            let _ = time::timeout(LAST_WORDS, self.stderr.end()).await;
        }
        let (words, is_copied) = self.stderr.words().report();
        ChildReport {
            status: ended.flatten().filter(|_| ended_by_itself),
            has_ended: ended_by_itself,
            stderr: Text::from_bytes(&words),
            is_copied,
            was_not_run: false,
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.process.is_gone() {
            return;
        }
        let Terms { kill_delay, .. } = self.terms;
        let now = || Termination::new(Duration::ZERO, kill_delay);
        self.reaper.leave(Doomed {
            process: self.process.clone(),
            termination: self.termination.unwrap_or_else(now),
            _stderr: std::mem::take(&mut self.stderr),
        });
    }
}

#[cfg(test)]
mod tests;
