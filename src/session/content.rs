//! Applies a reply to its request: content, errors, and the end.

use std::task::Waker;

use super::assembly::Loan;
use super::buffers::Buffers;
use super::inflight::Entry;
use super::receive::Bulk;
use super::{Answer, Chunk, Error, Sink};
use crate::error::InvalidRequest;
use crate::limits::MAX_ERROR_CHUNKS;
use crate::wire::reply::{ChunkHead, ErrorChunk, Hole};
use crate::wire::{ChunkType, Command, MAX_STRING, ProtocolError, ReplyStyle, Text};

impl Entry {
    /// Checks type and length of a chunk against the request. Nothing is allocated before.
    #[inline]
    pub fn check(&self, head: &ChunkHead, style: ReplyStyle) -> Result<(), ProtocolError> {
        let (chunk, command) = (head.chunk, self.command);
        let belongs = match chunk {
            ChunkType::NONE => true,
            ChunkType::OFFSET_DATA | ChunkType::OFFSET_HOLE => command == Command::READ,
            // the headers alone decide the form of a status.
            ChunkType::BLOCK_STATUS => {
                command == Command::BLOCK_STATUS && style == ReplyStyle::Structured
            }
            ChunkType::BLOCK_STATUS_EXT => {
                command == Command::BLOCK_STATUS && style == ReplyStyle::Extended
            }
            other => other.is_error(),
        };
        // P-157: a chunk that does not belong to the command ends the connection.
        if !belongs {
            return Err(ProtocolError::UnexpectedChunk { command, chunk });
        }
        head.check_length()?;
        if chunk == ChunkType::OFFSET_DATA && head.length.saturating_sub(8) > self.length {
            return Err(ProtocolError::length("chunk OFFSET_DATA", head.length));
        }
        Ok(())
    }

    /// Claims the range of a piece of content, and returns its position in the read, in bytes.
    #[inline]
    pub fn claim(&mut self, offset: u64, length: u64) -> Result<usize, ProtocolError> {
        let claims = match &mut self.sink {
            Sink::Read(read) => &mut read.claims,
            Sink::Chunks(chunks) => &mut chunks.claims,
            Sink::Modify(modify) => &mut modify.read.claims,
            // Only reads have content: `check` has seen to that.
            Sink::None | Sink::Status(_) => return Err(self.no_content()),
        };
        // P-166: DF allows one chunk of content.
        if self.single_chunk && claims.any() {
            return Err(ProtocolError::Fragmented);
        }
        claims.claim(offset, length)
    }

    /// Returns the error of content for a request that has none. [`check`](Self::check) refuses
    /// such a chunk, so this is never reached.
    pub fn no_content(&self) -> ProtocolError {
        debug_assert!(false, "content for {}", self.command);
        ProtocolError::UnexpectedChunk {
            command: self.command,
            chunk: ChunkType::OFFSET_DATA,
        }
    }

    /// Stores a hole, or queues it for the caller of a structured read.
    pub fn hole(&mut self, hole: Hole, buffers: &Buffers) -> Result<(), ProtocolError> {
        let (offset, length) = (hole.offset, u64::from(hole.length));
        let position = self.claim(offset, length)?;
        if !self.is_wanted() {
            return Ok(());
        }
        let Some(read) = self.sink.buffered() else {
            return self.hand_over(Chunk::Hole { offset, length });
        };
        let length = usize::try_from(length).map_err(|_| ProtocolError::length("hole", length))?;
        self.starved = read.put_zeroes(position, length, buffers).is_err();
        Ok(())
    }

    /// Stores a claimed piece of data that has fully arrived.
    #[inline]
    pub fn store(
        &mut self,
        offset: u64,
        data: &[u8],
        buffers: &Buffers,
    ) -> Result<(), ProtocolError> {
        if !self.is_wanted() {
            return Ok(());
        }
        let position = self.position(offset)?;
        if let Some(read) = self.sink.buffered() {
            self.starved = read.put(position, data, buffers).is_err();
            return Ok(());
        }
        let Ok(mut copy) = buffers.take(data.len()) else {
            self.starved = true;
            return Ok(());
        };
        copy.extend_from_slice(data);
        let data = buffers.freeze(copy);
        self.hand_over(Chunk::Data { offset, data })
    }

    /// Lends the part of the buffer for a claimed piece of data that is still to come. Returns
    /// `None` if there is no memory for it.
    pub fn lend(
        &mut self,
        slot: usize,
        (offset, length, done): (u64, usize, bool),
        buffers: &Buffers,
    ) -> Result<Option<Bulk>, ProtocolError> {
        let position = self.position(offset)?;
        let loan = match self.sink.buffered() {
            Some(read) => read.lend(position, length, buffers),
            None => buffers.take(length).map(Loan::own),
        };
        let Ok(loan) = loan else {
            self.starved = true;
            return Ok(None);
        };
        Ok(Some(Bulk {
            entry: slot,
            loan,
            left: length,
            done,
            offset,
        }))
    }

    /// Takes back a part of the buffer that was lent and has been filled.
    pub fn give_back(&mut self, bulk: Bulk, buffers: &Buffers) -> Result<(), ProtocolError> {
        match self.sink.buffered() {
            Some(read) => {
                read.give_back(bulk.loan);
                Ok(())
            }
            None => {
                let (offset, data) = (bulk.offset, buffers.freeze(bulk.loan.part));
                self.hand_over(Chunk::Data { offset, data })
            }
        }
    }

    /// Queues a piece of a structured read for its caller.
    fn hand_over(&mut self, piece: Chunk) -> Result<(), ProtocolError> {
        match &mut self.sink {
            Sink::Chunks(_) if self.abandoned => Ok(()),
            Sink::Chunks(chunks) => {
                chunks.queue.push_back(piece);
                Ok(())
            }
            _ => Err(self.no_content()),
        }
    }

    /// Takes the waker of a caller for whom pieces are queued.
    #[inline]
    pub fn reader(&mut self) -> Option<Waker> {
        match &self.sink {
            Sink::Chunks(chunks) if !chunks.queue.is_empty() => self.waker.take(),
            _ => None,
        }
    }

    /// Records an error chunk, and queues it for the caller of a structured read. The first one of a
    /// reply is its result.
    pub fn fail(&mut self, chunk: ErrorChunk) -> Result<(), ProtocolError> {
        self.errors = self.errors.saturating_add(1);
        if self.errors > MAX_ERROR_CHUNKS {
            return Err(ProtocolError::TooManyErrors);
        }
        // P-165: an offset outside the request is ignored.
        let end = self.offset.saturating_add(self.length);
        let failed_at = chunk.offset.filter(|at| (self.offset..end).contains(at));
        if self.is_wanted() && matches!(self.sink, Sink::Chunks(_)) {
            let piece = Chunk::Error {
                offset: failed_at.unwrap_or(self.offset),
                errno: chunk.error,
                message: self.kept_message(&chunk.message),
            };
            self.hand_over(piece)?;
        }
        let failure = self.failure(chunk.error, chunk.message, failed_at);
        // The first error of a reply counts.
        self.error.get_or_insert_with(|| Box::new(failure));
        Ok(())
    }

    /// Returns the message of an error as it is queued: all messages of a reply together have as many
    /// bytes as one may have, and those that come later are dropped.
    fn kept_message(&mut self, message: &Text) -> Text {
        let length = u16::try_from(message.as_str().len()).unwrap_or(u16::MAX);
        let kept = self.texts.saturating_add(length);
        if self.texts > 0 && usize::from(kept) > MAX_STRING {
            return Text::default();
        }
        self.texts = kept;
        message.clone()
    }

    /// Returns how many pieces of a structured read wait to be taken, if this is one more.
    #[inline]
    pub fn queued_before(&self, chunk: ChunkType) -> u64 {
        let is_piece = matches!(chunk, ChunkType::OFFSET_DATA | ChunkType::OFFSET_HOLE);
        match &self.sink {
            Sink::Chunks(chunks) if is_piece && self.is_wanted() => chunks.queue.len() as u64,
            _ => 0,
        }
    }

    /// Returns what the caller gets, after the end of the reply.
    ///
    /// # Errors
    /// If the reply is not complete.
    #[inline]
    pub fn finish(&mut self) -> Result<Result<Answer, Error>, ProtocolError> {
        if let Some(error) = self.error.take() {
            return Ok(Err(Error::Request(*error)));
        }
        let answer = match &mut self.sink {
            // Pieces that the caller has not taken yet stay in the queue.
            Sink::Chunks(chunks) => {
                chunks.claims.check_complete()?;
                Answer::Done
            }
            Sink::Read(read) => Answer::Data(read.finish()?),
            Sink::Status(status) => Answer::Status(status.finish()?),
            Sink::Modify(modify) => Answer::Block(modify.finish()?),
            Sink::None => Answer::Done,
        };
        Ok(match answer {
            _ if self.abandoned => Ok(Answer::Done),
            _ if self.starved => {
                let length = self.length;
                Err(InvalidRequest::OutOfMemory { length }.into())
            }
            answer => Ok(answer),
        })
    }

    /// Returns the position of a claimed offset, in bytes from the start of the read.
    fn position(&self, offset: u64) -> Result<usize, ProtocolError> {
        let position = offset.wrapping_sub(self.offset);
        usize::try_from(position).map_err(|_| ProtocolError::length("read", position))
    }
}
