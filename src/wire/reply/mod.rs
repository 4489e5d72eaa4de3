//! Replies of the transmission phase: simple, structured and extended.
//!
//! A reply is read in two steps. First its head, whose type and length are judged before
//! anything is allocated; then its body, by the function for its type.

mod body;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::wire::error::ProtocolError;
use crate::wire::num::{
    ChunkType, EXTENDED_REPLY_MAGIC, Errno, ReplyFlags, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC,
};

pub use body::{
    ErrorChunk, Hole, StatusChunk, StatusExtents, data_body, error_body, hole_body, status_body,
};

/// Bytes of a simple reply header.
pub const SIMPLE_REPLY: usize = 16;
/// Bytes of a structured chunk header.
pub const STRUCTURED_REPLY: usize = 20;
/// Bytes of an extended chunk header.
pub const EXTENDED_REPLY: usize = 32;
/// The largest number of extents in one status chunk ("Request types").
pub const MAX_EXTENTS: u32 = 1 << 20;
/// Most bytes in the body of an error chunk: a message of 4096 bytes, and what follows it.
const MAX_ERROR: u64 = 64 << 10;

/// The form of replies that was negotiated.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum ReplyStyle {
    /// Simple replies only.
    #[default]
    Simple,
    /// Structured chunks; commands without content may still get simple replies.
    Structured,
    /// Extended chunks only.
    Extended,
}

/// The head of a simple reply or of a chunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReplyHead {
    /// A whole reply, but for the data of a successful read.
    Simple {
        /// The cookie of the request.
        cookie: u64,
        /// Zero for success.
        error: Errno,
    },
    /// A chunk of a reply; its body follows.
    Chunk(ChunkHead),
}

/// The head of a chunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChunkHead {
    /// Flags of the chunk.
    pub flags: ReplyFlags,
    /// What the body is.
    pub chunk: ChunkType,
    /// The cookie of the request.
    pub cookie: u64,
    /// The offset of the request, in bytes; extended chunks only.
    pub offset: Option<u64>,
    /// Bytes of the body.
    pub length: u64,
}

impl ReplyHead {
    /// The cookie of the request that is answered.
    #[must_use]
    pub const fn cookie(&self) -> u64 {
        match self {
            Self::Simple { cookie, .. } => *cookie,
            Self::Chunk(head) => head.cookie,
        }
    }

    /// Writes the head.
    pub fn encode(&self, out: &mut impl BufMut) {
        match self {
            Self::Simple { cookie, error } => {
                out.put_u32(SIMPLE_REPLY_MAGIC);
                out.put_u32(error.0);
                out.put_u64(*cookie);
            }
            Self::Chunk(head) => {
                let magic = match head.offset {
                    Some(_) => EXTENDED_REPLY_MAGIC,
                    None => STRUCTURED_REPLY_MAGIC,
                };
                out.put_u32(magic);
                out.put_u16(head.flags.bits());
                out.put_u16(head.chunk.0);
                out.put_u64(head.cookie);
                match head.offset {
                    Some(offset) => {
                        out.put_u64(offset);
                        out.put_u64(head.length);
                    }
                    None => out.put_u32(u32::try_from(head.length).unwrap_or(u32::MAX)),
                }
            }
        }
    }

    /// Reads a head from the front of `src`: the head and its length in bytes, or `None` if more
    /// bytes are needed.
    ///
    /// # Errors
    /// If the magic is not one that `style` allows; this is told from its four bytes alone.
    pub fn decode(style: ReplyStyle, src: &[u8]) -> Result<Option<(Self, usize)>, ProtocolError> {
        let mut rest = src;
        let Ok(magic) = rest.try_get_u32() else {
            return Ok(None);
        };
        match (magic, style) {
            // P-152: without structured replies, all are simple; P-153: other commands may be
            // answered simply.
            (SIMPLE_REPLY_MAGIC, ReplyStyle::Simple | ReplyStyle::Structured) => {
                let (Ok(error), Ok(cookie)) = (rest.try_get_u32(), rest.try_get_u64()) else {
                    return Ok(None);
                };
                Ok(Some((
                    Self::Simple {
                        cookie,
                        error: Errno(error),
                    },
                    SIMPLE_REPLY,
                )))
            }
            (STRUCTURED_REPLY_MAGIC, ReplyStyle::Structured) => {
                let Some(head) = ChunkHead::decode(false, rest) else {
                    return Ok(None);
                };
                Ok(Some((Self::Chunk(head), STRUCTURED_REPLY)))
            }
            // extended replies carry the request's offset.
            (EXTENDED_REPLY_MAGIC, ReplyStyle::Extended) => {
                let Some(head) = ChunkHead::decode(true, rest) else {
                    return Ok(None);
                };
                Ok(Some((Self::Chunk(head), EXTENDED_REPLY)))
            }
            _ => Err(ProtocolError::Magic(magic)),
        }
    }
}

impl ChunkHead {
    fn decode(extended: bool, mut rest: &[u8]) -> Option<Self> {
        let flags = rest.try_get_u16().ok()?;
        let chunk = rest.try_get_u16().ok()?;
        let cookie = rest.try_get_u64().ok()?;
        let (offset, length) = if extended {
            (Some(rest.try_get_u64().ok()?), rest.try_get_u64().ok()?)
        } else {
            (None, rest.try_get_u32().ok()?.into())
        };
        Some(Self {
            // P-156: unknown bits are kept and ignored.
            flags: ReplyFlags::from_bits_retain(flags),
            chunk: ChunkType(chunk),
            cookie,
            offset,
            length,
        })
    }

    /// Whether this chunk ends its reply.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.flags.contains(ReplyFlags::DONE)
    }

    /// Checks the length of the body against what its type allows, whatever the request was.
    ///
    /// # Errors
    /// If no body of this type has this length, or the type is unknown and not an error.
    pub fn check_length(&self) -> Result<(), ProtocolError> {
        let length = self.length;
        let extents = u64::from(MAX_EXTENTS);
        let fits = match self.chunk {
            ChunkType::NONE => length == 0,
            // P-160: content is inside the request, without overlap.
            ChunkType::OFFSET_DATA => length > 8,
            ChunkType::OFFSET_HOLE => length == 12,
            // P-168: a status is whole extents, at least one; P-175: a chunk has at most 2^20
            // extents.
            ChunkType::BLOCK_STATUS => length >= 12 && length % 8 == 4 && length <= 4 + 8 * extents,
            // extended status only with extended headers.
            ChunkType::BLOCK_STATUS_EXT => {
                length >= 24 && length % 16 == 8 && length <= 8 + 16 * extents
            }
            // P-159: number, message length, message; and an offset. More may follow, but not
            // without bound.
            ChunkType::ERROR_OFFSET => (14..=MAX_ERROR).contains(&length),
            other if other.is_error() => (6..=MAX_ERROR).contains(&length),
            // P-157: an unknown type. The caller tells it from a wrong length.
            _ => false,
        };
        if fits {
            Ok(())
        } else {
            Err(ProtocolError::length(chunk_name(self.chunk), length))
        }
    }
}

const fn chunk_name(chunk: ChunkType) -> &'static str {
    match chunk {
        ChunkType::NONE => "chunk NONE",
        ChunkType::OFFSET_DATA => "chunk OFFSET_DATA",
        ChunkType::OFFSET_HOLE => "chunk OFFSET_HOLE",
        ChunkType::BLOCK_STATUS => "chunk BLOCK_STATUS",
        ChunkType::BLOCK_STATUS_EXT => "chunk BLOCK_STATUS_EXT",
        ChunkType::ERROR => "chunk ERROR",
        ChunkType::ERROR_OFFSET => "chunk ERROR_OFFSET",
        other if other.is_error() => "error chunk of unknown type",
        _ => "chunk of unknown type",
    }
}

/// One reply message as a server sends it: head and body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// The head. The length of a chunk is that of the body, as [`chunk`](Self::chunk) sets it.
    pub head: ReplyHead,
    /// The body of a chunk, or the data of a simple reply to a read.
    pub body: Bytes,
}

impl Reply {
    /// A simple reply.
    #[must_use]
    pub const fn simple(cookie: u64, error: Errno, data: Bytes) -> Self {
        Self {
            head: ReplyHead::Simple { cookie, error },
            body: data,
        }
    }

    /// A chunk for `cookie`; `offset` is the request's and makes the chunk an extended one.
    #[must_use]
    pub fn chunk(
        cookie: u64,
        offset: Option<u64>,
        flags: ReplyFlags,
        chunk: ChunkType,
        body: Bytes,
    ) -> Self {
        let length = body.len() as u64;
        Self {
            head: ReplyHead::Chunk(ChunkHead {
                flags,
                chunk,
                cookie,
                offset,
                length,
            }),
            body,
        }
    }

    /// Writes head and body.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(EXTENDED_REPLY + self.body.len());
        self.head.encode(out);
        out.put_slice(&self.body);
    }
}

#[cfg(test)]
mod tests;
