//! Deadlines.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::task::{unconstrained, yield_now};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::driver::runtime;
use crate::error::InvalidUse;

/// Returns the end of a period that begins now; a period that is too long saturates to a time
/// decades away.
pub(crate) fn after(period: Duration) -> Instant {
    since(Instant::now(), period)
}

/// Returns the end of a period that began at `start`; a period that is too long saturates to a time
/// decades away.
pub(crate) fn since(start: Instant, period: Duration) -> Instant {
    const DECADES: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    start.checked_add(period).unwrap_or(start + DECADES)
}

/// How long the last look of every deadline takes. If this process was slow, the deadline is noticed
/// before the socket is checked, which may have held the answer all the time. The runtime checks its
/// sockets whenever a task yields.
const LOOK: Duration = Duration::from_millis(1);
/// How long the last look takes if the deadline is noticed so late that this process must have been
/// stopped, and its threads begin to run again one by one: as long as it is late, within these bounds.
const LONG_LOOK: Duration = Duration::from_millis(100);
const LONGEST_LOOK: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_millis(10);

/// Awaits `future` until `end`, and then takes a last look at it.
pub(crate) async fn until<T>(end: Instant, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut timer = Timer::new();
    timer.set_until(end);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if timer.poll_over(cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Repeated polls for what may have come before a deadline. They are measured by the real clock: on
/// a paused clock they take no time.
#[derive(Debug, Default)]
struct LastLook(Option<std::time::Instant>);

impl LastLook {
    /// Returns whether the last look is over. If not, the task is woken when the runtime has
    /// checked its sockets.
    fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> bool {
        let now = std::time::Instant::now();
        let period = || match Instant::now() - deadline {
            late if late > LATE => late.clamp(LONG_LOOK, LONGEST_LOOK),
            _ => LOOK,
        };
        if now >= *self.0.get_or_insert_with(|| now + period()) {
            return true;
        }
        let looked = pin!(yield_now());
        looked.poll(cx).is_ready()
    }
}

/// What needs a runtime.
const TIMEOUT: &str = "a timeout requires a Tokio runtime";

/// A sleep that moves along with the future that it is in. A sleep of Tokio belongs to the runtime
/// where it began, and panics when it is polled after the end of that.
#[derive(Debug)]
struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// The runtime to which the sleep belongs, or one that has no time.
    home: Option<Id>,
}

impl Alarm {
    fn new(sleep: Sleep) -> Self {
        Self {
            sleep: Box::pin(sleep),
            home: here(),
        }
    }

    /// Begins the sleep anew if it belongs to another runtime than this one. Where there is none, or
    /// its time is not enabled, the sleep stays as it is.
    fn move_here(&mut self) {
        let here = here();
        if here.is_none() || here == self.home {
            return;
        }
        self.home = here;
        let end = self.sleep.deadline();
        if let Ok(sleep) = runtime::check_time_with(TIMEOUT, || sleep_until(end)) {
            self.sleep.set(sleep);
        }
    }
}

/// Returns the current runtime, if there is one.
fn here() -> Option<Id> {
    Handle::try_current().ok().map(|handle| handle.id())
}

/// A deadline inside a hand-written future; costs nothing until it is set.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    alarm: Option<Alarm>,
    look: LastLook,
}

impl Timer {
    /// Creates a deadline that is not set.
    pub(crate) const fn new() -> Self {
        Self {
            alarm: None,
            look: LastLook(None),
        }
    }

    /// Sets the deadline to the end of `period`, on any thread.
    ///
    /// # Errors
    /// If there is no runtime whose time is enabled.
    pub(crate) fn start(&mut self, period: Duration) -> Result<(), InvalidUse> {
        let end = after(period);
        let sleep = runtime::check_time_with(TIMEOUT, || sleep_until(end))?;
        self.alarm = Some(Alarm::new(sleep));
        Ok(())
    }

    /// Sets the deadline to the end of `period`. Must be called where time is known to be enabled.
    pub(crate) fn set(&mut self, period: Duration) {
        self.set_until(after(period));
    }

    /// Sets the deadline to `end`.
    pub(crate) fn set_until(&mut self, end: Instant) {
        self.look = LastLook(None);
        match &mut self.alarm {
            Some(alarm) => alarm.sleep.as_mut().reset(end),
            None => self.alarm = Some(Alarm::new(sleep_until(end))),
        }
    }

    /// Clears the deadline.
    pub(crate) fn clear(&mut self) {
        self.alarm = None;
        self.look = LastLook(None);
    }

    /// Returns whether the deadline is set.
    pub(crate) const fn is_set(&self) -> bool {
        self.alarm.is_some()
    }

    /// Returns the deadline, if it is set.
    pub(crate) fn end(&self) -> Option<Instant> {
        self.alarm.as_ref().map(|alarm| alarm.sleep.deadline())
    }

    /// Returns whether the deadline has passed. If not, the task is woken when it has, also if it has
    /// used up its share of the runtime.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> bool {
        self.alarm.as_mut().is_some_and(|alarm| {
            alarm.move_here();
            pin!(unconstrained(&mut alarm.sleep)).poll(cx).is_ready()
        })
    }

    /// Returns whether the deadline has passed, without registering the task.
    pub(crate) fn is_expired(&self) -> bool {
        let alarm = self.alarm.as_ref();
        alarm.is_some_and(|alarm| alarm.sleep.is_elapsed())
    }

    /// Returns whether the deadline has passed and the last look is over. If not, the task is woken
    /// when that may be so.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_expired(cx) && self.poll_looked(cx)
    }

    /// Returns whether the last look is over, for a deadline that has passed. If not, the task is
    /// woken for it.
    pub(crate) fn poll_looked(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = self.end().unwrap_or_else(Instant::now);
        self.look.poll(deadline, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::coop;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_holds_that_begins_when_the_task_has_had_its_share() {
        let limit = Duration::from_secs(10);
        let (mut timer, start) = (Timer::new(), Instant::now());
        let over = poll_fn(|cx| {
            if timer.is_set() {
                assert!(timer.poll_expired(cx));
                return Poll::Ready(());
            }
            while coop::has_budget_remaining() {
                let _ = pin!(coop::consume_budget()).poll(cx);
            }
            timer.set(limit);
            assert!(!timer.poll_expired(cx));
            Poll::Pending
        });
        timeout(10 * limit, over).await.expect("nobody is woken");
        assert_eq!(start.elapsed(), limit);
    }
}
