//! What comes from the server: every message is matched to its request, checked and stored.

use bytes::{Buf, BytesMut};

use super::assembly::Loan;
use super::{Chunk, Session, Sink, Stage};
use crate::wire::reply::{ChunkHead, ErrorChunk, Hole, ReplyHead, StatusExtents};
use crate::wire::{ChunkType, Command, Errno, ProtocolError, ReplyStyle, Text};

/// Data of at least this many bytes is received straight into its place.
pub const BULK: usize = 32 << 10;

/// What is needed to go on.
#[derive(Debug)]
pub enum Intake {
    /// At least this many bytes, counted from the first that was left in the input.
    Bytes(usize),
    /// Data for this place; hand it back to [`Session::received`] when it is full.
    Bulk(Bulk),
}

/// What the next bytes of the input are.
#[derive(Debug)]
pub enum Awaiting {
    /// The body of a chunk, or as much of it as comes before bulk data.
    Body { place: usize, head: ChunkHead },
    /// Data for a read.
    Data {
        place: usize,
        offset: u64,
        length: usize,
        done: bool,
    },
    /// Data that nobody wants any more.
    Discard {
        place: usize,
        left: usize,
        done: bool,
    },
}

/// Bulk data on its way into its place.
#[derive(Debug)]
pub struct Bulk {
    pub(super) entry: usize,
    pub(super) loan: Loan,
    pub(super) left: usize,
    pub(super) done: bool,
    pub(super) offset: u64,
}

impl Bulk {
    /// Where the data is to be appended: exactly [`left`](Self::left) bytes more.
    pub const fn buffer(&mut self) -> &mut BytesMut {
        &mut self.loan.place
    }

    /// How many bytes are missing.
    pub const fn left(&self) -> usize {
        self.left
    }

    /// Takes note of bytes that were appended.
    pub const fn filled(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count);
    }
}

impl Session {
    /// Takes as many messages from `input` as are complete, and says what is needed next.
    ///
    /// # Errors
    /// If the server broke the protocol: nothing in `input` can be trusted any more.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<Intake, ProtocolError> {
        if self.ended.is_some() {
            // Everybody has been answered: a reply that was on its way answers nobody.
            input.clear();
            return Ok(Intake::Bytes(1));
        }
        loop {
            let awaiting = match self.awaiting.take() {
                Some(awaiting) => awaiting,
                None => {
                    let Some((head, used)) = ReplyHead::decode(self.style, input)? else {
                        return Ok(Intake::Bytes(input.len().saturating_add(1)));
                    };
                    input.advance(used);
                    self.messages_received = self.messages_received.wrapping_add(1);
                    match self.accept(head)? {
                        Some(awaiting) => awaiting,
                        None => continue,
                    }
                }
            };
            match awaiting {
                Awaiting::Body { place, head } => {
                    // Only the offset of data is waited for, not the data.
                    let needed = match head.chunk {
                        ChunkType::OFFSET_DATA => 8,
                        _ => usize::try_from(head.length).unwrap_or(usize::MAX),
                    };
                    if input.len() < needed {
                        self.awaiting = Some(awaiting);
                        return Ok(Intake::Bytes(needed));
                    }
                    let body = input.get(..needed).unwrap_or_default();
                    self.awaiting = self.take_body(place, &head, body)?;
                    input.advance(needed);
                }
                Awaiting::Data {
                    place,
                    offset,
                    length,
                    done,
                } => {
                    if input.len() >= length {
                        let data = input.get(..length).unwrap_or_default();
                        self.store(place, offset, data)?;
                        input.advance(length);
                        self.end_chunk(place, done)?;
                    } else if !self.is_wanted(place) {
                        self.awaiting = Some(Awaiting::Discard {
                            place,
                            left: length,
                            done,
                        });
                    } else if length >= BULK {
                        let Some(mut bulk) = self.lend(place, offset, length, done)? else {
                            self.awaiting = Some(Awaiting::Discard {
                                place,
                                left: length,
                                done,
                            });
                            continue;
                        };
                        bulk.filled(input.len());
                        bulk.buffer().extend_from_slice(input);
                        input.clear();
                        return Ok(Intake::Bulk(bulk));
                    } else {
                        self.awaiting = Some(awaiting);
                        return Ok(Intake::Bytes(length));
                    }
                }
                Awaiting::Discard { place, left, done } => {
                    let now = left.min(input.len());
                    input.advance(now);
                    let left = left.saturating_sub(now);
                    if left > 0 {
                        self.awaiting = Some(Awaiting::Discard { place, left, done });
                        return Ok(Intake::Bytes(1));
                    }
                    self.end_chunk(place, done)?;
                }
            }
        }
    }

    /// Takes bulk data that has fully arrived.
    ///
    /// # Errors
    /// If with it the reply has ended and is not complete.
    pub fn received(&mut self, bulk: Bulk) -> Result<(), ProtocolError> {
        if self.ended.is_some() {
            return Ok(());
        }
        let Some(entry) = self.inflight.get_mut(bulk.entry) else {
            return Ok(());
        };
        match &mut entry.sink {
            Sink::Read(read) => read.give_back(bulk.loan),
            Sink::Chunks(..) => {
                let data = self.buffers.lend(bulk.loan.place);
                let offset = bulk.offset;
                self.hand_over(bulk.entry, Chunk::Data { offset, data })?;
            }
            _ => {}
        }
        self.end_chunk(bulk.entry, bulk.done)
    }

    /// Matches a head to its request; says what follows it, if anything.
    fn accept(&mut self, head: ReplyHead) -> Result<Option<Awaiting>, ProtocolError> {
        // P-180: a cookie that is not in flight is a violation.
        let unknown = ProtocolError::UnknownCookie(head.cookie());
        let Some(place) = self.inflight.find(head.cookie()) else {
            return Err(unknown);
        };
        let Some(entry) = self.inflight.get(place) else {
            return Err(unknown);
        };
        if !matches!(entry.stage, Stage::Waiting) {
            return Err(unknown);
        }
        match head {
            ReplyHead::Simple { error, .. } => self.accept_simple(place, error),
            ReplyHead::Chunk(head) => {
                // the offset of an extended reply is the request's.
                if let Some(got) = head.offset.filter(|&offset| offset != entry.offset) {
                    return Err(ProtocolError::WrongOffset {
                        sent: entry.offset,
                        got,
                    });
                }
                self.check_chunk(place, &head)?;
                if head.length > 0 {
                    return Ok(Some(Awaiting::Body { place, head }));
                }
                // P-155: NONE ends a reply.
                if !head.is_done() {
                    return Err(ProtocolError::NotDone);
                }
                self.end_chunk(place, true)?;
                Ok(None)
            }
        }
    }

    fn accept_simple(
        &mut self,
        place: usize,
        error: Errno,
    ) -> Result<Option<Awaiting>, ProtocolError> {
        let Some(entry) = self.inflight.get_mut(place) else {
            return Ok(None);
        };
        // P-154: with chunks agreed, a read is never answered simply.
        if entry.command == Command::READ && self.style != ReplyStyle::Simple {
            return Err(ProtocolError::SimpleReply(entry.command));
        }
        if error != Errno::OK {
            entry.error = Some(entry.failure(error, Text::default(), None));
            self.end_chunk(place, true)?;
            return Ok(None);
        }
        if entry.command != Command::READ {
            self.end_chunk(place, true)?;
            return Ok(None);
        }
        // P-152: the data of the read follows.
        let (offset, length) = (entry.offset, entry.length);
        self.expect_data(place, offset, length, true).map(Some)
    }

    /// Checks type and length of a chunk against its request, before anything is allocated.
    fn check_chunk(&self, place: usize, head: &ChunkHead) -> Result<(), ProtocolError> {
        let Some(entry) = self.inflight.get(place) else {
            return Ok(());
        };
        let chunk = head.chunk;
        let belongs = match chunk {
            ChunkType::NONE => true,
            ChunkType::OFFSET_DATA | ChunkType::OFFSET_HOLE => entry.command == Command::READ,
            // which form depends on the headers alone.
            ChunkType::BLOCK_STATUS => {
                entry.command == Command::BLOCK_STATUS && self.style == ReplyStyle::Structured
            }
            ChunkType::BLOCK_STATUS_EXT => {
                entry.command == Command::BLOCK_STATUS && self.style == ReplyStyle::Extended
            }
            other => other.is_error(),
        };
        // P-157: what does not belong ends the connection.
        if !belongs {
            return Err(ProtocolError::UnexpectedChunk {
                command: entry.command,
                chunk,
            });
        }
        head.check_length_within(self.limits.extents)?;
        if chunk == ChunkType::OFFSET_DATA && head.length.saturating_sub(8) > entry.length {
            return Err(ProtocolError::length("chunk OFFSET_DATA", head.length));
        }
        Ok(())
    }

    /// Takes the body of a chunk; says whether data follows.
    fn take_body(
        &mut self,
        place: usize,
        head: &ChunkHead,
        mut body: &[u8],
    ) -> Result<Option<Awaiting>, ProtocolError> {
        match head.chunk {
            ChunkType::OFFSET_DATA => {
                let offset = body
                    .try_get_u64()
                    .map_err(|_| ProtocolError::length("chunk OFFSET_DATA", head.length))?;
                let length = head.length.saturating_sub(8);
                return self
                    .expect_data(place, offset, length, head.is_done())
                    .map(Some);
            }
            ChunkType::OFFSET_HOLE => self.take_hole(place, Hole::decode(body)?)?,
            ChunkType::BLOCK_STATUS | ChunkType::BLOCK_STATUS_EXT => {
                let wide = head.chunk == ChunkType::BLOCK_STATUS_EXT;
                let (context, extents) = StatusExtents::decode(wide, body)?;
                self.take_status(place, context, extents)?;
            }
            _ => self.take_error(place, ErrorChunk::decode(head.chunk, body)?)?,
        }
        self.end_chunk(place, head.is_done())?;
        Ok(None)
    }

    /// Claims the range of a piece of data that follows.
    fn expect_data(
        &mut self,
        place: usize,
        offset: u64,
        length: u64,
        done: bool,
    ) -> Result<Awaiting, ProtocolError> {
        self.claim(place, offset, length)?;
        let length = usize::try_from(length).map_err(|_| ProtocolError::length("data", length))?;
        Ok(Awaiting::Data {
            place,
            offset,
            length,
            done,
        })
    }
}
