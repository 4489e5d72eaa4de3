//! The part of an export that a cursor covers, and its positions.

use std::io;
use std::ops::{Bound, Range, RangeBounds};

use crate::error::{InvalidRequest, Result};
use crate::request::in_order;
use crate::wire::Command;

/// A part of an export whose size is not known yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// In bytes from the start of the export.
    start: u64,
    /// The end, if it is not that of the export.
    end: Option<u64>,
    /// Whether a part of a part would reach beyond the latter.
    is_outside: bool,
}

impl Part {
    pub(super) const fn whole() -> Self {
        Self {
            start: 0,
            end: None,
            is_outside: false,
        }
    }

    /// Returns a part of this one.
    pub(super) fn narrow(self, range: &impl RangeBounds<u64>) -> Self {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => Some(last.saturating_add(1)),
            Bound::Excluded(&end) => Some(end),
            Bound::Unbounded => None,
        };
        let start = start.saturating_add(self.start);
        let end = end.map(|end| end.saturating_add(self.start)).or(self.end);
        let reaches = |limit| start > limit || end.is_some_and(|end| end > limit);
        let is_in_order = self.end.is_none_or(|end| self.start <= end);
        Self {
            start,
            end,
            is_outside: self.is_outside || is_in_order && self.end.is_some_and(reaches),
        }
    }

    /// Returns the range in an export of `size` bytes.
    pub(super) fn resolve(self, size: u64, command: Command) -> Result<Range<u64>> {
        let end = self.end.unwrap_or(size);
        if self.is_outside {
            return Err(InvalidRequest::Argument {
                what: "range",
                why: "it is not inside the range that the cursor covered before".into(),
            }
            .into());
        }
        if self.start > size || end > size {
            return Err(InvalidRequest::OutOfBounds {
                command,
                offset: self.start,
                length: end.saturating_sub(self.start),
                size,
            }
            .into());
        }
        Ok(in_order(self.start..end)?)
    }
}

/// Returns the position to which a seek leads. It may lie beyond the end.
pub(super) fn target(
    to: io::SeekFrom,
    position: u64,
    size: impl FnOnce() -> io::Result<u64>,
) -> io::Result<u64> {
    let (base, distance) = match to {
        io::SeekFrom::Start(position) => return Ok(position),
        io::SeekFrom::Current(distance) => (position, distance),
        io::SeekFrom::End(distance) => (size()?, distance),
    };
    base.checked_add_signed(distance).ok_or_else(|| {
        let why = format!("cannot seek by {distance} bytes from position {base}");
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })
}
