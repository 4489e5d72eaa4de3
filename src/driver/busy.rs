//! Polls for replies for a while before sleeping until data arrives.

use std::future::Future;
use std::pin::pin;
use std::task::Context;
use std::time::{Duration, Instant};

/// How long to poll if the caller has not set a period.
const PERIOD: Duration = Duration::from_micros(40);
/// The processor time that is saved by not falling asleep and being woken, in nanoseconds.
const SAVED: i64 = 8_000;
/// The bounds of the balance of savings and costs.
const MOST: i64 = 10 * SAVED;
const LEAST: i64 = -2 * SAVED;
/// While polling does not pay, one wait in this many begins awake.
const RETRY: u32 = 64;

/// The way the driver of one connection waits: awake for a while, and then asleep.
///
/// Between two polls, the runtime checks its sockets and runs other tasks. Unless the caller has
/// set a period, every wait that ended awake counts as a saving, and all time spent awake as a
/// cost; while the costs are higher, waits begin asleep.
#[derive(Debug)]
pub(super) struct BusyPoll {
    period: Duration,
    /// Whether to poll only as long as it pays.
    thrifty: bool,
    wait: Wait,
    /// Savings minus costs, in nanoseconds.
    balance: i64,
    /// The number of waits that began while polling did not pay.
    asleep: u32,
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
            period: period.unwrap_or(PERIOD),
            thrifty: period.is_none(),
            wait: Wait::No,
            balance: 0,
            asleep: 0,
        }
    }

    /// Ends the wait: data has come, or something was sent.
    pub(super) fn end(&mut self) {
        if let Wait::Awake(since) = self.wait {
            if self.thrifty {
                self.settle(since.elapsed(), SAVED);
            }
        }
        self.wait = Wait::No;
    }

    /// Returns whether to poll again instead of sleeping. If so, the task is woken as soon as the
    /// other tasks have had a turn.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if let Wait::No = self.wait {
            self.wait = self.begin();
        }
        let Wait::Awake(since) = self.wait else {
            return false;
        };
        let spent = since.elapsed();
        if spent >= self.period {
            self.settle(spent, 0);
            self.wait = Wait::Asleep;
            return false;
        }
        let again = pin!(tokio::task::yield_now());
        again.poll(cx).is_pending()
    }

    fn begin(&mut self) -> Wait {
        if self.thrifty && self.balance < 0 {
            self.asleep = self.asleep.wrapping_add(1);
            if self.asleep % RETRY != 0 {
                return Wait::Asleep;
            }
        }
        Wait::Awake(Instant::now())
    }

    fn settle(&mut self, spent: Duration, saved: i64) {
        let spent = i64::try_from(spent.as_nanos()).unwrap_or(i64::MAX);
        let balance = self.balance.saturating_add(saved).saturating_sub(spent);
        self.balance = balance.clamp(LEAST, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wait that ends awake after so many microseconds, or asleep after the whole period. Says
    /// whether it began awake.
    fn wait(busy: &mut BusyPoll, micros: u64) -> bool {
        let wait = busy.begin();
        let awake = matches!(wait, Wait::Awake(_));
        let spent = Duration::from_micros(micros).min(busy.period);
        let saved = if spent < busy.period { SAVED } else { 0 };
        if awake {
            busy.settle(spent, saved);
        }
        awake
    }

    #[test]
    fn what_does_not_pay_is_tried_now_and_then() {
        let mut busy = BusyPoll::new(None);
        for _ in 0..3 * RETRY {
            assert!(wait(&mut busy, 4), "less than what it saves");
        }
        // A server that takes longer than that, and one that takes much longer.
        for micros in [20, 1_000] {
            let awake = (0..10 * RETRY).filter(|_| wait(&mut busy, micros)).count();
            assert!((5..=60).contains(&awake), "{awake} at {micros} µs");
        }
        // When it pays again, that is found out.
        let mut waits = 0;
        while !(wait(&mut busy, 1) && wait(&mut busy, 1)) {
            waits += 1;
        }
        assert!(waits < 10 * RETRY, "{waits}");
        for _ in 0..RETRY {
            assert!(wait(&mut busy, 1));
        }
    }

    #[test]
    fn now_and_then_a_long_wait_does_no_harm() {
        let mut busy = BusyPoll::new(None);
        for _ in 0..100 {
            for _ in 0..20 {
                assert!(wait(&mut busy, 2));
            }
            assert!(wait(&mut busy, 1_000));
        }
    }

    #[test]
    fn a_wait_is_awake_and_then_asleep() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut busy = BusyPoll::new(Some(Duration::MAX));
        assert!(
            busy.poll(&mut cx) && busy.poll(&mut cx),
            "as long as was asked for"
        );
        let mut never = BusyPoll::new(Some(Duration::ZERO));
        assert!(!never.poll(&mut cx));
        let mut busy = BusyPoll::new(None);
        while busy.poll(&mut cx) {}
        assert!(!busy.poll(&mut cx), "no second time");
        assert!(busy.balance < 0, "it was for nothing");
        busy.end();
        assert!(!busy.poll(&mut cx), "it does not pay");
    }
}
