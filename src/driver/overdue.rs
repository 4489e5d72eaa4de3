//! The deadline of a server that answers others and leaves one request unanswered.

use std::task::Context;
use std::time::Duration;

use super::link::Link;
use crate::driver::timer::{Timer, after};

/// How many times, while a request has its time, the requests in flight are looked at: a deadline
/// is missed by no more than one part in so many.
const LOOKS: u32 = 16;

/// Watches the age of the oldest request in flight.
///
/// A request costs it a number, not a timer: now and then it starts a new epoch, and looks at the
/// epochs in which the requests in flight were queued.
#[derive(Debug)]
pub(super) struct Overdue {
    epoch: Duration,
    timer: Timer,
    /// A request is too old, and gets a last look.
    found: bool,
}

impl Overdue {
    /// Requests may be so old.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            epoch: limit / LOOKS,
            timer: Timer::new(),
            found: false,
        }
    }

    /// Nothing is left to read, and so many requests are in flight: says whether one of them has
    /// been there for too long. If not, the task is woken when that may be so.
    pub(super) fn poll(&mut self, link: &Link, in_flight: usize, cx: &mut Context<'_>) -> bool {
        // Each time the timer is polled: see `Stall`.
        while in_flight > 0 && (!self.timer.is_set() || self.timer.poll_expired(cx)) {
            if self.timer.is_set() && self.is_found(link) {
                return self.timer.poll_looked(cx);
            }
            self.timer.set_until(after(self.epoch));
        }
        false
    }

    /// An epoch, or a last look, is over: says whether a request is too old.
    fn is_found(&mut self, link: &Link) -> bool {
        let found = std::mem::take(&mut self.found);
        self.found = link.change(|session| {
            if !found {
                session.begin_epoch();
            }
            session.is_any_before(LOOKS)
        });
        self.found
    }
}
