//! Polls for replies for a while before sleeping until data arrives.

mod judge;

use std::future::Future;
use std::pin::pin;
use std::task::Context;
use std::time::{Duration, Instant};

use judge::{Judge, Moment};

/// The longest wait that is spent awake without being asked for: about twice what falling asleep and
/// being woken takes, the server's part included.
const LONGEST: Duration = Duration::from_micros(50);
/// The most requests whose replies are waited for awake without being asked for. To more of them,
/// sleeping lets several replies come at once.
const FEW: usize = 4;

/// The way the driver of one connection waits: awake for a while, and then asleep.
///
/// Between two polls, the runtime checks its sockets and runs other tasks. Unless the caller has set a
/// period, only replies to a few requests are waited for awake, and only while that takes no more
/// processor time, as the [`Judge`] measures it: while they come sooner than a thread falls asleep and
/// is woken.
#[derive(Debug)]
pub(super) struct BusyPoll {
    period: Duration,
    /// Judges whether waiting awake pays, unless the caller has set the period.
    judge: Option<Judge>,
    wait: Wait,
}

#[derive(Clone, Copy, Debug)]
enum Wait {
    /// Nothing is waited for, or asleep without a choice.
    No,
    /// Awake since this time.
    Awake(Instant),
    Asleep,
}

impl BusyPoll {
    /// Creates a waiter that polls for `period`, or, with `None`, as long as it pays.
    pub(super) fn new(period: Option<Duration>) -> Self {
        Self {
            period: period.unwrap_or(LONGEST),
            judge: period.is_none().then(Judge::default),
            wait: Wait::No,
        }
    }

    /// Ends the wait: something was sent.
    pub(super) const fn end(&mut self) {
        self.wait = Wait::No;
    }

    /// Ends the wait: data has come, after `messages` messages since the connection began.
    pub(super) fn heard(&mut self, messages: u64) {
        if let (Wait::Awake(_) | Wait::Asleep, Some(judge)) = (self.wait, &mut self.judge) {
            judge.hit(messages, Moment::now);
        }
        self.wait = Wait::No;
    }

    /// Returns whether to poll again for the replies to `requests` instead of sleeping. If so, the task
    /// is woken as soon as the other tasks have had a turn.
    pub(super) fn poll(&mut self, requests: usize, cx: &mut Context<'_>) -> bool {
        if let Wait::No = self.wait {
            self.wait = self.begin(requests);
        }
        let Wait::Awake(since) = self.wait else {
            return false;
        };
        if since.elapsed() < self.period {
            return pin!(tokio::task::yield_now()).poll(cx).is_pending();
        }
        if let Some(judge) = &mut self.judge {
            judge.miss();
        }
        self.wait = Wait::Asleep;
        false
    }

    /// Begins a wait for the replies to `requests`, if there is a choice how to wait.
    fn begin(&mut self, requests: usize) -> Wait {
        if requests == 0 || self.judge.is_some() && requests > FEW {
            return Wait::No;
        }
        let is_awake = match &mut self.judge {
            Some(judge) => judge.begin(),
            None => !self.period.is_zero(),
        };
        if is_awake {
            Wait::Awake(Instant::now())
        } else {
            Wait::Asleep
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_awake_and_then_asleep() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut busy = BusyPoll::new(Some(Duration::MAX));
        assert!(
            busy.poll(2, &mut cx) && busy.poll(2, &mut cx),
            "as long as was asked for"
        );
        busy.end();
        assert!(!busy.poll(0, &mut cx), "nothing to wait for");
        let mut never = BusyPoll::new(Some(Duration::ZERO));
        assert!(!never.poll(1, &mut cx));
        let mut busy = BusyPoll::new(Some(Duration::from_millis(1)));
        while busy.poll(1, &mut cx) {}
        assert!(!busy.poll(1, &mut cx), "no second time");
        busy.end();
        assert!(matches!(busy.wait, Wait::No), "the next wait begins awake");
    }

    #[test]
    fn without_a_period_waits_for_a_few_requests_are_judged() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut busy = BusyPoll::new(None);
        assert!(!busy.poll(FEW, &mut cx));
        assert!(
            matches!(busy.wait, Wait::Asleep),
            "as the judge says at first"
        );
        busy.heard(1);
        assert!(!busy.poll(FEW + 1, &mut cx));
        assert!(matches!(busy.wait, Wait::No), "not judged");
    }
}
