//! Polls for replies for a while before sleeping until data arrives.

use std::future::Future;
use std::pin::pin;
use std::task::Context;
use std::time::{Duration, Instant};

/// The longest wait that is spent awake without being asked for. For nbdkit and qemu-nbd, whose replies
/// take longer, waits that begin with 10 µs or more awake took 1.7 to 2.6 times the processor time.
const SHORT: Duration = Duration::from_micros(8);

/// The way the driver of one connection waits: awake for a while, and then asleep.
///
/// Between two polls, the runtime checks its sockets and runs other tasks. Unless the caller has set a
/// period, only the reply to a single request is waited for awake, and only while the replies of this
/// server come within [`SHORT`]: to several requests, sleeping lets several replies come at once.
#[derive(Debug)]
pub(super) struct BusyPoll {
    period: Duration,
    /// Judges whether waiting awake pays, unless the caller has set the period.
    judge: Option<Judge>,
    wait: Wait,
}

#[derive(Clone, Copy, Debug)]
enum Wait {
    No,
    /// Awake since this time.
    Awake(Instant),
    Asleep,
}

impl BusyPoll {
    /// Creates a waiter that polls for `period`, or, with `None`, as long as it pays.
    pub(super) fn new(period: Option<Duration>) -> Self {
        Self {
            period: period.unwrap_or(SHORT),
            judge: period.is_none().then(Judge::default),
            wait: Wait::No,
        }
    }

    /// Ends the wait: something was sent.
    pub(super) const fn end(&mut self) {
        self.wait = Wait::No;
    }

    /// Ends the wait: data has come.
    pub(super) fn heard(&mut self) {
        if let (Wait::Awake(_), Some(judge)) = (self.wait, &mut self.judge) {
            judge.hit();
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

    /// Begins a wait for the replies to `requests`.
    fn begin(&mut self, requests: usize) -> Wait {
        let is_awake = match &mut self.judge {
            Some(judge) => requests == 1 && judge.begin(),
            None => requests > 0 && !self.period.is_zero(),
        };
        if is_awake {
            Wait::Awake(Instant::now())
        } else {
            Wait::Asleep
        }
    }
}

/// Judges by the arrival of data whether waits should begin awake.
///
/// A server that answers at once while its client is awake may not do so while the client sleeps between
/// its requests, because it sleeps then as well. So every trial is a few waits in a row.
#[derive(Debug)]
struct Judge {
    /// How much speaks for waiting awake: every hit adds to it, every miss takes [`MISS`] away.
    trust: u32,
    /// The number of waits that begin asleep before the next trial.
    asleep: u32,
    /// The value of `asleep` after the next trial that fails.
    pause: u32,
}

/// The trust at the beginning of a trial: two misses end it.
const TRIAL: u32 = 8;
/// What a miss costs.
const MISS: u32 = 4;
const MOST: u32 = 32;
/// The number of waits between the first two trials that fail, and between the last ones.
const FIRST: u32 = 128;
const LONGEST: u32 = 4096;

impl Default for Judge {
    fn default() -> Self {
        Self {
            trust: TRIAL,
            asleep: 0,
            pause: FIRST,
        }
    }
}

impl Judge {
    /// Returns whether the wait that begins now should be awake.
    fn begin(&mut self) -> bool {
        let is_awake = self.asleep == 0;
        self.asleep = self.asleep.saturating_sub(1);
        is_awake
    }

    /// Notes that data came during a wait that was awake.
    fn hit(&mut self) {
        self.trust = (self.trust + 1).min(MOST);
        if self.trust == MOST {
            self.pause = FIRST;
        }
    }

    /// Notes that nothing came during a wait that was awake.
    fn miss(&mut self) {
        self.trust = self.trust.saturating_sub(MISS);
        if self.trust == 0 {
            self.trust = TRIAL;
            self.asleep = self.pause;
            self.pause = (self.pause * 2).min(LONGEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits so many times for a server that answers in time, or does not. Returns how many of the
    /// waits began awake.
    fn wait(judge: &mut Judge, times: u32, is_quick: bool) -> u32 {
        let mut awake = 0;
        for _ in 0..times {
            if judge.begin() {
                awake += 1;
                if is_quick { judge.hit() } else { judge.miss() }
            }
        }
        awake
    }

    #[test]
    fn what_pays_goes_on() {
        let mut judge = Judge::default();
        for _ in 0..100 {
            assert_eq!(wait(&mut judge, 40, true), 40);
            // Now and then the server takes long.
            assert_eq!(wait(&mut judge, 2, false), 2);
        }
    }

    #[test]
    fn what_does_not_pay_is_tried_seldom() {
        let mut judge = Judge::default();
        let awake = wait(&mut judge, 100_000, false);
        assert!((20..=70).contains(&awake), "{awake}");
        // When it pays again, that is found out, and a later trial comes early again.
        assert!(wait(&mut judge, 10 * LONGEST, true) >= 9 * LONGEST);
        wait(&mut judge, MOST, false);
        assert!(wait(&mut judge, FIRST + 10, true) >= 10);
    }

    #[test]
    fn some_hits_do_not_pay() {
        let mut judge = Judge::default();
        let awake: u32 = (0..10_000).map(|at| wait(&mut judge, 1, at % 3 == 0)).sum();
        assert!(awake < 500, "{awake}");
    }

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
    fn without_a_period_only_a_single_request_is_waited_for_awake() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut busy = BusyPoll::new(None);
        busy.period = Duration::MAX;
        assert!(!busy.poll(2, &mut cx), "several requests");
        busy.heard();
        assert!(busy.poll(1, &mut cx));
        busy.period = Duration::ZERO;
        assert!(!busy.poll(1, &mut cx), "no reply in time");
        busy.heard();
        assert!(!busy.poll(1, &mut cx), "no reply in time");
        busy.heard();
        busy.period = Duration::MAX;
        assert!(!busy.poll(1, &mut cx), "two misses end a trial");
    }
}
