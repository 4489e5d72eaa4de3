//! Counts the bytes that are allocated.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ALLOCATOR;

pub(crate) const KIB: usize = 1 << 10;
pub(crate) const MIB: usize = 1 << 20;
/// What a connection may take beyond what its user asked for.
pub(crate) const SLACK: usize = 256 * KIB;

static TURN: Mutex<()> = Mutex::new(());

/// The turn of one test: to be taken before anything else, since what others allocate is counted.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    // The failure of one test is none of another.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts from the moment it is made.
pub(crate) struct Meter {
    baseline: usize,
}

impl Meter {
    pub(crate) fn start() -> Self {
        ALLOCATOR.reset_peak_usage();
        Self {
            baseline: ALLOCATOR.current_usage(),
        }
    }

    /// The most bytes there have been at any time.
    pub(crate) fn peak(&self) -> usize {
        ALLOCATOR.peak_usage().saturating_sub(self.baseline)
    }

    /// The bytes there are now.
    pub(crate) fn now(&self) -> usize {
        ALLOCATOR.current_usage().saturating_sub(self.baseline)
    }

    #[track_caller]
    pub(crate) fn assert_peak(&self, most: usize) {
        let peak = self.peak();
        println!("{} of {} KiB", peak / KIB, most / KIB);
        assert!(peak <= most, "{peak} bytes are more than {most}");
    }
}
