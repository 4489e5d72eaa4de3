//! What a reply brings for its request: content, errors, and its end.

use bytes::BytesMut;

use super::assembly::{Assembly, Loan};
use super::inflight::Entry;
use super::receive::Bulk;
use super::{Answer, Chunk, Error, Session, Sink};
use crate::error::InvalidRequest;
use crate::wire::reply::{ErrorChunk, Hole, StatusExtents};
use crate::wire::{Errno, ProtocolError};

impl Session {
    pub(super) fn claim(
        &mut self,
        place: usize,
        offset: u64,
        length: u64,
    ) -> Result<usize, ProtocolError> {
        let Some(entry) = self.inflight.get_mut(place) else {
            return Ok(0);
        };
        let read = match &mut entry.sink {
            Sink::Read(read) => read,
            Sink::Chunks(chunks) => &mut chunks.read,
            Sink::None | Sink::Status(_) => return Ok(0),
        };
        // P-166: DF allows one chunk of content.
        if entry.single_chunk && read.pieces() > 0 {
            return Err(ProtocolError::Fragmented);
        }
        read.claim(offset, length, &self.limits)
    }

    pub(super) fn take_hole(&mut self, place: usize, hole: Hole) -> Result<(), ProtocolError> {
        let length = u64::from(hole.length);
        let position = self.claim(place, hole.offset, length)?;
        let Some(entry) = self.inflight.get_mut(place) else {
            return Ok(());
        };
        if !entry.is_wanted() {
            return Ok(());
        }
        match &mut entry.sink {
            Sink::Read(read) => {
                let length =
                    usize::try_from(length).map_err(|_| ProtocolError::length("hole", length))?;
                entry.starved = read.put_zeroes(position, length, &self.buffers).is_err();
            }
            Sink::Chunks(..) => {
                let offset = hole.offset;
                self.hand_over(place, Chunk::Hole { offset, length })?;
            }
            Sink::None | Sink::Status(_) => {}
        }
        Ok(())
    }

    /// Stores the status of one context. All block statuses whose answers are not taken share the
    /// bound on bytes; what a server describes beyond the share of one is cut off.
    pub(super) fn take_status(
        &mut self,
        place: usize,
        context: u32,
        extents: StatusExtents<'_>,
    ) -> Result<(), ProtocolError> {
        let share = self.gate.max_bytes() / self.inflight.statuses().max(1);
        let Some(entry) = self.inflight.get_mut(place) else {
            return Ok(());
        };
        let Sink::Status(status) = &mut entry.sink else {
            return Ok(());
        };
        let most = (!entry.orphan).then(|| share.max(entry.bytes));
        status.add(context, extents, most)?;
        let beyond = status.held().saturating_sub(entry.bytes);
        entry.bytes = entry.bytes.saturating_add(beyond);
        self.gate.grow(beyond);
        Ok(())
    }

    pub(super) fn take_error(
        &mut self,
        place: usize,
        chunk: ErrorChunk,
    ) -> Result<(), ProtocolError> {
        let Some(entry) = self.inflight.get_mut(place) else {
            return Ok(());
        };
        entry.errors = entry.errors.saturating_add(1);
        if entry.errors > self.limits.error_chunks {
            return Err(ProtocolError::TooManyErrors);
        }
        // P-165: an offset outside the request says nothing and is left out.
        let end = entry.offset.saturating_add(entry.length);
        let failed_at = chunk.offset.filter(|at| (entry.offset..end).contains(at));
        let failure = entry.failure(chunk.error, chunk.message, failed_at);
        // The first error of a reply stands.
        entry.error.get_or_insert(failure);
        Ok(())
    }

    pub(super) fn is_wanted(&self, place: usize) -> bool {
        self.inflight.get(place).is_none_or(Entry::is_wanted)
    }

    /// Stores a claimed piece of data that is here in full.
    pub(super) fn store(
        &mut self,
        place: usize,
        offset: u64,
        data: &[u8],
    ) -> Result<(), ProtocolError> {
        let Some(entry) = self.inflight.get_mut(place) else {
            return Ok(());
        };
        if !entry.is_wanted() {
            return Ok(());
        }
        let start = entry.offset;
        match &mut entry.sink {
            Sink::Read(read) => {
                let position = position(start, offset)?;
                entry.starved = read.put(position, data, &self.buffers).is_err();
            }
            Sink::Chunks(..) => {
                let Ok(mut copy) = self.buffers.take(data.len()) else {
                    entry.starved = true;
                    return Ok(());
                };
                copy.extend_from_slice(data);
                let data = self.buffers.lend(copy);
                self.hand_over(place, Chunk::Data { offset, data })?;
            }
            Sink::None | Sink::Status(_) => {}
        }
        Ok(())
    }

    /// Queues a piece of a read for its caller.
    pub(super) fn hand_over(&mut self, place: usize, piece: Chunk) -> Result<(), ProtocolError> {
        let Some(entry) = self.inflight.get_mut(place).filter(|entry| !entry.orphan) else {
            return Ok(());
        };
        if let Sink::Chunks(chunks) = &mut entry.sink {
            // Each piece costs memory beyond its bytes, of which there may be a single one.
            if chunks.queue.len() as u64 >= self.limits.most_queued(entry.length) {
                return Err(ProtocolError::TooFragmented);
            }
            chunks.queue.push_back(piece);
            self.woken.extend(entry.waker.take());
        }
        Ok(())
    }

    /// Lends the place of a claimed piece of data that is still to come, if there is memory for it.
    pub(super) fn lend(
        &mut self,
        place: usize,
        offset: u64,
        length: usize,
        done: bool,
    ) -> Result<Option<Bulk>, ProtocolError> {
        let Some(entry) = self.inflight.get_mut(place) else {
            return Ok(None);
        };
        let loan = match &mut entry.sink {
            Sink::Read(read) => {
                let position = position(entry.offset, offset)?;
                read.lend(position, length, &self.buffers)
            }
            _ => self.buffers.take(length).map(Loan::own),
        };
        let Ok(loan) = loan else {
            entry.starved = true;
            return Ok(None);
        };
        Ok(Some(Bulk {
            entry: place,
            loan,
            left: length,
            done,
            offset,
        }))
    }

    /// A message of a reply is over; with `done`, so is the reply.
    pub(super) fn end_chunk(&mut self, place: usize, done: bool) -> Result<(), ProtocolError> {
        if !done {
            return Ok(());
        }
        let Some(entry) = self.inflight.get_mut(place) else {
            return Ok(());
        };
        if let Some(error) = entry.error.take() {
            // P-146, P-176: the server wants us to go; what is in flight may finish.
            if error.errno == Errno::ESHUTDOWN {
                self.refuse(Error::shutting_down());
            }
            self.conclude(place, Err(Error::Request(error)));
            return Ok(());
        }
        let (orphan, starved, length) = (entry.orphan, entry.starved, entry.length);
        let sink = match &mut entry.sink {
            // Pieces that were not taken yet stay where they are.
            Sink::Chunks(chunks) => {
                let spent = Assembly::new(0, 0, BytesMut::new());
                Sink::Read(std::mem::replace(&mut chunks.read, spent))
            }
            sink => std::mem::replace(sink, Sink::None),
        };
        let answer = match sink {
            Sink::None | Sink::Chunks(..) => Answer::Done,
            Sink::Read(read) => Answer::Data(read.finish()?),
            Sink::Status(status) => Answer::Status(status.finish()?),
        };
        let result = match answer {
            _ if orphan => Ok(Answer::Done),
            _ if starved => Err(InvalidRequest::OutOfMemory { length }.into()),
            answer => Ok(answer),
        };
        self.conclude(place, result);
        Ok(())
    }
}

/// Where a claimed offset lies, in bytes from the start of its read.
fn position(start: u64, offset: u64) -> Result<usize, ProtocolError> {
    let position = offset.wrapping_sub(start);
    usize::try_from(position).map_err(|_| ProtocolError::length("read", position))
}
