//! The deadline for a server that owes replies and is silent.

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use crate::driver::timer::{Timer, since};

/// Watches for silence while requests are in flight.
///
/// A reply only sets a flag. When the timer fires, it is re-armed for whatever is left since the
/// last byte.
#[derive(Debug)]
pub(super) struct Stall {
    limit: Duration,
    timer: Timer,
    /// Whether bytes came since the driver last waited.
    heard: bool,
    /// The time since which the driver has waited for bytes that the server owes.
    since: Option<Instant>,
}

impl Stall {
    pub(super) const fn new(limit: Duration) -> Self {
        Self {
            limit,
            timer: Timer::new(),
            heard: false,
            since: None,
        }
    }

    /// Returns how long the silence may be.
    pub(super) const fn limit(&self) -> Duration {
        self.limit
    }

    /// Records that bytes have come.
    pub(super) const fn heard(&mut self) {
        self.heard = true;
    }

    /// Returns whether the silence has been too long. If not, the task is woken when it may have
    /// been. Must be called when nothing is left to read.
    pub(super) fn poll(&mut self, in_flight: usize, cx: &mut Context<'_>) -> bool {
        if in_flight == 0 {
            self.since = None;
            return false;
        }
        if std::mem::take(&mut self.heard) {
            self.since = None;
        }
        let silent_since = *self.since.get_or_insert_with(Instant::now);
        while !self.timer.is_set() || self.timer.poll_expired(cx) {
            let end = since(silent_since, self.limit);
            if end <= Instant::now() {
                return self.timer.poll_looked(cx);
            }
            self.timer.set_until(end);
        }
        false
    }
}
