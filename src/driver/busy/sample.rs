//! The processor time that some waits take.

use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::platform;

/// So many waits at the beginning of a sample are not measured: a server that has slept between the
/// requests of a client that sleeps needs some to keep pace with one that does not.
pub(super) const WARM_UP: u32 = 16;
/// Waits in another way may take more processor time than waits asleep, by one part in so many.
const ALLOWANCE: u128 = 8;

/// The end of a wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) thread: ThreadId,
    /// The processor time that the thread has taken.
    pub(super) spent: Duration,
    pub(super) at: Instant,
    /// The last time at which another driver polled on this thread.
    pub(super) others: Option<Instant>,
}

impl Moment {
    /// Returns this moment, if the system knows the processor time of a thread.
    pub(super) fn now(others: Option<Instant>) -> Option<Self> {
        Some(Self {
            thread: thread::current().id(),
            spent: platform::thread_time()?,
            at: Instant::now(),
            others,
        })
    }
}

/// The processor time of some waits, and the progress between them.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// The waits of the warm-up and those that were measured.
    pub(super) waits: u32,
    /// Waits awake that went on asleep, and what could not be measured.
    pub(super) misses: u32,
    /// Whether a wait has begun since the last interruption.
    pub(super) has_begun: bool,
    /// The thread on which the present wait began, if it is awake.
    pub(super) began_on: Option<ThreadId>,
    /// The end of the last wait, and the progress before it.
    pub(super) last: Option<(Moment, u64)>,
    /// The processor time, and how long it took.
    spent: Duration,
    took: Duration,
    pub(super) progress: u64,
}

impl Sample {
    /// Measures what has happened since the end of the last wait, unless the present one belongs to the
    /// warm-up.
    pub(super) fn add(&mut self, progress: u64, now: impl FnOnce() -> Option<Moment>) {
        if self.waits < WARM_UP {
            self.waits += 1;
            return;
        }
        let Some(now) = now() else { return };
        let Some((last, before)) = self.last.replace((now, progress)) else {
            return;
        };
        let has_moved =
            last.thread != now.thread || self.began_on.is_some_and(|on| on != now.thread);
        if has_moved || now.others.is_some_and(|at| at >= last.at) {
            self.misses = self.misses.saturating_add(1);
            return;
        }
        self.waits += 1;
        self.spent += now.spent.saturating_sub(last.spent);
        self.took += now.at.saturating_duration_since(last.at);
        self.progress += progress.saturating_sub(before);
    }

    /// Returns whether so much more processor time was spent than by waits `asleep` that another way
    /// does not pay.
    pub(super) fn exceeds(&self, asleep: &Self) -> bool {
        let [done, whole] = [self.progress, asleep.progress].map(u128::from);
        let [spent, allowed] = [self.spent, asleep.spent].map(|spent| spent.as_nanos());
        spent * whole * ALLOWANCE > allowed * (done * ALLOWANCE + whole)
    }

    /// Returns whether as much was done as by waits `asleep`, for hardly more processor time.
    pub(super) fn pays(&self, asleep: &Self) -> bool {
        self.progress > 0 && self.progress >= asleep.progress && !self.exceeds(asleep)
    }

    /// Returns what the same progress costs in this way. Processor time counts more: half of it is worth
    /// four times the time.
    pub(super) fn cost(&self) -> f64 {
        let [spent, took] = [self.spent, self.took].map(|time| time.as_secs_f64());
        spent * spent * took / (self.progress as f64).powi(3)
    }
}
