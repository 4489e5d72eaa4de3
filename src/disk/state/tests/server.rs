//! A server that carries out late what was given up, and may crash.

use std::ops::Range;

use super::SIZE;
use crate::disk::state::Content;

/// Random numbers (SplitMix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    pub(super) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    pub(super) fn range(&mut self) -> Range<u64> {
        let start = self.below(SIZE);
        let end = start + 1 + self.below(SIZE - start);
        start as u64..end as u64
    }
}

/// A set of byte values below 8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Values(u8);

impl Values {
    pub(super) const ANY: Self = Self(u8::MAX);

    pub(super) const fn one(value: u8) -> Self {
        Self(1 << value)
    }

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn has(self, value: u8) -> bool {
        self.0 & (1 << value) != 0
    }
}

pub(super) fn values(content: &Content, range: &Range<u64>, byte: u64) -> Values {
    match content {
        Content::Data(data) => Values::one(data[(byte - range.start) as usize]),
        Content::Zeroes => Values::one(0),
        Content::Unknown => Values::ANY,
    }
}

/// A change on its way.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) range: Range<u64>,
    pub(super) content: Content,
    pub(super) generation: u64,
    pub(super) fua: bool,
    /// Which change it is; none writes the journal again.
    pub(super) change: Option<usize>,
}

/// The export, and what its server has not carried out yet.
pub(super) struct Server {
    pub(super) bytes: [u8; SIZE],
    /// What each byte has been since it was last durable, and since the flush was sent.
    pub(super) past: [Values; SIZE],
    pub(super) since: [Values; SIZE],
    /// Changes of lost links, each with the number of ghosts up to it.
    pub(super) ghosts: Vec<(Message, u64)>,
}

impl Server {
    pub(super) fn carry_out(&mut self, message: &Message, part: &Range<u64>, random: &mut Random) {
        let from = message.range.start.max(part.start);
        for byte in from..message.range.end.min(part.end) {
            let value = match &message.content {
                Content::Data(data) => data[(byte - message.range.start) as usize],
                Content::Zeroes => 0,
                Content::Unknown => random.below(4) as u8,
            };
            self.bytes[byte as usize] = value;
            for past in [&mut self.past, &mut self.since] {
                let past = &mut past[byte as usize];
                *past = past.with(Values::one(value));
            }
        }
    }

    /// The server is killed: what was not durable may be lost.
    pub(super) fn crash(&mut self, random: &mut Random) {
        for (byte, past) in self.bytes.iter_mut().zip(&self.past) {
            if random.chance(2) {
                *byte = loop {
                    let value = random.below(8) as u8;
                    if past.has(value) {
                        break value;
                    }
                };
            }
        }
    }
}
