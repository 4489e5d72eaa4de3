//! A deadline that may not be set.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::InvalidRequest;
use crate::runtime;

/// The end of a period that begins now; of one too long to count, a time that does not come.
pub(crate) fn after(period: Duration) -> Instant {
    since(Instant::now(), period)
}

/// The end of a period that began at `start`; of one too long to count, a time that does not come.
pub(crate) fn since(start: Instant, period: Duration) -> Instant {
    const DECADES: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    start.checked_add(period).unwrap_or(start + DECADES)
}

/// A deadline inside a hand-written future; costs nothing until it is set.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// A deadline that is not set.
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// Starts to count, wherever that may be.
    ///
    /// # Errors
    /// If deadlines do not work here.
    pub(crate) fn start(&mut self, period: Duration) -> Result<(), InvalidRequest> {
        let end = after(period);
        let why = "timeouts must be awaited inside one";
        let sleep = runtime::check_time_with(why, || sleep_until(end))?;
        self.0 = Some(Box::pin(sleep));
        Ok(())
    }

    /// Starts to count. Only where time is known to be enabled.
    pub(crate) fn set(&mut self, period: Duration) {
        self.set_until(after(period));
    }

    /// Counts to this time.
    pub(crate) fn set_until(&mut self, end: Instant) {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().reset(end),
            None => self.0 = Some(Box::pin(sleep_until(end))),
        }
    }

    /// Stops counting.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    /// Whether it counts.
    pub(crate) const fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the time is over; if not, the task is woken when it is.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> bool {
        self.0
            .as_mut()
            .is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready())
    }

    /// Whether the time is over, without asking to be woken (again).
    pub(crate) fn is_expired(&self) -> bool {
        self.0.as_ref().is_some_and(|sleep| sleep.is_elapsed())
    }
}
