//! What is on the disks: three regions, and a pattern that tells every place and time from others.

use std::sync::LazyLock;

use bytes::Bytes;

use crate::shape::LARGEST;

/// A region: what a request of the largest size needs, and a little more.
pub(crate) const REGION: u64 = LARGEST as u64 + 1;
/// What is only read. What is written is behind it.
pub(crate) const READ: u64 = 0;
/// What is written.
pub(crate) const WRITTEN: u64 = REGION;
/// What is zeroed and trimmed.
pub(crate) const ZEROED: u64 = 2 * REGION;
/// How large a disk is: no multiple of any block size but 512.
pub(crate) const DISK: u64 = (3 * REGION).next_multiple_of(512);

/// How far requests wander, if one is not longer than that.
const WINDOW: usize = 4 << 20;

/// The pattern comes again after so many bytes, a prime number.
const PERIOD: usize = 1_048_573;
/// How much further each generation of content is into the pattern.
const SHIFT: u64 = 104_729;

static PATTERN: LazyLock<Bytes> = LazyLock::new(|| {
    let next = |word: &u64| Some(word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1));
    let words = std::iter::successors(Some(1_u64), next);
    let period: Vec<_> = words.take(PERIOD).map(|word| (word >> 56) as u8).collect();
    let mut bytes = period.repeat((PERIOD + LARGEST).div_ceil(PERIOD));
    bytes.truncate(PERIOD + LARGEST);
    bytes.into()
});

/// What belongs there in that generation; it is shared, not copied.
pub(crate) fn content(generation: u64, offset: u64, length: usize) -> Bytes {
    let start = (offset + generation * SHIFT) % PERIOD as u64;
    let start = start as usize;
    PATTERN.slice(start..start + length)
}

/// Where in its region the request of this number goes.
pub(crate) const fn place(number: u64, size: usize) -> u64 {
    let slots = match WINDOW / size {
        0 => 1,
        slots => slots as u64,
    };
    number % slots * size as u64
}

/// How much of a region requests of this size may touch.
pub(crate) fn reach(size: usize) -> u64 {
    size.max(WINDOW) as u64
}
