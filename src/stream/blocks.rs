//! The sizes that the requests of an export must heed.

use std::ops::Range;

use crate::error::Result;
use crate::request::Client;

/// What the requests of an export must heed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    /// The size of the export in bytes.
    pub(super) size: u64,
    /// The minimum block size: offset and length of requests are multiples of it.
    pub(super) minimum: u64,
    /// The preferred block size: requests end at multiples of it, if possible.
    pub(super) preferred: u64,
    /// The largest payload of one message.
    pub(super) most: u64,
}

impl Blocks {
    pub(super) fn of<C: Client>(client: &C) -> Result<Self> {
        let export = client.exported()?;
        let minimum = u64::from(export.alignment());
        Ok(Self {
            size: export.size(),
            minimum,
            preferred: minimum.max(export.preferred().into()),
            most: export.max_payload().into(),
        })
    }

    /// Returns the whole blocks around a range.
    pub(super) fn around(self, offset: u64, length: u64) -> Range<u64> {
        // P-114: offset and length are whole blocks. P-121: the export may end inside a block.
        let start = offset - offset % self.minimum;
        let end = offset.saturating_add(length);
        let end = end.checked_next_multiple_of(self.minimum);
        start..end.unwrap_or(u64::MAX).min(self.size).max(start)
    }

    /// Returns how many bytes a request has that is to have `wanted`.
    pub(super) fn request(self, wanted: u64) -> u64 {
        wanted.min(self.most).max(self.minimum)
    }

    /// Returns the length of the next request at `offset`, if it is to have `request` bytes and
    /// `left` bytes are left to read.
    pub(super) fn cut(self, offset: u64, request: u64, left: u64) -> u64 {
        let whole = self.request(request);
        let block = match self.preferred {
            preferred if preferred <= whole => preferred,
            _ => self.minimum,
        };
        let end = offset.saturating_add(whole);
        let length = match (end - end % block).saturating_sub(offset) {
            0 => whole,
            length => length,
        };
        length.min(left)
    }
}
