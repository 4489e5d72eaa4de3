//! What is to be done, for all workers together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Args;
use super::histogram::Histogram;

/// What all workers share.
pub(crate) struct Plan {
    /// Blocks of the size of one request.
    blocks: u64,
    /// Requests still to be made; `u64::MAX` if only time counts.
    left: AtomicU64,
    /// The next block of a sequential load.
    next: AtomicU64,
    time: Option<Duration>,
    over: Arc<AtomicBool>,
    latency: Option<Histogram>,
}

impl Plan {
    /// A plan for an export, or a part of it, of `size` bytes.
    pub(crate) fn new(args: &Args, size: u64) -> Self {
        Self {
            blocks: (size / args.bs as u64).max(1),
            left: AtomicU64::new(args.ops()),
            next: AtomicU64::new(0),
            time: args.time(),
            over: Arc::new(AtomicBool::new(false)),
            latency: (!args.no_latency).then(Histogram::new),
        }
    }

    /// Lets time run, if there is a limit.
    pub(crate) fn start(&self) {
        if let Some(time) = self.time {
            let over = self.over.clone();
            std::thread::spawn(move || {
                std::thread::sleep(time);
                over.store(true, Ordering::Relaxed);
            });
        }
    }

    pub(crate) fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Whether one more request is to be made.
    pub(crate) fn take(&self) -> bool {
        if self.is_over() {
            return false;
        }
        if self.left.load(Ordering::Relaxed) == u64::MAX {
            return true;
        }
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }

    /// The next block of a sequential load.
    pub(crate) fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) % self.blocks
    }

    /// Any block.
    pub(crate) fn any(&self, random: &mut Random) -> u64 {
        random.below(self.blocks)
    }

    /// A worker's clock, if latencies are wanted.
    pub(crate) fn clock(&self) -> Option<Instant> {
        self.latency.is_some().then(Instant::now)
    }

    /// A request is done: the next one begins now.
    pub(crate) fn note(&self, clock: &mut Option<Instant>) {
        if let (Some(latency), Some(begin)) = (&self.latency, clock) {
            let end = Instant::now();
            latency.add(end - *begin);
            *begin = end;
        }
    }

    pub(crate) const fn latency(&self) -> Option<&Histogram> {
        self.latency.as_ref()
    }
}

/// A small random number generator (splitmix64): load needs speed, not secrets.
pub(crate) struct Random(u64);

impl Random {
    /// Creates the generator of a seed. Those of seeds one after the other have nothing in common.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Self(seed).next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn workers_go_to_places_of_their_own() {
        let mut seen = HashSet::new();
        for worker in 0..64 {
            let mut random = Random::new(worker);
            assert!((0..1000).all(|_| seen.insert(random.next())), "{worker}");
        }
    }
}
