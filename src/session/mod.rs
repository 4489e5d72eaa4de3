//! The transmission phase as a pure state machine: cookies, requests in flight, reply assembly,
//! the queue of bytes to write, and the one terminal error.
//!
//! No runtime, no I/O, no clock. Three kinds of methods: what callers do (`poll_submit`,
//! `poll_answer`, `poll_chunk`, `abandon`), what the driver does (`receive`, `take_outbox`,
//! `set_written`), and how it ends (`close`, `fail`). Wakers are collected, never called: whoever
//! holds the lock around a session calls them after letting go of it.
#![allow(
    missing_docs,
    unnameable_types,
    unreachable_pub,
    reason = "public to the benches only"
)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]

mod assembly;
mod barrier;
mod buffers;
mod cancel;
mod content;
mod coverage;
mod ending;
mod fence;
mod gate;
mod inflight;
mod ledger;
mod outbox;
mod ranges;
mod receive;
mod status;
mod submit;

use std::collections::{BTreeMap, VecDeque};
use std::task::{Poll, Waker};

use bytes::{Bytes, BytesMut};

pub use assembly::Assembly;
use barrier::Barrier;
pub use buffers::{Buffers, reserve};
use gate::Gate;
use inflight::{Inflight, Stage};
use ledger::Ledger;
pub use outbox::{Outbox, SLICES};
pub use receive::{Bulk, Intake};
pub use status::StatusAssembly;

use crate::chunk::Chunk;
use crate::error::{Delivery, Error};
use crate::extent::BlockStatus;
pub use crate::extent::Context;
use crate::limits::Limits;
use crate::wire::codec::ReplyCodec;
use crate::wire::request::RequestHead;
use crate::wire::{Command, CommandFlags, ReplyStyle};

/// A request as a caller hands it in: checked, and not longer than one message can be.
#[derive(Debug)]
pub struct Submission {
    pub command: Command,
    pub flags: CommandFlags,
    pub offset: u64,
    /// The length of the request in its header, in bytes.
    pub length: u64,
    pub payload: Bytes,
    pub sink: Sink,
}

/// Where the content of a reply goes.
#[derive(Debug)]
pub enum Sink {
    /// The command has no content.
    None,
    /// Into one buffer.
    Read(Assembly),
    /// Into a queue, piece by piece.
    Chunks(Box<Chunks>),
    /// Into lists of extents.
    Status(Box<StatusAssembly>),
}

/// Pieces of a read that wait to be taken.
#[derive(Debug)]
pub struct Chunks {
    /// Watches coverage only.
    pub read: Assembly,
    pub queue: VecDeque<Chunk>,
}

/// What a successful request gives.
#[derive(Debug)]
pub enum Answer {
    Done,
    Data(BytesMut),
    Status(BlockStatus),
}

/// Names a request in flight: its cookie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ticket(u64);

/// Bounds on what is in flight.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub requests: usize,
    pub bytes: u64,
}

/// Where the cookies of every connection start, if that is fixed.
#[cfg(feature = "__internals")]
static FIXED_COOKIES: std::sync::OnceLock<u64> = std::sync::OnceLock::new();

/// Makes cookies start here from now on, so that the inputs of a fuzzer can name them.
#[cfg(feature = "__internals")]
pub fn fix_cookies(start: u64) {
    let _ = FIXED_COOKIES.set(start);
}

/// The transmission phase of one connection.
#[derive(Debug)]
pub struct Session {
    codec: ReplyCodec,
    limits: Limits,
    inflight: Inflight,
    gate: Gate<Submission>,
    /// What waited at the gate and was let go, until its caller looks.
    granted: BTreeMap<u64, Ticket>,
    barrier: Barrier,
    ledger: Ledger,
    outbox: Outbox,
    buffers: Buffers,
    /// Bytes queued since the start.
    queued: u64,
    /// Bytes written since the start, as far as is known here.
    written: u64,
    /// Counts periods of time: there is no clock here.
    epoch: u32,
    /// Messages queued and received.
    messages_sent: u64,
    messages_received: u64,
    /// Requests whose reply has not ended.
    pending: usize,
    /// Bytes of data that are to come.
    expected: u64,
    /// Requests that were answered before they were fully written.
    early: Vec<usize>,
    awaiting: Option<receive::Awaiting>,
    /// Why no further requests are taken, if they are not.
    closing: Option<Error>,
    /// `DISC` is queued: what comes after it is ignored.
    disconnecting: bool,
    ended: Option<Error>,
    woken: Vec<Waker>,
}

impl Session {
    pub fn new(style: ReplyStyle, bounds: Bounds, first_cookie: u64) -> Self {
        Self {
            codec: ReplyCodec::new(style),
            limits: Limits::default(),
            inflight: Inflight::new(first_cookie),
            gate: Gate::new(bounds.requests, bounds.bytes),
            granted: BTreeMap::new(),
            barrier: Barrier::default(),
            ledger: Ledger::default(),
            outbox: Outbox::default(),
            buffers: Buffers::default(),
            queued: 0,
            written: 0,
            epoch: 0,
            messages_sent: 0,
            messages_received: 0,
            pending: 0,
            expected: 0,
            early: Vec::new(),
            awaiting: None,
            closing: None,
            disconnecting: false,
            ended: None,
            woken: Vec::new(),
        }
    }

    /// The same with other limits on what the server may send.
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// A start for cookies that a server cannot guess.
    pub fn random_cookie() -> u64 {
        Inflight::random_start()
    }

    /// Why no request is taken any more, if none is.
    pub fn refusal(&self) -> Option<Error> {
        if let Some(error) = &self.ended {
            return Some(error.clone().delivered(Delivery::NotSent));
        }
        self.closing.clone()
    }

    fn push(&mut self, head: &RequestHead, payload: Bytes) {
        let sent = self.outbox.push(self.codec, head, payload);
        self.queued = self.queued.wrapping_add(sent);
        self.messages_sent = self.messages_sent.wrapping_add(1);
    }

    /// Where the buffers of reads come from and go back to.
    pub const fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// How many messages have been queued and received.
    pub const fn messages(&self) -> (u64, u64) {
        (self.messages_sent, self.messages_received)
    }

    /// Takes the answer to a request, once.
    pub fn poll_answer(&mut self, ticket: Ticket, waker: &Waker) -> Poll<Result<Answer, Error>> {
        let Some(place) = self.inflight.find(ticket.0) else {
            return Poll::Ready(Err(self.ended.clone().unwrap_or_else(Error::closed)));
        };
        if let Some(entry) = self.inflight.get_mut(place) {
            if !matches!(entry.stage, Stage::Done(_)) {
                match &mut entry.waker {
                    Some(old) => old.clone_from(waker),
                    old => *old = Some(waker.clone()),
                }
                return Poll::Pending;
            }
        }
        match self.inflight.remove(place).map(|entry| entry.stage) {
            Some(Stage::Done(result)) => Poll::Ready(result),
            _ => Poll::Pending,
        }
    }

    /// Takes the next piece of a structured read; `None` after the last.
    pub fn poll_chunk(
        &mut self,
        ticket: Ticket,
        waker: &Waker,
    ) -> Poll<Option<Result<Chunk, Error>>> {
        let place = self.inflight.find(ticket.0);
        if let Some(entry) = place.and_then(|place| self.inflight.get_mut(place)) {
            if let Sink::Chunks(chunks) = &mut entry.sink {
                if let Some(chunk) = chunks.queue.pop_front() {
                    return Poll::Ready(Some(Ok(chunk)));
                }
            }
        }
        match self.poll_answer(ticket, waker) {
            Poll::Ready(Ok(_)) => Poll::Ready(None),
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// How many requests are not answered yet.
    pub const fn in_flight(&self) -> usize {
        self.pending
    }

    /// A further period of time begins.
    pub const fn begin_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Whether the server still owes the reply to a request that was queued more than so many
    /// epochs ago.
    pub fn is_any_before(&self, epochs: u32) -> bool {
        self.inflight.iter().any(|entry| {
            matches!(entry.stage, Stage::Waiting) && self.epoch.wrapping_sub(entry.epoch) > epochs
        })
    }

    /// How many bytes of data the server owes.
    pub const fn expected(&self) -> u64 {
        self.expected
    }

    /// Takes all that is queued, to be written.
    pub fn take_outbox(&mut self, into: &mut Outbox) {
        std::mem::swap(&mut self.outbox, into);
    }

    /// Whether something is queued.
    pub fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Takes note of how many bytes have been written since the start.
    pub fn set_written(&mut self, written: u64) {
        self.written = written;
        if self.early.is_empty() {
            return;
        }
        for place in std::mem::take(&mut self.early) {
            let Some(entry) = self.inflight.get_mut(place) else {
                continue;
            };
            if entry.sent.end > written {
                self.early.push(place);
            } else if let Stage::Early(result) = std::mem::replace(&mut entry.stage, Stage::Waiting)
            {
                self.complete(place, result);
            }
        }
    }

    /// How many bytes have been written since the start, as far as is known here.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Whether a request was answered before it was fully written.
    pub fn has_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// Takes the wakers of everybody who has something to look at.
    pub fn take_woken(&mut self, into: &mut Vec<Waker>) {
        if into.is_empty() {
            std::mem::swap(&mut self.woken, into);
        } else {
            into.append(&mut self.woken);
        }
    }

    /// The reply to a request has ended: hands the answer over, or keeps it until the request is
    /// fully written, so that what is in flight stays bounded.
    fn conclude(&mut self, place: usize, result: Result<Answer, Error>) {
        let Some(entry) = self.inflight.get_mut(place) else {
            return;
        };
        if entry.sent.end > self.written {
            entry.stage = Stage::Early(result);
            self.early.push(place);
        } else {
            self.complete(place, result);
        }
    }

    fn complete(&mut self, place: usize, result: Result<Answer, Error>) {
        let Some(entry) = self.inflight.get_mut(place) else {
            return;
        };
        self.pending = self.pending.saturating_sub(1);
        self.gate.leave(entry.bytes);
        self.expected = self.expected.saturating_sub(entry.data());
        let (changes, mark) = (entry.changes(), entry.mark);
        let result = match entry.command {
            Command::FLUSH => self.ledger.flushed(mark, result),
            _ => result,
        };
        if changes.is_some() && !entry.fua && result.is_ok() {
            self.ledger.acknowledge();
        }
        if entry.orphan {
            if let Some(changes) = &changes {
                self.gate.answered(changes, place as u64);
            }
            self.inflight.remove(place);
        } else {
            entry.stage = Stage::Done(result);
            self.woken.extend(entry.waker.take());
        }
        if changes.is_some() {
            self.end_change(mark);
        }
        if self.gate.has_waiting() {
            self.grant();
        }
    }

    /// Whether changes are acknowledged that are not known to be durable.
    pub const fn has_unflushed(&self) -> bool {
        self.ledger.has_unflushed()
    }

    /// Lets flushes succeed again although one has failed.
    pub fn clear_flush_error(&mut self) {
        self.ledger.forgive();
    }

    /// Gives memory back; for a connection that is idle.
    pub fn release(&mut self) {
        self.outbox.release();
        self.inflight.release();
        self.buffers.release();
        self.woken.shrink_to(16);
    }
}

#[cfg(test)]
mod tests;
