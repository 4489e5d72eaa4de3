//! Looking for a reply again and again instead of sleeping until it is announced.

use std::future::Future;
use std::pin::pin;
use std::task::Context;
use std::time::{Duration, Instant};

/// How long to look where nobody has said how long. Falling asleep and being woken takes about as
/// long, and the server, which sleeps as well while nobody asks for anything, is kept awake.
const PERIOD: Duration = Duration::from_micros(50);
/// After so many waits in a row that were longer than that, only one in `RETRY` is begun awake.
const TRIES: u32 = 8;
const RETRY: u32 = 64;

/// How the driver of one connection waits: awake for a while, and then asleep.
///
/// Between two looks the runtime looks after sockets, and the other tasks have their turn.
#[derive(Debug)]
pub(super) struct BusyPoll {
    period: Duration,
    /// Only as long as it pays.
    thrifty: bool,
    wait: Wait,
    /// Waits that were begun awake since one ended awake.
    tries: u32,
}

#[derive(Clone, Copy, Debug)]
enum Wait {
    No,
    /// Awake, until then; without an end if it cannot be counted.
    Awake(Option<Instant>),
    Asleep,
}

impl BusyPoll {
    /// Waits that begin with `period` awake, or with what pays.
    pub(super) fn new(period: Option<Duration>) -> Self {
        Self {
            period: period.unwrap_or(PERIOD),
            thrifty: period.is_none(),
            wait: Wait::No,
            tries: 0,
        }
    }

    /// What was waited for has come.
    pub(super) const fn end(&mut self) {
        if let Wait::Awake(_) = self.wait {
            self.tries = 0;
        }
        self.wait = Wait::No;
    }

    /// There is something new to wait for.
    pub(super) const fn restart(&mut self) {
        self.wait = Wait::No;
    }

    /// About to wait: says whether to look again instead of sleeping. Then the task is woken as
    /// soon as everybody else has had a turn.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if let Wait::No = self.wait {
            self.wait = self.begin();
        }
        match self.wait {
            Wait::Awake(None) => {}
            Wait::Awake(Some(end)) if Instant::now() < end => {}
            _ => {
                self.wait = Wait::Asleep;
                return false;
            }
        }
        let again = pin!(tokio::task::yield_now());
        again.poll(cx).is_pending()
    }

    fn begin(&mut self) -> Wait {
        self.tries = self.tries.wrapping_add(1);
        let pays = self.tries <= TRIES || self.tries % RETRY == 0;
        if self.period.is_zero() || self.thrifty && !pays {
            return Wait::Asleep;
        }
        Wait::Awake(Instant::now().checked_add(self.period))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Begins a wait that ends as it began: says whether that was awake.
    fn wait(busy: &mut BusyPoll, comes: bool) -> bool {
        busy.wait = busy.begin();
        let awake = matches!(busy.wait, Wait::Awake(_));
        if !comes {
            busy.wait = Wait::Asleep;
        }
        busy.end();
        awake
    }

    #[test]
    fn what_does_not_pay_is_tried_now_and_then() {
        let mut busy = BusyPoll::new(None);
        for _ in 0..3 * TRIES {
            assert!(wait(&mut busy, true));
        }
        for _ in 0..TRIES {
            assert!(wait(&mut busy, false));
        }
        for _ in TRIES + 1..RETRY {
            assert!(!wait(&mut busy, true));
        }
        assert!(wait(&mut busy, true), "a retry");
        assert!(wait(&mut busy, true), "it paid");
    }

    #[test]
    fn a_period_that_was_asked_for_is_kept() {
        let mut busy = BusyPoll::new(Some(Duration::from_secs(1)));
        let mut never = BusyPoll::new(Some(Duration::ZERO));
        for _ in 0..2 * RETRY {
            assert!(wait(&mut busy, false));
            assert!(!wait(&mut never, true));
        }
    }

    #[test]
    fn a_wait_is_awake_and_then_asleep() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut busy = BusyPoll::new(Some(Duration::MAX));
        assert!(busy.poll(&mut cx) && busy.poll(&mut cx));
        let mut busy = BusyPoll::new(None);
        while busy.poll(&mut cx) {}
        assert!(!busy.poll(&mut cx), "no second time");
        busy.restart();
        busy.poll(&mut cx);
        assert_eq!(busy.tries, 2);
    }
}
