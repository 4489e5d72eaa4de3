//! Waits for replies in the way that pays.

mod judge;
mod sample;

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::Context;
use std::time::{Duration, Instant};

use judge::{Judge, Way};
use sample::Moment;

use crate::transport::Rouse;

/// The longest wait that is spent awake without being asked for: about twice what falling asleep and
/// being woken takes, the server's part included.
const LONGEST: Duration = Duration::from_micros(50);
/// The most requests whose replies are waited for awake without being asked for. To more of them,
/// sleeping lets several replies come at once.
const FEW: usize = 4;
/// To take a message takes about as long as to receive so many bytes.
const MESSAGE: u64 = 16 << 10;

thread_local! {
    /// The last time at which a driver polled on this thread instead of sleeping.
    static POLLED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The way the driver of one connection waits: asleep, roused, or awake for a while and then asleep.
///
/// Between two polls, the runtime checks its sockets and runs other tasks. Unless the caller has set a
/// period, only replies to a few requests are waited for awake or roused, and only while the [`Judge`]
/// finds that this takes hardly more processor time than to sleep. While one driver of a thread is
/// awake, the others sleep: the runtime checks their sockets, too.
#[derive(Debug)]
pub(super) struct BusyPoll {
    period: Duration,
    /// Judges how to wait, unless the caller has set the period.
    judge: Option<Judge>,
    rouse: Option<Rouse>,
    wait: Wait,
    /// The last time at which this driver polled instead of sleeping.
    polled: Option<Instant>,
    /// How many bytes and messages have come.
    bytes: u64,
    messages: u64,
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
    /// Creates a waiter that polls for `period`, or, with `None`, waits in the way that pays.
    pub(super) fn new(period: Option<Duration>, rouse: Option<Rouse>) -> Self {
        Self {
            period: period.unwrap_or(LONGEST),
            judge: period.is_none().then(|| Judge::new(rouse.is_some())),
            rouse,
            wait: Wait::No,
            polled: None,
            bytes: 0,
            messages: 0,
        }
    }

    /// Ends the wait: something was sent.
    pub(super) const fn end(&mut self) {
        self.wait = Wait::No;
    }

    /// Ends the wait: so many bytes have come.
    pub(super) fn heard(&mut self, bytes: usize) {
        // They are taken in after the wait.
        let progress = self
            .bytes
            .saturating_add(self.messages.saturating_mul(MESSAGE));
        let others = self.others();
        if let (Wait::Awake(_) | Wait::Asleep, Some(judge)) = (self.wait, &mut self.judge) {
            judge.hit(progress, || Moment::now(others));
        }
        self.bytes = self.bytes.saturating_add(bytes as u64);
        self.wait = Wait::No;
    }

    /// Notes how many messages have come since the connection began.
    pub(super) const fn set_messages(&mut self, messages: u64) {
        self.messages = messages;
    }

    /// Returns the last time at which another driver polled on this thread.
    fn others(&self) -> Option<Instant> {
        POLLED.get().filter(|&at| Some(at) != self.polled)
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
        let now = Instant::now();
        if now.saturating_duration_since(since) < self.period {
            self.polled = Some(now);
            POLLED.set(self.polled);
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
        let others = self.others();
        let way = match &mut self.judge {
            Some(judge) => {
                judge.set_can_rouse(self.rouse.as_ref().is_some_and(Rouse::is_possible));
                let is_polled = others.is_some_and(|at| at.elapsed() < LONGEST);
                if requests == 0 || requests > FEW || is_polled {
                    judge.interrupt();
                    if requests > 0 {
                        judge.pause_rousing();
                        self.rouse(false);
                    }
                    return Wait::No;
                }
                judge.begin()
            }
            None if requests > 0 && !self.period.is_zero() => Way::Awake,
            None => Way::Asleep,
        };
        self.rouse(way == Way::Roused);
        match way {
            Way::Awake => Wait::Awake(Instant::now()),
            Way::Roused | Way::Asleep => Wait::Asleep,
        }
    }

    /// Has the stream rouse its thread no longer: the connection is idle. Returns whether it must be
    /// read or written for that.
    pub(super) fn rest(&self) -> bool {
        let was_roused = self.rouse.as_ref().is_some_and(Rouse::is_wanted);
        self.rouse(false);
        was_roused
    }

    fn rouse(&self, is_wanted: bool) {
        if let Some(rouse) = &self.rouse {
            rouse.set(is_wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_awake_and_then_asleep() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut busy = BusyPoll::new(Some(Duration::MAX), None);
        assert!(
            busy.poll(2, &mut cx) && busy.poll(2, &mut cx),
            "as long as was asked for"
        );
        busy.end();
        assert!(!busy.poll(0, &mut cx), "nothing to wait for");
        let mut never = BusyPoll::new(Some(Duration::ZERO), None);
        assert!(!never.poll(1, &mut cx));
        let mut busy = BusyPoll::new(Some(Duration::from_millis(1)), None);
        while busy.poll(1, &mut cx) {}
        assert!(!busy.poll(1, &mut cx), "no second time");
        busy.end();
        assert!(matches!(busy.wait, Wait::No), "the next wait begins awake");
    }

    /// Runs a test on a thread on which no driver has polled.
    fn alone(test: fn()) {
        std::thread::spawn(test).join().unwrap();
    }

    #[test]
    fn without_a_period_waits_for_a_few_requests_are_judged() {
        alone(waits_for_a_few_requests_are_judged);
    }

    fn waits_for_a_few_requests_are_judged() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut busy = BusyPoll::new(None, None);
        assert!(!busy.poll(FEW, &mut cx));
        assert!(
            matches!(busy.wait, Wait::Asleep),
            "as the judge says at first"
        );
        busy.heard(1);
        assert!(!busy.poll(FEW + 1, &mut cx));
        assert!(matches!(busy.wait, Wait::No), "not judged");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_is_roused_for_many_requests() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let rouse = Rouse::default();
        let mut busy = BusyPoll::new(None, Some(rouse.clone()));
        for requests in [FEW + 1, FEW] {
            rouse.set(true);
            assert!(!busy.poll(requests, &mut cx));
            assert!(!rouse.is_wanted(), "the judge does not say so, at first");
        }
    }

    #[test]
    fn one_driver_of_a_thread_is_awake() {
        alone(while_one_driver_is_awake_others_sleep);
    }

    fn while_one_driver_is_awake_others_sleep() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let (mut polling, mut other) = (
            BusyPoll::new(Some(Duration::MAX), None),
            BusyPoll::new(None, None),
        );
        assert!(!other.poll(1, &mut cx) && matches!(other.wait, Wait::Asleep));
        other.end();
        assert!(polling.poll(1, &mut cx) && polling.others().is_none());
        while other.others().is_some_and(|at| at.elapsed() >= LONGEST) {
            // This thread was stopped meanwhile.
            assert!(polling.poll(1, &mut cx));
        }
        assert!(!other.poll(1, &mut cx));
        let is_late = other.others().is_some_and(|at| at.elapsed() >= LONGEST);
        assert!(matches!(other.wait, Wait::No) || is_late, "not judged");
    }
}
