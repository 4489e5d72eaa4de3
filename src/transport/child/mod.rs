//! A server that runs as a child process.

use std::ffi::{OsStr, OsString};
use std::future::poll_fn;
use std::io::{self, Write};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::io::Errno;
use tokio::{process, time};

use super::activation::{Door, Guests};
use super::command::not_run;
use super::parent::{Doomed, Parent};
use super::process::Process;
use super::program::SHELL;
use super::stderr::{Stderr, Words};
use super::termination::Termination;
use crate::error::{ChildReport, Error};
use crate::wire::Text;

/// How long to go on reading the standard error of a child that has ended. Processes that the child
/// started may hold the other end of the pipe for ever.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How a child is started and ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// How long the child may take to exit by itself once its connection is closed.
    pub(super) grace: Duration,
    /// The time between SIGTERM and SIGKILL.
    pub(super) kill_delay: Duration,
    /// Whether the child leads a process group of its own, which ends with the child.
    pub(super) leads: bool,
}

/// The only owner of a child process.
///
/// Dropping the owner ends what is left of the process and its group, without blocking: SIGTERM is
/// sent, and later SIGKILL. The process is always reaped, even if the runtime has ended (K44).
#[derive(Debug)]
pub(crate) struct Child {
    process: Process,
    stderr: Stderr,
    parent: Parent,
    terms: Terms,
    termination: Option<Termination>,
    /// The program, if a shell starts it by `exec`. The shell then reports a failure to start it.
    by_shell: Option<OsString>,
    /// The way to the socket on which it listens, and who else uses it.
    door: Option<(Door, Guests)>,
}

/// Access to a child for code that does not own it.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    pub(crate) process: Process,
    pub(crate) words: Words,
    /// The way to the socket on which it listens, if it was given one.
    pub(crate) door: Option<Door>,
}

impl Child {
    /// Takes charge of a process. If its standard error is a pipe, it is copied to that of this
    /// program.
    ///
    /// Must be called inside a Tokio runtime.
    pub(super) fn new(
        mut child: process::Child,
        parent: Parent,
        copy: impl Write + Send + 'static,
        terms: Terms,
    ) -> io::Result<Self> {
        let stderr = child.stderr.take();
        // From here on, an error drops the child, which ends the process.
        let mut child = Self {
            process: Process::new(child, terms.leads),
            stderr: Stderr::default(),
            parent,
            terms,
            termination: None,
            by_shell: None,
            door: None,
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

    /// The same for a program that listens.
    pub(super) fn with_door(mut self, door: Option<(Door, Guests)>) -> Self {
        self.door = door;
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
        // A server that ran may exit with the same number, but does not print this.
        let words = report.stderr.as_str().strip_prefix(SHELL);
        let is_shell = words.is_some_and(|words| words.starts_with(": "));
        is_shell.then(|| not_run(program, None, why))
    }

    /// Returns access to the process and to what it printed.
    pub(crate) fn handle(&self) -> Handle {
        Handle {
            process: self.process.clone(),
            words: self.stderr.words().clone(),
            door: self.door.as_ref().map(|(door, _)| door.clone()),
        }
    }

    /// Waits until the child ends. Only one task can wait.
    ///
    /// # Cancel safety
    ///
    /// Can be dropped and called again, also after the end.
    pub(crate) async fn ended(&self) -> Option<ExitStatus> {
        poll_fn(|cx| self.process.poll_wait(cx)).await
    }

    /// Waits until no other connection uses the child.
    ///
    /// # Cancel safety
    ///
    /// Can be dropped and called again.
    pub(crate) async fn deserted(&mut self) {
        if let Some((_, guests)) = &mut self.door {
            guests.left().await;
        }
    }

    /// Begins the end, because the connection is closed or about to be: from now on the child has
    /// its grace period, and at least `least`, to exit by itself.
    pub(crate) fn close(&mut self, least: Duration) {
        let Terms {
            grace, kill_delay, ..
        } = self.terms;
        self.termination
            .get_or_insert_with(|| Termination::new(grace.max(least), kill_delay));
    }

    /// Sends SIGTERM to what is left of the child and its group.
    pub(crate) fn tell(&mut self) {
        self.close(Duration::ZERO);
        if let Some(termination) = &mut self.termination {
            termination.tell(&self.process);
        }
    }

    /// Ends the child: waits until its grace period is over, because a server may stop when its
    /// socket is closed, then sends SIGTERM, and later SIGKILL. A process that hangs in the kernel
    /// is waited for even then.
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

    /// Reports what is known by now: how the child ended, if it ended by itself, and what it
    /// printed.
    ///
    /// # Cancel safety
    ///
    /// Can be dropped and called again, but what the child printed is returned once.
    pub(crate) async fn report(&mut self) -> ChildReport {
        let ended = time::timeout(Duration::ZERO, self.ended()).await.ok();
        let was_told = |status| self.termination.is_some_and(|it| it.explains(status));
        let ended_by_itself = ended.is_some_and(|status| !was_told(status));
        if ended.is_some() {
            // Other processes of the group may hold the pipe.
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
        let mut termination = self.termination.unwrap_or_else(now);
        // Nobody waits any more: the runtime ends, and perhaps the program, before the thread runs.
        termination.tell(&self.process);
        self.parent.leave(Doomed {
            process: self.process.clone(),
            termination,
            _stderr: std::mem::take(&mut self.stderr),
        });
    }
}

#[cfg(test)]
mod tests;
