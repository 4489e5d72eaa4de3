//! Replies of the transmission phase: simple, structured and extended.
//!
//! A reply is read in two steps. First its head, whose type and length are judged before
//! anything is allocated; then its body, by the function for its type.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::ProtocolError;
use super::num::{
    ChunkType, EXTENDED_REPLY_MAGIC, Errno, ReplyFlags, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC,
};
use super::text::{MAX_STRING, Text};

/// Bytes of a simple reply header.
pub const SIMPLE_REPLY: usize = 16;
/// Bytes of a structured chunk header.
pub const STRUCTURED_REPLY: usize = 20;
/// Bytes of an extended chunk header.
pub const EXTENDED_REPLY: usize = 32;
/// Most extents that one status chunk can carry (P-175).
pub const MAX_EXTENTS: u64 = 1 << 20;

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
            // P-152, P-153
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
            //
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

    /// Checks the length of the body against what its type allows, whoever asked for it.
    ///
    /// # Errors
    /// If no body of this type has this length, or the type is unknown and not an error.
    pub fn check_length(&self) -> Result<(), ProtocolError> {
        let length = self.length;
        let fits = match self.chunk {
            ChunkType::NONE => length == 0,
            // P-160
            ChunkType::OFFSET_DATA => length > 8,
            ChunkType::OFFSET_HOLE => length == 12,
            // P-168, P-175
            ChunkType::BLOCK_STATUS => {
                length >= 12 && length % 8 == 4 && length <= 4 + 8 * MAX_EXTENTS
            }
            //
            ChunkType::BLOCK_STATUS_EXT => {
                length >= 24 && length % 16 == 8 && length <= 8 + 16 * MAX_EXTENTS
            }
            // P-159: number, message length, message; and an offset. An unknown error type may
            // carry more than a message, but not without bound.
            ChunkType::ERROR => (6..=6 + MAX_STRING as u64).contains(&length),
            ChunkType::ERROR_OFFSET => (14..=14 + MAX_STRING as u64).contains(&length),
            other if other.is_error() => (6..=64 + MAX_STRING as u64).contains(&length),
            // P-157; told apart from a wrong length by the caller.
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
        // P-159
        if error == 0 {
            return Err(ProtocolError::NoError);
        }
        let offset = match chunk {
            ChunkType::ERROR_OFFSET => Some(rest.try_get_u64().map_err(|_| malformed())?),
            _ => None,
        };
        // What follows is tolerated only where a later revision may have put it.
        if chunk.name().is_some() && !rest.is_empty() {
            return Err(malformed());
        }
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
    /// Reads the body of a `BLOCK_STATUS` chunk, or of a `BLOCK_STATUS_EXT` one if `wide`.
    ///
    /// # Errors
    /// If the body has not the form of its type or an extent is empty.
    pub fn decode(wide: bool, mut body: &[u8]) -> Result<Self, ProtocolError> {
        let length = body.len() as u64;
        let malformed = |_| ProtocolError::length("status chunk", length);
        let context = body.try_get_u32().map_err(malformed)?;
        let size = if wide { 16 } else { 8 };
        if wide {
            let count = body.try_get_u32().map_err(malformed)?;
            // the count agrees with the length.
            if u64::from(count) * 16 != body.len() as u64 {
                return Err(ProtocolError::Extents(
                    "count of extents contradicts chunk length",
                ));
            }
        }
        // P-168: at least one extent, and nothing left over.
        if body.is_empty() || body.len() % size != 0 {
            return Err(ProtocolError::length("status chunk", length));
        }
        let mut extents = Vec::with_capacity(body.len() / size);
        while !body.is_empty() {
            let (length, flags) = if wide {
                (
                    body.try_get_u64().map_err(malformed)?,
                    body.try_get_u64().map_err(malformed)?,
                )
            } else {
                let length = body.try_get_u32().map_err(malformed)?;
                (length.into(), body.try_get_u32().map_err(malformed)?.into())
            };
            // P-168
            if length == 0 {
                return Err(ProtocolError::Extents("extent of 0 bytes"));
            }
            extents.push((length, flags));
        }
        Ok(Self { context, extents })
    }
}

/// One reply message as a server sends it: head and body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// The head; a chunk's length is set from the body.
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

/// The body of a status chunk, in the 64-bit form if `wide`.
#[must_use]
pub fn status_body(wide: bool, context: u32, extents: &[(u64, u64)]) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u32(context);
    if wide {
        body.put_u32(u32::try_from(extents.len()).unwrap_or(u32::MAX));
    }
    for (length, flags) in extents {
        if wide {
            body.put_u64(*length);
            body.put_u64(*flags);
        } else {
            body.put_u32(u32::try_from(*length).unwrap_or(u32::MAX));
            body.put_u32(u32::try_from(*flags).unwrap_or(u32::MAX));
        }
    }
    body.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(style: ReplyStyle, bytes: &[u8]) -> Result<Option<(ReplyHead, usize)>, ProtocolError> {
        ReplyHead::decode(style, bytes)
    }

    #[test]
    fn heads_survive_a_round_trip_and_any_truncation() {
        let chunk = ChunkHead {
            flags: ReplyFlags::from_bits_retain(0xffff),
            chunk: ChunkType::OFFSET_DATA,
            cookie: 7,
            offset: None,
            length: 520,
        };
        let wide = ChunkHead {
            offset: Some(4096),
            length: 1 << 33,
            ..chunk
        };
        for (style, sent) in [
            (
                ReplyStyle::Simple,
                ReplyHead::Simple {
                    cookie: 7,
                    error: Errno::EIO,
                },
            ),
            (
                ReplyStyle::Structured,
                ReplyHead::Simple {
                    cookie: 7,
                    error: Errno::OK,
                },
            ),
            (ReplyStyle::Structured, ReplyHead::Chunk(chunk)),
            (ReplyStyle::Extended, ReplyHead::Chunk(wide)),
        ] {
            let mut bytes = BytesMut::new();
            sent.encode(&mut bytes);
            for cut in 0..bytes.len() {
                assert_eq!(head(style, &bytes[..cut]), Ok(None));
            }
            assert_eq!(head(style, &bytes), Ok(Some((sent, bytes.len()))));
        }
    }

    // X-07, P-152: the four bytes of the magic are enough.
    #[test]
    fn a_magic_of_another_style_is_refused_at_once() {
        for (style, magic) in [
            (ReplyStyle::Simple, STRUCTURED_REPLY_MAGIC),
            (ReplyStyle::Simple, 0x9674_4668),
            (ReplyStyle::Structured, EXTENDED_REPLY_MAGIC),
            (ReplyStyle::Extended, SIMPLE_REPLY_MAGIC),
            (ReplyStyle::Extended, STRUCTURED_REPLY_MAGIC),
        ] {
            let result = head(style, &magic.to_be_bytes());
            assert_eq!(result, Err(ProtocolError::Magic(magic)));
        }
    }

    // P-157, P-159, P-160, P-168, X-08
    #[test]
    fn chunk_lengths_are_judged_by_type() {
        for (chunk, good, bad) in [
            (ChunkType::NONE, &[0][..], &[1][..]),
            (ChunkType::OFFSET_DATA, &[9, 1 << 25], &[0, 7, 8]),
            (ChunkType::OFFSET_HOLE, &[12], &[0, 11, 13]),
            (
                ChunkType::BLOCK_STATUS,
                &[12, 4 + (8 << 20)],
                &[0, 4, 13, 4 + (8 << 20) + 8],
            ),
            (
                ChunkType::BLOCK_STATUS_EXT,
                &[24, 8 + (16 << 20)],
                &[8, 25, 8 + (16 << 20) + 16],
            ),
            (ChunkType::ERROR, &[6, 4102], &[0, 5, 4103, 0xffff_ffff]),
            (ChunkType::ERROR_OFFSET, &[14, 4110], &[13, 4111]),
            (ChunkType(0x8077), &[6, 100], &[5, 100_000]),
            (ChunkType(3), &[], &[0, 1, 100]),
        ] {
            let of = |length| ChunkHead {
                flags: ReplyFlags::DONE,
                chunk,
                cookie: 0,
                offset: None,
                length,
            };
            assert!(
                good.iter().all(|&length| of(length).check_length().is_ok()),
                "{chunk}"
            );
            assert!(
                bad.iter().all(|&length| of(length).check_length().is_err()),
                "{chunk}"
            );
        }
    }

    // P-158, P-159
    #[test]
    fn error_chunks_are_checked() {
        let body = error_body(Errno::EIO, "bad sector", Some(512));
        let error = ErrorChunk::decode(ChunkType::ERROR_OFFSET, &body).unwrap();
        assert_eq!((error.error, error.offset), (Errno::EIO, Some(512)));
        assert_eq!(error.message.as_str(), "bad sector");
        let zero = error_body(Errno::OK, "", None);
        assert_eq!(
            ErrorChunk::decode(ChunkType::ERROR, &zero),
            Err(ProtocolError::NoError)
        );
        let too_long = [0, 0, 0, 5, 0, 9, b'x'];
        assert!(ErrorChunk::decode(ChunkType::ERROR, &too_long).is_err());
        assert!(ErrorChunk::decode(ChunkType(0x8077), &too_long).is_err());
        let surplus = [0, 0, 0, 5, 0, 1, b'x', 1, 2];
        assert!(ErrorChunk::decode(ChunkType::ERROR, &surplus).is_err());
        assert!(ErrorChunk::decode(ChunkType(0x8077), &surplus).is_ok());
    }

    // P-168, X-08
    #[test]
    fn status_chunks_survive_a_round_trip_in_both_widths() {
        let extents = vec![(65536, 0), (4096, 3)];
        for wide in [false, true] {
            let body = status_body(wide, 4, &extents);
            let status = StatusChunk {
                context: 4,
                extents: extents.clone(),
            };
            assert_eq!(StatusChunk::decode(wide, &body), Ok(status));
        }
        let empty = status_body(false, 4, &[(0, 0)]);
        assert!(StatusChunk::decode(false, &empty).is_err());
        let mut miscounted = BytesMut::from(&status_body(true, 4, &extents)[..]);
        miscounted[7] = 3;
        assert!(StatusChunk::decode(true, &miscounted).is_err());
    }
}
