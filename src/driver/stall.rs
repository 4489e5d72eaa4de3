//! The deadline of a server that owes replies and is silent.

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use crate::timer::{Timer, since};

/// Watches for silence while requests are in flight.
///
/// Replies cost it a mark, not a timer: when the timer is over, it looks how long the silence has
/// really been, and counts the rest.
#[derive(Debug)]
pub(super) struct Stall {
    limit: Duration,
    timer: Timer,
    /// Bytes came since the driver last waited.
    heard: bool,
    /// Since when the driver has waited for bytes that the server owes, as far as is known.
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

    /// Bytes have come.
    pub(super) const fn heard(&mut self) {
        self.heard = true;
    }

    /// Nothing is left to read, and so many requests are in flight: says whether the silence has
    /// been too long. If not, the task is woken when it may have been.
    pub(super) fn poll(&mut self, in_flight: usize, cx: &mut Context<'_>) -> bool {
        if in_flight == 0 {
            self.since = None;
            return false;
        }
        if std::mem::take(&mut self.heard) {
            self.since = None;
        }
        let silent_since = *self.since.get_or_insert_with(Instant::now);
        while !self.timer.is_set() || self.timer.is_expired() {
            let end = since(silent_since, self.limit);
            if end <= Instant::now() {
                return self.timer.poll_looked(cx);
            }
            self.timer.set_until(end);
            if !self.timer.poll_expired(cx) {
                break;
            }
        }
        false
    }
}
