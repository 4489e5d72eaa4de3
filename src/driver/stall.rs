//! The deadline of a server that owes replies and is silent.

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::link::Link;
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
    /// When the driver last waited after bytes had come.
    last: Instant,
}

impl Stall {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            timer: Timer::new(),
            heard: false,
            last: Instant::now(),
        }
    }

    /// Bytes have come.
    pub(super) const fn heard(&mut self) {
        self.heard = true;
    }

    /// Nothing is left to read: says whether the silence has been too long. If not, the task is
    /// woken when it may have been.
    pub(super) fn poll(&mut self, link: &Link, cx: &mut Context<'_>) -> bool {
        if std::mem::take(&mut self.heard) {
            self.last = Instant::now();
        }
        while !self.timer.is_set() || self.timer.is_expired() {
            let Some(owing) = link.owing() else {
                self.timer.clear();
                return false;
            };
            let end = since(owing.max(self.last), self.limit);
            if end <= Instant::now() {
                return true;
            }
            self.timer.set_until(end);
            if !self.timer.poll_expired(cx) {
                break;
            }
        }
        false
    }
}
