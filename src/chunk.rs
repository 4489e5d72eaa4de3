//! Pieces of an export: data or zeroes, or that a piece could not be read.

use std::fmt;

use bytes::Bytes;

use crate::wire::{Errno, Text};

/// A piece of an export: of the answer to a [structured read](crate::Connection::read_structured), or of a
/// [stream](crate::Connection::pieces).
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub enum Chunk {
    /// A piece that was sent as data.
    #[doc(alias = "LIBNBD_READ_DATA")]
    Data {
        /// The start of the piece, in bytes from the start of the export.
        offset: u64,
        /// The bytes of the piece.
        data: Bytes,
    },
    /// A piece that reads as zeroes, and was not sent as data.
    #[doc(alias = "LIBNBD_READ_HOLE")]
    Hole {
        /// The start of the piece, in bytes from the start of the export.
        offset: u64,
        /// The length of the piece in bytes.
        length: u64,
    },
    /// An error that the server reported in the answer to a
    /// [structured read](crate::Connection::read_structured).
    #[doc(alias = "LIBNBD_READ_ERROR")]
    Error {
        /// Where it failed, in bytes from the start of the export. If the server did not say where in
        /// the read that is, this is the start of the read.
        offset: u64,
        /// The error number as the server sent it, known or not.
        errno: Errno,
        /// The server's message, often empty. All messages of one answer together have no more bytes than
        /// the longest message may have; those that come later are left out.
        message: Text,
    },
}

impl Chunk {
    /// Returns the start of the piece, in bytes from the start of the export.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        match self {
            Self::Data { offset, .. } | Self::Hole { offset, .. } | Self::Error { offset, .. } => {
                *offset
            }
        }
    }

    /// Returns the length of the piece in bytes; 0 for an error.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Data { data, .. } => data.len() as u64,
            Self::Hole { length, .. } => *length,
            Self::Error { .. } => 0,
        }
    }
}

/// Prints offset and length, and never data.
impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Data { .. } => "Data",
            Self::Hole { .. } => "Hole",
            Self::Error {
                offset,
                errno,
                message,
            } => {
                return f
                    .debug_struct("Error")
                    .field("offset", offset)
                    .field("errno", errno)
                    .field("message", message)
                    .finish();
            }
        };
        f.debug_struct(name)
            .field("offset", &self.offset())
            .field("length", &self.length())
            .finish()
    }
}
