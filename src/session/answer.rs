//! Answers: kept until their request is fully written, and then until their caller takes them.

use std::task::{Poll, Waker};

use super::{Answer, Cookie, Kind, Session, Sink, Stage};
use crate::chunk::Chunk;
use crate::error::Error;

impl Session {
    /// Takes the answer to a request. It can be taken once.
    pub fn poll_answer(&mut self, cookie: Cookie, waker: &Waker) -> Poll<Result<Answer, Error>> {
        let Some(slot) = self.inflight.find_request(cookie.0) else {
            return Poll::Ready(Err(self.ended.clone().unwrap_or_else(Error::closed)));
        };
        if let Some(entry) = self.inflight.get_mut(slot) {
            if !matches!(entry.stage, Stage::Done(_)) {
                match &mut entry.waker {
                    Some(old) => old.clone_from(waker),
                    old => *old = Some(waker.clone()),
                }
                return Poll::Pending;
            }
        }
        match self.inflight.remove(slot).map(|entry| entry.stage) {
            Some(Stage::Done(result)) => Poll::Ready(result.map_err(|error| *error)),
            _ => Poll::Pending,
        }
    }

    /// Takes the next piece of a structured read. Returns `None` after the last one.
    pub fn poll_chunk(
        &mut self,
        cookie: Cookie,
        waker: &Waker,
    ) -> Poll<Option<Result<Chunk, Error>>> {
        let slot = self.inflight.find_request(cookie.0);
        if let Some(entry) = slot.and_then(|slot| self.inflight.get_mut(slot)) {
            if let Sink::Chunks(chunks) = &mut entry.sink {
                if let Some(chunk) = chunks.queue.pop_front() {
                    return Poll::Ready(Some(Ok(chunk)));
                }
            }
        }
        match self.poll_answer(cookie, waker) {
            Poll::Ready(Ok(_)) => Poll::Ready(None),
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Records how many bytes have been written since the start, and completes the requests that
    /// were answered early and are fully written now.
    pub fn set_written(&mut self, written: u64) {
        self.written = written;
        if self.early.is_empty() {
            return;
        }
        for slot in std::mem::take(&mut self.early) {
            let Some(entry) = self.inflight.get_mut(slot) else {
                continue;
            };
            if entry.sent.end > written {
                self.early.push(slot);
            } else if let Stage::Early(result) = std::mem::replace(&mut entry.stage, Stage::Waiting)
            {
                self.complete(slot, result.map_err(|error| *error));
            }
        }
    }

    /// Ends the reply to a request. The answer is kept back until the request is fully written, so
    /// that the bound on requests in flight holds.
    pub(super) fn conclude(&mut self, slot: usize, result: Result<Answer, Error>) {
        let Some(entry) = self.inflight.get_mut(slot) else {
            return;
        };
        if entry.sent.end > self.written {
            entry.stage = Stage::Early(result.map_err(Box::new));
            self.early.push(slot);
        } else {
            self.complete(slot, result);
        }
    }

    /// Completes a request, and queues the requests that waited for its room.
    pub(super) fn complete(&mut self, slot: usize, result: Result<Answer, Error>) {
        self.retire(slot, result);
        if self.gate.has_waiting() {
            self.grant();
        }
    }

    /// Completes a request: frees its room at the gate, and keeps the answer for its caller. A block
    /// that was read to be changed is written first.
    pub(super) fn retire(&mut self, slot: usize, result: Result<Answer, Error>) {
        let result = match result {
            Ok(Answer::Block(block)) => match self.write_back(slot, *block) {
                Ok(()) => return,
                Err(result) => result,
            },
            result => result,
        };
        let Some(entry) = self.inflight.get_mut(slot) else {
            return;
        };
        self.pending = self.pending.saturating_sub(1);
        self.gate.free(entry.bytes);
        self.expected = self.expected.saturating_sub(entry.data());
        let bytes = result.is_ok().then_some(entry.length);
        let took = self.now.map(|now| now.saturating_sub(entry.begun));
        self.commands.record(entry.command, bytes, took);
        let kind = entry.kind;
        let result = match kind {
            Kind::Flush { covered } => self.ledger.flushed(covered, result),
            Kind::Change { .. } if !entry.fua && result.is_ok() => {
                self.ledger.acknowledge();
                result
            }
            _ => result,
        };
        if entry.abandoned || self.gate.tracks_changes() {
            if let Some(changes) = entry.changes() {
                self.gate.answered(&changes, slot as u64);
            }
        }
        if entry.abandoned {
            self.inflight.remove(slot);
        } else {
            entry.stage = Stage::Done(result.map_err(Box::new));
            self.woken.extend(entry.waker.take());
        }
        if let Kind::Change { span } = kind {
            self.end_change(span);
        }
    }
}
