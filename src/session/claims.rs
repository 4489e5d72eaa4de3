//! The pieces of content that the reply to a read consists of.

use super::coverage::{Coverage, Refused};
use crate::limits::most_fragments;
use crate::wire::ProtocolError;

/// The range of a read, and the pieces of content that have come for it.
#[derive(Debug)]
pub struct Claims {
    offset: u64,
    length: u64,
    coverage: Coverage,
    any: bool,
}

impl Claims {
    /// Creates the empty record of a read of `length` bytes at `offset`.
    pub const fn new(offset: u64, length: u64) -> Self {
        Self {
            offset,
            length,
            coverage: Coverage::new(),
            any: false,
        }
    }

    /// Records a piece of content and returns its position, in bytes from the start of the read.
    ///
    /// # Errors
    /// If the piece lies outside the request, overlaps an earlier piece, or makes the read consist
    /// of too many fragments.
    pub fn claim(&mut self, offset: u64, length: u64) -> Result<usize, ProtocolError> {
        // P-160: inside the request, in checked arithmetic.
        let start = offset.checked_sub(self.offset);
        let range = start.and_then(|start| Some((start, start.checked_add(length)?)));
        let Some((start, end)) = range.filter(|(_, end)| *end <= self.length) else {
            return Err(ProtocolError::OutOfRange {
                offset,
                length,
                start: self.offset,
                size: self.length,
            });
        };
        // P-160: no overlap with earlier content.
        self.coverage
            .insert(start, end, || most_fragments(self.length))
            .map_err(|refused| match refused {
                Refused::Overlap => ProtocolError::Overlap { offset, length },
                Refused::Fragments => ProtocolError::TooFragmented,
            })?;
        self.any = true;
        usize::try_from(start).map_err(|_| ProtocolError::length("read", start))
    }

    /// Returns whether a piece was recorded.
    pub const fn any(&self) -> bool {
        self.any
    }

    /// Returns the length of the read, in bytes.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Checks that every byte has come.
    ///
    /// # Errors
    /// If some bytes have not come.
    pub fn check_complete(&self) -> Result<(), ProtocolError> {
        // P-162: without an error the content covers the whole request.
        let missing = self.length.saturating_sub(self.coverage.covered());
        if missing > 0 {
            return Err(ProtocolError::IncompleteRead {
                missing,
                length: self.length,
            });
        }
        Ok(())
    }
}
