//! Latencies, counted rather than kept.

use std::collections::BTreeMap;
use std::time::Duration;

/// How many bits of a latency count: it is rounded up by at most 1/32.
const BITS: u32 = 5;

/// How often each latency was seen: in nanoseconds, rounded.
#[derive(Clone, Debug, Default)]
pub struct Latencies(BTreeMap<u64, u64>);

impl Latencies {
    /// Counts one.
    pub fn add(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let shift = nanos.max(1).ilog2().saturating_sub(BITS);
        let rounded = nanos.div_ceil(1 << shift) << shift;
        *self.0.entry(rounded).or_default() += 1;
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        for (&nanos, count) in &other.0 {
            *self.0.entry(nanos).or_default() += count;
        }
    }

    /// The latency that so many of a thousand did not exceed; zero if there is none.
    pub fn per_mille(&self, share: u64) -> Duration {
        let total: u64 = self.0.values().sum();
        let mut left = (total * share).div_ceil(1000);
        for (&nanos, &count) in &self.0 {
            if left <= count {
                return Duration::from_nanos(nanos);
            }
            left -= count;
        }
        Duration::ZERO
    }
}
