//! Ranges of the export.

use crate::error::FailedRequest;
use crate::wire::Command;

/// A range of the export: offset and length in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Range {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Range {
    /// Returns the range from `start` to `end`.
    pub(super) const fn between(start: u64, end: u64) -> Self {
        Self {
            offset: start,
            length: end.saturating_sub(start),
        }
    }

    /// Names the request of a command for this range in errors.
    pub(super) const fn of(self, command: Command) -> FailedRequest {
        FailedRequest {
            command,
            offset: self.offset,
            length: self.length,
        }
    }

    /// Returns the end, in bytes from the start of the export.
    pub(super) const fn end(self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

/// Returns a length as a size in memory. What is in memory already has such a length.
pub(super) fn bytes(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
