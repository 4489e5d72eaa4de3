//! Polls for replies for a while before sleeping until data arrives.

use std::future::Future;
use std::pin::pin;
use std::task::Context;
use std::time::{Duration, Instant};

/// The way the driver of one connection waits: awake for a while, and then asleep.
///
/// Between two polls, the runtime checks its sockets and runs other tasks.
#[derive(Debug)]
pub(super) struct BusyPoll {
    period: Duration,
    /// When the present wait began, unless none has.
    since: Option<Instant>,
}

impl BusyPoll {
    /// Creates a waiter that polls for `period`.
    pub(super) const fn new(period: Duration) -> Self {
        Self {
            period,
            since: None,
        }
    }

    /// Ends the wait: data has come, or something was sent.
    pub(super) const fn end(&mut self) {
        self.since = None;
    }

    /// Returns whether to poll again instead of sleeping. If so, the task is woken as soon as the
    /// other tasks have had a turn.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if self.period.is_zero() {
            return false;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        since.elapsed() < self.period && pin!(tokio::task::yield_now()).poll(cx).is_pending()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_awake_and_then_asleep() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut busy = BusyPoll::new(Duration::MAX);
        assert!(
            busy.poll(&mut cx) && busy.poll(&mut cx),
            "as long as was asked for"
        );
        let mut never = BusyPoll::new(Duration::ZERO);
        assert!(!never.poll(&mut cx));
        let mut busy = BusyPoll::new(Duration::from_millis(1));
        while busy.poll(&mut cx) {}
        assert!(!busy.poll(&mut cx), "no second time");
        busy.end();
        assert!(busy.since.is_none(), "the next wait begins awake");
    }
}
