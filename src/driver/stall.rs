//! The deadline of a server that owes replies and is silent.

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use crate::driver::timer::{Timer, since};

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
        // Each time the timer is polled: where a task has had its share of the runtime, one poll
        // after it was set may not have counted.
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
