//! Random numbers that can be had again.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Random numbers, from a seed that is printed and can be given as `NBD_SEED`.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded() -> Self {
        let seed = std::env::var("NBD_SEED")
            .ok()
            .map(|seed| seed.parse().unwrap());
        let seed = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        println!("NBD_SEED={seed}");
        Self::new(seed)
    }

    /// Other numbers that follow from the same seed.
    pub(crate) const fn another(&mut self) -> Self {
        Self::new(self.below(u64::MAX))
    }

    const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) const fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
