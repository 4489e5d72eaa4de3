//! The steps by which a child process is ended.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::process::Process;

/// How far the end of a child has come, and when the next step is due.
///
/// A server gets some time to exit by itself because its socket is closed; then SIGTERM; then, if
/// it is still there, SIGKILL.
#[derive(Clone, Copy, Debug)]
pub(super) struct Termination {
    stage: Stage,
    kill_delay: Duration,
    /// The process was running when it got a signal.
    interrupted: bool,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// It may exit by itself.
    Grace { until: Instant },
    /// It has got SIGTERM. Without a time it is never killed.
    Told { until: Option<Instant> },
    /// It has got SIGKILL.
    Killed,
}

impl Termination {
    pub(super) fn new(grace: Duration, kill_delay: Duration) -> Self {
        let until = Instant::now() + grace;
        Self {
            stage: Stage::Grace { until },
            kill_delay,
            interrupted: false,
        }
    }

    /// When the next signal is to be sent, if ever.
    pub(super) const fn due(&self) -> Option<Instant> {
        match self.stage {
            Stage::Grace { until } => Some(until),
            Stage::Told { until } => until,
            Stage::Killed => None,
        }
    }

    /// Whether it has got a signal.
    pub(super) const fn is_told(&self) -> bool {
        !matches!(self.stage, Stage::Grace { .. })
    }

    /// Whether the process ended like this because it was told to. It may have been about to end
    /// in another way when the signal came.
    pub(super) fn explains(&self, status: Option<ExitStatus>) -> bool {
        let signal = status.and_then(|status| status.signal());
        self.interrupted
            && match signal.and_then(Signal::from_named_raw) {
                Some(Signal::TERM) => true,
                Some(Signal::KILL) => self.is_killed(),
                Some(_) => false,
                None => true,
            }
    }

    /// Whether nothing more can be done.
    pub(super) const fn is_killed(&self) -> bool {
        matches!(self.stage, Stage::Killed)
    }

    /// Sends the next signal, to the process and to its group.
    pub(super) fn step(&mut self, process: &Process) {
        self.interrupted |= process.id().is_some();
        self.stage = match self.stage {
            Stage::Grace { .. } => {
                process.kill_all(Signal::TERM);
                // One that is stopped would not notice.
                process.kill_all(Signal::CONT);
                let until = Instant::now().checked_add(self.kill_delay);
                Stage::Told { until }
            }
            Stage::Told { .. } | Stage::Killed => {
                process.kill_all(Signal::KILL);
                Stage::Killed
            }
        };
    }

    /// Sends SIGTERM if that has not been done.
    pub(super) fn tell(&mut self, process: &Process) {
        if !self.is_told() {
            self.step(process);
        }
    }
}
