//! Receives from the server: matches every message with its request, checks it, and stores it.

use std::ops::RangeInclusive;

use bytes::{Buf, BytesMut};

use super::assembly::Loan;
use super::{Error, Session, Sink, Stage};
use crate::limits::most_queued;
use crate::wire::reply::{ChunkHead, ErrorChunk, Hole, ReplyHead, StatusExtents};
use crate::wire::{ChunkType, Command, Errno, ProtocolError, ReplyStyle, Text};

/// Data of at least this many bytes is received straight into the buffer of its read.
pub const BULK: usize = 32 << 10;

/// With so many requests in flight, each answer is handed out before the next message is taken.
///
/// A server with several threads, such as nbdkit, has the next request then while the other replies
/// are taken in; otherwise client and server wait for each other in turn. With more in flight there
/// is always something left to do for the server, and taking all replies at once costs less.
const FEW: RangeInclusive<usize> = 3..=7;

/// What the session needs next.
#[derive(Debug)]
pub enum Intake {
    /// At least this many bytes in the input, including those that were left there.
    Bytes(usize),
    /// Data for this part of a buffer; [`Session::received`] takes it back when it is full.
    Bulk(Bulk),
    /// That the caller whose answer has come runs first: there may be more messages in the input.
    Caller,
}

/// The meaning of the next bytes of the input.
#[derive(Debug)]
pub enum Awaiting {
    /// The body of a chunk, or the part of it that precedes data.
    Body { slot: usize, head: ChunkHead },
    /// Data for a read.
    Data {
        slot: usize,
        offset: u64,
        length: usize,
        done: bool,
    },
    /// Data that is to be skipped.
    Discard {
        slot: usize,
        left: usize,
        done: bool,
    },
}

/// Bulk data that is received straight into the buffer of its read.
#[derive(Debug)]
pub struct Bulk {
    pub(super) entry: usize,
    pub(super) loan: Loan,
    pub(super) left: usize,
    pub(super) done: bool,
    pub(super) offset: u64,
}

impl Bulk {
    /// Returns the buffer to which exactly [`left`](Self::left) bytes are to be appended.
    pub const fn buffer(&mut self) -> &mut BytesMut {
        &mut self.loan.part
    }

    /// Returns how many bytes are missing.
    pub const fn left(&self) -> usize {
        self.left
    }

    /// Records that `count` bytes were appended.
    pub const fn filled(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count);
    }
}

impl Session {
    /// Takes complete messages from `input`, and returns what is needed next.
    ///
    /// # Errors
    /// If the server broke the protocol. Nothing in `input` can be trusted any more.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<Intake, ProtocolError> {
        if self.ended.is_some() {
            // Every request has been answered: a reply that was on its way answers none.
            input.clear();
            return Ok(Intake::Bytes(1));
        }
        let (few, woken) = (FEW.contains(&self.in_flight()), self.woken.len());
        loop {
            let awaiting = match self.awaiting.take() {
                Some(awaiting) => awaiting,
                None => {
                    if few && self.woken.len() > woken && !input.is_empty() {
                        return Ok(Intake::Caller);
                    }
                    let Some(head) = self.codec.take(input)? else {
                        return Ok(Intake::Bytes(input.len().saturating_add(1)));
                    };
                    self.messages_received = self.messages_received.wrapping_add(1);
                    match self.accept(head)? {
                        Some(awaiting) => awaiting,
                        None => continue,
                    }
                }
            };
            match awaiting {
                Awaiting::Body { slot, head } => {
                    // Of a data chunk only the offset is needed here, not the data.
                    let needed = match head.chunk {
                        ChunkType::OFFSET_DATA => 8,
                        _ => usize::try_from(head.length).unwrap_or(usize::MAX),
                    };
                    if input.len() < needed {
                        self.awaiting = Some(awaiting);
                        return Ok(Intake::Bytes(needed));
                    }
                    let body = input.get(..needed).unwrap_or_default();
                    self.awaiting = self.take_body(slot, &head, body)?;
                    input.advance(needed);
                }
                Awaiting::Data {
                    slot,
                    offset,
                    length,
                    done,
                } => {
                    if input.len() >= length {
                        let data = input.get(..length).unwrap_or_default();
                        let entry = self.inflight.replied(slot)?;
                        entry.store(offset, data, &self.buffers)?;
                        self.woken.extend(entry.reader());
                        input.advance(length);
                        self.end_message(slot, done)?;
                    } else if !self.inflight.replied(slot)?.is_wanted() {
                        self.awaiting = Some(Awaiting::Discard {
                            slot,
                            left: length,
                            done,
                        });
                    } else if length >= BULK {
                        let entry = self.inflight.replied(slot)?;
                        let data = (offset, length, done);
                        let Some(mut bulk) = entry.lend(slot, data, &self.buffers)? else {
                            self.awaiting = Some(Awaiting::Discard {
                                slot,
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
                Awaiting::Discard { slot, left, done } => {
                    let now = left.min(input.len());
                    input.advance(now);
                    let left = left.saturating_sub(now);
                    if left > 0 {
                        self.awaiting = Some(Awaiting::Discard { slot, left, done });
                        return Ok(Intake::Bytes(1));
                    }
                    self.end_message(slot, done)?;
                }
            }
        }
    }

    /// Takes bulk data that has fully arrived.
    ///
    /// # Errors
    /// If this was the end of the reply, and the reply is not complete.
    pub fn received(&mut self, bulk: Bulk) -> Result<(), ProtocolError> {
        if self.ended.is_some() {
            return Ok(());
        }
        let (slot, done) = (bulk.entry, bulk.done);
        let entry = self.inflight.replied(slot)?;
        entry.give_back(bulk, &self.buffers)?;
        self.woken.extend(entry.reader());
        self.end_message(slot, done)
    }

    /// Matches a reply header with its request. Returns what follows the header, if anything.
    fn accept(&mut self, head: ReplyHead) -> Result<Option<Awaiting>, ProtocolError> {
        // P-180: a cookie that is not in flight is a violation.
        let unknown = ProtocolError::UnknownCookie(head.cookie());
        let Some(slot) = self.inflight.find(head.cookie()) else {
            return Err(unknown);
        };
        let entry = self.inflight.replied(slot)?;
        // A server does not know a cookie of which it has no byte: it has guessed.
        let is_sent = entry.sent.start < self.written;
        if !is_sent || !matches!(entry.stage, Stage::Waiting) {
            return Err(unknown);
        }
        match head {
            ReplyHead::Simple { error, .. } => self.accept_simple(slot, error),
            ReplyHead::Chunk(head) => {
                // an extended reply has the offset of its request.
                if let Some(got) = head.offset.filter(|&offset| offset != entry.offset) {
                    return Err(ProtocolError::WrongOffset {
                        sent: entry.offset,
                        got,
                    });
                }
                entry.check(&head, self.codec.style())?;
                let (length, queued) = (entry.length, entry.queued_before(head.chunk));
                if queued > 0 {
                    self.check_queued(length, queued)?;
                }
                if head.length > 0 {
                    return Ok(Some(Awaiting::Body { slot, head }));
                }
                // P-155: a chunk without a body is NONE, and NONE ends a reply.
                if !head.is_done() {
                    return Err(ProtocolError::NotDone);
                }
                self.end_message(slot, true)?;
                Ok(None)
            }
        }
    }

    /// Checks that one more piece of a structured read of `length` bytes may wait to be taken, besides
    /// `queued` others. Each takes memory in addition to its data, which may be a single byte: all
    /// structured reads whose ends were not taken yet share the bound on bytes for it.
    fn check_queued(&self, length: u64, queued: u64) -> Result<(), ProtocolError> {
        let share = self.gate.max_bytes() / self.inflight.structured().max(1);
        if queued >= most_queued(length, share) {
            return Err(ProtocolError::TooFragmented);
        }
        Ok(())
    }

    /// Takes a simple reply. Returns the data that follows, if any.
    fn accept_simple(
        &mut self,
        slot: usize,
        error: Errno,
    ) -> Result<Option<Awaiting>, ProtocolError> {
        let entry = self.inflight.replied(slot)?;
        // P-154: with structured replies, a read is never answered simply.
        if entry.command == Command::READ && self.codec.style() != ReplyStyle::Simple {
            return Err(ProtocolError::SimpleReply(entry.command));
        }
        if error != Errno::OK {
            entry.error = Some(Box::new(entry.failure(error, Text::default(), None)));
        } else if entry.command == Command::READ {
            // P-152: the data of the read follows.
            let (offset, length) = (entry.offset, entry.length);
            return self.expect_data(slot, offset, length, true).map(Some);
        }
        self.end_message(slot, true)?;
        Ok(None)
    }

    /// Takes the body of a chunk. Returns the data that follows, if any.
    fn take_body(
        &mut self,
        slot: usize,
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
                    .expect_data(slot, offset, length, head.is_done())
                    .map(Some);
            }
            ChunkType::OFFSET_HOLE => {
                let hole = Hole::decode(body)?;
                let entry = self.inflight.replied(slot)?;
                entry.hole(hole, &self.buffers)?;
                self.woken.extend(entry.reader());
            }
            ChunkType::BLOCK_STATUS | ChunkType::BLOCK_STATUS_EXT => {
                let extended = head.chunk == ChunkType::BLOCK_STATUS_EXT;
                let (context, extents) = StatusExtents::decode(extended, body)?;
                self.take_status(slot, context, extents)?;
            }
            _ => {
                let error = ErrorChunk::decode(head.chunk, body)?;
                let entry = self.inflight.replied(slot)?;
                entry.fail(error)?;
                self.woken.extend(entry.reader());
            }
        }
        self.end_message(slot, head.is_done())?;
        Ok(None)
    }

    /// Claims the range of the piece of data that follows.
    fn expect_data(
        &mut self,
        slot: usize,
        offset: u64,
        length: u64,
        done: bool,
    ) -> Result<Awaiting, ProtocolError> {
        let entry = self.inflight.replied(slot)?;
        entry.claim(offset, length)?;
        let length = usize::try_from(length).map_err(|_| ProtocolError::length("data", length))?;
        Ok(Awaiting::Data {
            slot,
            offset,
            length,
            done,
        })
    }

    /// Stores the status of one context. All block statuses whose answers were not taken yet share
    /// the bound on bytes; extents beyond the share of a request are cut off.
    fn take_status(
        &mut self,
        slot: usize,
        context: u32,
        extents: StatusExtents<'_>,
    ) -> Result<(), ProtocolError> {
        let share = self.gate.max_bytes() / self.inflight.statuses().max(1);
        let entry = self.inflight.replied(slot)?;
        let Sink::Status(status) = &mut entry.sink else {
            return Err(entry.no_content());
        };
        let most = (!entry.abandoned).then(|| share.max(entry.bytes));
        status.add(context, extents, most)?;
        let beyond = status.held().saturating_sub(entry.bytes);
        entry.bytes = entry.bytes.saturating_add(beyond);
        self.gate.grow(beyond);
        Ok(())
    }

    /// Ends a message of a reply, and with `done` the reply.
    #[inline]
    fn end_message(&mut self, slot: usize, done: bool) -> Result<(), ProtocolError> {
        if !done {
            return Ok(());
        }
        let result = self.inflight.replied(slot)?.finish()?;
        if let Err(Error::Request(error)) = &result {
            // P-146: after ESHUTDOWN nothing new is sent, and requests in flight may finish.
            if error.errno == Errno::ESHUTDOWN {
                self.refuse(Error::shutting_down());
            }
        }
        self.conclude(slot, result);
        Ok(())
    }
}
