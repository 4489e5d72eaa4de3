//! The processor time that some waits take.

use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::platform;

/// The clocks are read once in so many waits: reading them takes time, too, and that can decide whether
/// the server keeps pace with a client that does not sleep. What comes before the first time is not
/// measured.
pub(super) const STRIDE: u32 = 16;

/// Waits in another way may take more processor time than waits asleep, by this share.
const ALLOWANCE: f64 = 0.125;

/// The end of a wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
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
            spent: platform::thread_time()?,
            at: Instant::now(),
            others,
        })
    }
}

/// The processor time of some waits, and the progress between them.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// The waits that have ended on the thread on which they began.
    waits: u32,
    /// Those that were measured.
    pub(super) measured: u32,
    /// Waits awake that went on asleep, and waits that could not be measured.
    pub(super) misses: u32,
    /// Whether a wait has begun since the last interruption.
    pub(super) has_begun: bool,
    /// The thread on which the last wait ended or, if it is awake, the present one began.
    on: Option<ThreadId>,
    /// When the clocks were last read, and the progress before that.
    pub(super) last: Option<(Moment, u64)>,
    /// The processor time, and how long it took.
    spent: Duration,
    took: Duration,
    pub(super) progress: u64,
}

impl Sample {
    /// Notes the thread on which a wait begins or ends. Returns whether the last one was the same: each
    /// has its own clock.
    pub(super) fn be_on(&mut self, thread: ThreadId) -> bool {
        let is_same = self
            .on
            .replace(thread)
            .is_none_or(|before| before == thread);
        if !is_same {
            self.last = None;
            self.misses = self.misses.saturating_add(1);
        }
        is_same
    }

    /// Counts the end of a wait. Once in [`STRIDE`] waits, measures what has happened since it was last
    /// measured.
    pub(super) fn add(&mut self, progress: u64, now: impl FnOnce() -> Option<Moment>) {
        if !self.be_on(thread::current().id()) {
            return;
        }
        self.waits = self.waits.saturating_add(1);
        if self.waits % STRIDE != 0 {
            return;
        }
        let Some(now) = now() else { return };
        let Some((last, before)) = self.last.replace((now, progress)) else {
            return;
        };
        if now.others.is_some_and(|at| at >= last.at) {
            self.misses = self.misses.saturating_add(1);
            return;
        }
        self.measured += STRIDE;
        self.spent += now.spent.saturating_sub(last.spent);
        self.took += now.at.saturating_duration_since(last.at);
        self.progress += progress.saturating_sub(before);
    }

    /// Returns whether so much more processor time was spent than by waits `asleep` that another way
    /// does not pay, if it is measured for `size` times as much progress.
    pub(super) fn exceeds(&self, asleep: &Self, size: u32) -> bool {
        let spent = self.spent.as_secs_f64() / asleep.spent.as_secs_f64();
        let done = self.progress as f64 / asleep.progress as f64;
        spent > done + ALLOWANCE * f64::from(size)
    }

    /// Returns whether `size` times as much was done as by waits `asleep`.
    pub(super) fn is_done(&self, asleep: &Self, size: u32) -> bool {
        self.progress >= asleep.progress.saturating_mul(size.into())
    }

    /// Returns whether that much was done for hardly more processor time than by waits `asleep`.
    pub(super) fn pays(&self, asleep: &Self, size: u32) -> bool {
        self.progress > 0 && self.is_done(asleep, size) && !self.exceeds(asleep, size)
    }

    /// Returns what the same progress costs in this way. Processor time counts more: half of it is worth
    /// four times the time.
    pub(super) fn cost(&self) -> f64 {
        let [spent, took] = [self.spent, self.took].map(|time| time.as_secs_f64());
        spent * spent * took / (self.progress as f64).powi(3)
    }
}
