//! Pieces of a read as the server sends them.

use std::fmt;

use bytes::Bytes;

/// A piece of the answer to a structured read.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub enum Chunk {
    /// Data.
    Data {
        /// Where it belongs, in bytes from the start of the export.
        offset: u64,
        /// The bytes.
        data: Bytes,
    },
    /// Zeroes that were not sent as data.
    Hole {
        /// Where they begin, in bytes from the start of the export.
        offset: u64,
        /// How many there are, in bytes.
        length: u64,
    },
}

impl Chunk {
    /// Where the piece begins, in bytes from the start of the export.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        match self {
            Self::Data { offset, .. } | Self::Hole { offset, .. } => *offset,
        }
    }

    /// How long the piece is, in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Data { data, .. } => data.len() as u64,
            Self::Hole { length, .. } => *length,
        }
    }
}

/// Prints lengths, never data.
impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Data { .. } => "Data",
            Self::Hole { .. } => "Hole",
        };
        f.debug_struct(name)
            .field("offset", &self.offset())
            .field("length", &self.length())
            .finish()
    }
}
