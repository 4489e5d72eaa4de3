//! The end of a connection from this side: from `DISC` until the server has closed.

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::timer::Timer;

/// How long a server may take to close a connection, or to agree that a negotiation is over, once
/// every handle is gone.
pub(super) const LEAVE: Duration = Duration::from_millis(500);

/// How far the connection has come.
pub(super) enum Stage {
    /// Requests are sent and answered.
    Serving,
    /// `DISC` is queued or written: the server is to close.
    Parting(Parting),
}

/// How the goodbye goes.
pub(super) struct Parting {
    /// How long to wait for the server to close, and until when.
    patience: Duration,
    until: Timer,
    /// The stream to the server has ended.
    pub(super) said: bool,
    /// `DISC` could not be written: the server had gone before.
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
    pub(super) fn new(patience: Duration) -> Self {
        let mut until = Timer::default();
        until.set(patience);
        Self {
            patience,
            until,
            said: false,
            unheard: false,
        }
    }

    /// Waits for `patience` from now on, if that is less than before.
    pub(super) fn hurry(&mut self, patience: Duration) {
        if patience < self.patience {
            self.patience = patience;
            self.until.set(patience);
        }
    }

    /// Until when the server may take to close.
    pub(super) fn end(&self) -> Option<Instant> {
        self.until.end()
    }

    /// Whether the server has had its time; if not, the task is woken when it has.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.until.poll_expired(cx)
    }
}
