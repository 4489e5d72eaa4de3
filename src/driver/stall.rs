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
        // The timer is polled each time: if the task has used up its share of the runtime, the poll
        // after the timer was set may not have registered the waker.
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

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::task::Poll;

    use tokio::task::coop;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_holds_that_begins_when_the_task_has_had_its_share() {
        let limit = Duration::from_secs(10);
        let (mut stall, start) = (Stall::new(limit), Instant::now());
        poll_fn(|cx| {
            while coop::has_budget_remaining() {
                let _ = pin!(coop::consume_budget()).poll(cx);
            }
            assert!(!stall.poll(1, cx));
            Poll::Ready(())
        })
        .await;
        let over = poll_fn(|cx| match stall.poll(1, cx) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        timeout(10 * limit, over).await.expect("nobody is woken");
        assert!(start.elapsed() >= limit);
        assert!(start.elapsed() < 2 * limit);
    }
}
