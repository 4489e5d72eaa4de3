//! The end of a connection from this side: from `DISC` until the server has closed.

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::timer::Timer;

/// How long a server may take to close a connection, or to agree that a negotiation is over, once
/// every handle is gone; and how long a disconnect that has given up waits for the connection's task.
pub(crate) const LEAVE: Duration = Duration::from_millis(500);

/// The stage of the transmission phase.
pub(super) enum Stage {
    /// Requests are sent and answered.
    Serving,
    /// `DISC` is queued or written, and the server is to close the connection.
    Parting(Parting),
}

/// The progress of the end.
pub(super) struct Parting {
    /// How long to wait for the server to close, and the deadline for that.
    patience: Duration,
    until: Timer,
    /// Whether answers are still taken.
    pub(super) takes: bool,
    /// Whether the stream to the server was shut down.
    pub(super) said: bool,
    /// Whether `DISC` could not be written, because the server had gone before.
    pub(super) unheard: bool,
}

impl Stage {
    pub(super) const fn is_serving(&self) -> bool {
        matches!(self, Self::Serving)
    }

    pub(super) const fn parting(&self) -> Option<&Parting> {
        match self {
            Self::Serving => None,
            Self::Parting(parting) => Some(parting),
        }
    }
}

impl Parting {
    pub(super) fn new(patience: Duration, takes: bool) -> Self {
        let mut until = Timer::default();
        until.set(patience);
        Self {
            patience,
            until,
            takes,
            said: false,
            unheard: false,
        }
    }

    /// Shortens the wait to `patience` from now on, if that is less than before.
    pub(super) fn hurry(&mut self, patience: Duration) {
        if patience < self.patience {
            self.patience = patience;
            self.until.set(patience);
        }
    }

    /// Returns the time by which the server must have closed.
    pub(super) fn end(&self) -> Option<Instant> {
        self.until.end()
    }

    /// Returns whether the deadline has passed. If not, the task is woken when it has.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.until.poll_expired(cx)
    }
}
