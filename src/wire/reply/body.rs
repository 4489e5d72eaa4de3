//! What follows the head of a chunk.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::chunk_name;
use crate::wire::error::ProtocolError;
use crate::wire::num::{ChunkType, Errno};
use crate::wire::text::{MAX_STRING, Text};

/// The body of an `OFFSET_HOLE` chunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hole {
    /// Where the zeroes begin, in bytes from the start of the export.
    pub offset: u64,
    /// How many, in bytes; never zero.
    pub length: u32,
}

impl Hole {
    /// Reads the body.
    ///
    /// # Errors
    /// If it is not 12 bytes or the hole is empty.
    pub fn decode(mut body: &[u8]) -> Result<Self, ProtocolError> {
        let malformed = ProtocolError::length("chunk OFFSET_HOLE", body.len() as u64);
        let (Ok(offset), Ok(length)) = (body.try_get_u64(), body.try_get_u32()) else {
            return Err(malformed);
        };
        // P-160: a hole has a size.
        if length == 0 {
            return Err(ProtocolError::length("hole", 0));
        }
        if body.is_empty() {
            Ok(Self { offset, length })
        } else {
            Err(malformed)
        }
    }
}

/// The body of an error chunk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ErrorChunk {
    /// The error; never zero.
    pub error: Errno,
    /// The server's message, often empty.
    pub message: Text,
    /// Where it failed, in bytes from the start of the export; `ERROR_OFFSET` only.
    pub offset: Option<u64>,
}

impl ErrorChunk {
    /// Reads the body of an error chunk of any type.
    ///
    /// # Errors
    /// If the error is zero or the message does not fit.
    pub fn decode(chunk: ChunkType, body: &[u8]) -> Result<Self, ProtocolError> {
        let malformed = || ProtocolError::length(chunk_name(chunk), body.len() as u64);
        let mut rest = body;
        let (Ok(error), Ok(length)) = (rest.try_get_u32(), rest.try_get_u16()) else {
            return Err(malformed());
        };
        // P-158, P-159: the message fits its chunk, whatever the type.
        let Some((message, mut rest)) = rest.split_at_checked(length.into()) else {
            return Err(malformed());
        };
        if message.len() > MAX_STRING {
            return Err(ProtocolError::length("error message", length.into()));
        }
        // P-159: an error has a number and a fitting message.
        if error == 0 {
            return Err(ProtocolError::NoError);
        }
        let offset = match chunk {
            ChunkType::ERROR_OFFSET => Some(rest.try_get_u64().map_err(|_| malformed())?),
            _ => None,
        };
        // What follows is skipped: "no more than header length" is all that the protocol says of
        // the message.
        Ok(Self {
            error: Errno(error),
            message: Text::from_bytes(message),
            offset,
        })
    }
}

/// The body of a status chunk: an id and its extents as (length, flags).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StatusChunk {
    /// The id of the metadata context.
    pub context: u32,
    /// Consecutive extents: length in bytes, flags.
    pub extents: Vec<(u64, u64)>,
}

impl StatusChunk {
    /// Reads the body of a `BLOCK_STATUS` chunk, or of a `BLOCK_STATUS_EXT` one if `extended`.
    ///
    /// # Errors
    /// If the body has not the form of its type or an extent is empty.
    pub fn decode(extended: bool, body: &[u8]) -> Result<Self, ProtocolError> {
        let (context, extents) = StatusExtents::decode(extended, body)?;
        let extents = extents.collect::<Result<_, _>>()?;
        Ok(Self { context, extents })
    }
}

/// The extents of a status chunk, read one by one as they are taken.
#[derive(Clone, Debug)]
pub struct StatusExtents<'a> {
    extended: bool,
    /// A whole number of extents.
    body: &'a [u8],
}

impl<'a> StatusExtents<'a> {
    /// Reads the id of the metadata context and what is before the extents.
    ///
    /// # Errors
    /// If the body has not the form of its type.
    pub fn decode(extended: bool, mut body: &'a [u8]) -> Result<(u32, Self), ProtocolError> {
        let length = body.len() as u64;
        let malformed = |_| ProtocolError::length("status chunk", length);
        let context = body.try_get_u32().map_err(malformed)?;
        if extended {
            let count = body.try_get_u32().map_err(malformed)?;
            // the count agrees with the length.
            if u64::from(count) * 16 != body.len() as u64 {
                return Err(ProtocolError::Extents(
                    "count of extents contradicts chunk length",
                ));
            }
        }
        // P-168: at least one extent, and nothing left over.
        let extents = Self { extended, body };
        if body.is_empty() || body.len() % extents.size() != 0 {
            return Err(ProtocolError::length("status chunk", length));
        }
        Ok((context, extents))
    }

    const fn size(&self) -> usize {
        if self.extended { 16 } else { 8 }
    }
}

impl Iterator for StatusExtents<'_> {
    /// Length in bytes, flags.
    type Item = Result<(u64, u64), ProtocolError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (length, flags) = if self.extended {
            (self.body.try_get_u64().ok()?, self.body.try_get_u64().ok()?)
        } else {
            let length = self.body.try_get_u32().ok()?;
            (length.into(), self.body.try_get_u32().ok()?.into())
        };
        // P-168: a status is whole extents, at least one.
        if length == 0 {
            return Some(Err(ProtocolError::Extents("extent of 0 bytes")));
        }
        Some(Ok((length, flags)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.body.len() / self.size();
        (left, Some(left))
    }
}

impl ExactSizeIterator for StatusExtents<'_> {}

/// The body of an `OFFSET_DATA` chunk.
#[must_use]
pub fn data_body(offset: u64, data: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(8 + data.len());
    body.put_u64(offset);
    body.put_slice(data);
    body.freeze()
}

/// The body of an `OFFSET_HOLE` chunk.
#[must_use]
pub fn hole_body(hole: Hole) -> Bytes {
    let mut body = BytesMut::with_capacity(12);
    body.put_u64(hole.offset);
    body.put_u32(hole.length);
    body.freeze()
}

/// The body of an `ERROR` chunk, or of an `ERROR_OFFSET` one if `offset` is given.
#[must_use]
pub fn error_body(error: Errno, message: &str, offset: Option<u64>) -> Bytes {
    let mut body = BytesMut::with_capacity(14 + message.len());
    body.put_u32(error.0);
    body.put_u16(u16::try_from(message.len()).unwrap_or(u16::MAX));
    body.put_slice(message.as_bytes());
    if let Some(offset) = offset {
        body.put_u64(offset);
    }
    body.freeze()
}

/// The body of a status chunk, in the 64-bit form if `extended`.
#[must_use]
pub fn status_body(extended: bool, context: u32, extents: &[(u64, u64)]) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u32(context);
    if extended {
        body.put_u32(u32::try_from(extents.len()).unwrap_or(u32::MAX));
    }
    for (length, flags) in extents {
        if extended {
            body.put_u64(*length);
            body.put_u64(*flags);
        } else {
            body.put_u32(u32::try_from(*length).unwrap_or(u32::MAX));
            body.put_u32(u32::try_from(*flags).unwrap_or(u32::MAX));
        }
    }
    body.freeze()
}
