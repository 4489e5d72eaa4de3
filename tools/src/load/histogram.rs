//! Latencies in buckets, 32 for each power of two nanoseconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const STEPS: u64 = 32;
const BUCKETS: usize = bucket(u64::MAX) + 1;

/// One for all workers: thousands of their own would fill the cache that is to be measured.
pub(crate) struct Histogram(Box<[AtomicU64]>);

impl Histogram {
    pub(crate) fn new() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }

    pub(crate) fn add(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.0[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests there were.
    pub(crate) fn count(&self) -> u64 {
        self.0
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// The latency that this part of all requests stayed below, in microseconds; 0 if there were
    /// none.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let rank = (self.count() as f64 * part).ceil() as u64;
        let mut seen = 0;
        let found = self.0.iter().position(|count| {
            seen += count.load(Ordering::Relaxed);
            seen >= rank
        });
        upper(found.unwrap_or(0)) as f64 / 1000.0
    }
}

const fn bucket(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let power = (nanos.ilog2() - STEPS.ilog2()) as u64;
    (power * STEPS + (nanos >> power)) as usize
}

const fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let power = bucket / STEPS - 1;
    // In this order the last bucket does not overflow.
    ((bucket - power * STEPS) << power) + ((1 << power) - 1)
}
