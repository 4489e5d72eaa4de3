//! Random numbers that come again.

/// SplitMix64: small, fast, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    /// Starts from `NBD_SEED` if that is set, and prints where it started.
    pub(crate) fn new(default: u64) -> Self {
        let seed = std::env::var("NBD_SEED").map_or(default, |seed| {
            seed.parse().expect("NBD_SEED must be a number")
        });
        println!("NBD_SEED={seed}");
        Self(seed)
    }

    /// Another sequence, for another task.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number less than `limit`.
    pub(crate) const fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Bytes that are nowhere zero, so that holes show.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next() | 0x0101_0101_0101_0101);
        let mut bytes: Vec<u8> = words
            .take(length.div_ceil(8))
            .flat_map(u64::to_be_bytes)
            .collect();
        bytes.truncate(length);
        bytes
    }
}
