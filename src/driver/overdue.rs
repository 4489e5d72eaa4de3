//! The deadline for a request that stays unanswered while others are answered.

use std::task::Context;
use std::time::Duration;

use super::transmission::Transmission;
use crate::driver::timer::{Timer, after};

/// How many times the requests in flight are checked within the limit. A deadline is exceeded by at
/// most one part in this many.
const LOOKS: u32 = 16;

/// Watches the age of the oldest request in flight.
///
/// A request costs a number, not a timer: at intervals a new epoch begins, and the epochs in which
/// the requests in flight were queued are compared with it.
#[derive(Debug)]
pub(super) struct Overdue {
    limit: Duration,
    epoch: Duration,
    timer: Timer,
    /// Whether a request is too old, and gets a last look.
    found: bool,
}

impl Overdue {
    /// Creates a watch for requests older than `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            epoch: limit / LOOKS,
            timer: Timer::new(),
            found: false,
        }
    }

    /// Returns how old a request may be.
    pub(super) const fn limit(&self) -> Duration {
        self.limit
    }

    /// Returns whether a request in flight is too old. If not, the task is woken when one may be.
    /// Must be called when nothing is left to read.
    pub(super) fn poll(
        &mut self,
        transmission: &Transmission,
        in_flight: usize,
        cx: &mut Context<'_>,
    ) -> bool {
        while self.is_due(in_flight, cx) {
            if self.timer.is_set() && self.is_found(transmission) {
                return self.timer.poll_looked(cx);
            }
            self.timer.set_until(after(self.epoch));
        }
        false
    }

    /// Returns whether it is time to [look](Self::poll) at the age of the requests in flight. If not,
    /// the task is woken when it is.
    pub(super) fn is_due(&mut self, in_flight: usize, cx: &mut Context<'_>) -> bool {
        in_flight > 0 && (!self.timer.is_set() || self.timer.poll_expired(cx))
    }

    /// Returns whether a request is too old, after an epoch or a last look.
    fn is_found(&mut self, transmission: &Transmission) -> bool {
        let found = std::mem::take(&mut self.found);
        self.found = transmission.change(|session| {
            if !found {
                session.begin_epoch();
            }
            session.is_any_before(LOOKS)
        });
        self.found
    }
}
