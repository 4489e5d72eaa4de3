//! The transmission phase as a pure state machine: cookies, requests in flight, reply assembly,
//! the queue of bytes to write, and the one terminal error.
//!
//! There is no runtime, no I/O and no clock here. The methods are of three kinds: for callers
//! (`poll_message`, `poll_answer`, `poll_chunk`, `abandon`), for the driver (`receive`,
//! `take_outbox`, `set_written`), and for the end (`close`, `fail`). Wakers are collected, never
//! called: the owner of the lock around a session calls them after releasing the lock.
#![allow(
    unnameable_types,
    unreachable_pub,
    reason = "public to the benches only"
)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]

mod answer;
mod assembly;
mod barrier;
mod blocked;
mod buffers;
mod cancel;
mod claims;
mod content;
mod coverage;
mod ending;
mod gate;
mod inflight;
mod ledger;
mod modify;
mod outbox;
mod ranges;
mod receive;
mod settle;
mod status;
mod submission;
mod submit;

use std::collections::BTreeMap;
use std::task::Waker;

use bytes::Bytes;

pub use assembly::Assembly;
use barrier::Barrier;
pub use buffers::{Buffers, reserve};
pub use claims::Claims;
use gate::Gate;
use inflight::{Inflight, Kind, Stage};
use ledger::Ledger;
pub use modify::Modify;
pub use outbox::{Outbox, SLICES};
pub use receive::{Bulk, Intake};
pub use settle::Place;
use settle::Settling;
pub use status::StatusAssembly;
pub use submission::{Answer, Chunks, Sink, Submission};

use crate::chunk::Chunk;
use crate::error::{Delivery, Error, RequestError};
pub use crate::extent::Context;
use crate::stats::Commands;
use crate::wire::ReplyStyle;
use crate::wire::codec::ReplyCodec;
use crate::wire::request::RequestHead;

/// The name of a request in flight: its cookie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cookie(u64);

/// The bounds on requests in flight.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The number of requests.
    pub requests: usize,
    /// The number of bytes that they hold together.
    pub bytes: u64,
}

/// The fixed start of the cookies of every connection, if there is one.
#[cfg(feature = "__internals")]
static FIXED_COOKIES: std::sync::OnceLock<u64> = std::sync::OnceLock::new();

/// Fixes the start of cookies from now on, so that the inputs of a fuzzer can name them.
#[cfg(feature = "__internals")]
pub fn fix_cookies(start: u64) {
    let _ = FIXED_COOKIES.set(start);
}

/// The transmission phase of one connection.
#[derive(Debug)]
pub struct Session {
    codec: ReplyCodec,
    inflight: Inflight,
    gate: Gate<Submission>,
    /// The requests that waited at the gate and were admitted, until their callers poll again.
    granted: BTreeMap<u64, Cookie>,
    barrier: Barrier,
    ledger: Ledger,
    settling: Settling,
    /// Whether all changes were answered when the session ended.
    is_settled: bool,
    outbox: Outbox,
    buffers: Buffers,
    /// Bytes queued since the start.
    queued: u64,
    /// Bytes written since the start, as last reported by the driver.
    written: u64,
    /// The current period of time; the driver counts it, since there is no clock here.
    epoch: u32,
    /// The time, if latency is measured; the driver and the callers tell it.
    now: Option<std::time::Duration>,
    commands: Commands,
    /// Messages queued and received.
    messages_sent: u64,
    messages_received: u64,
    /// Requests whose reply has not ended.
    pending: usize,
    /// Bytes of data that the server owes.
    expected: u64,
    /// Requests that were answered before they were fully written.
    early: Vec<usize>,
    awaiting: Option<receive::Awaiting>,
    /// The reason why no further requests are taken, if so.
    closing: Option<Error>,
    /// How many requests of several messages have messages to come.
    several: usize,
    /// Whether those messages are still taken, and `DISC` waits for them, although `closing`.
    finishing: bool,
    /// `DISC` is queued: what comes after it is ignored.
    disconnecting: bool,
    /// Whether bytes were queued that no caller has submitted.
    unprompted: bool,
    ended: Option<Error>,
    woken: Vec<Waker>,
}

impl Session {
    /// Creates a session for replies of this style. `first_cookie` is the start of cookies.
    pub fn new(style: ReplyStyle, bounds: Bounds, first_cookie: u64) -> Self {
        Self {
            codec: ReplyCodec::new(style),
            inflight: Inflight::new(first_cookie),
            gate: Gate::new(bounds.requests, bounds.bytes),
            granted: BTreeMap::new(),
            barrier: Barrier::default(),
            ledger: Ledger::default(),
            settling: Settling::default(),
            is_settled: false,
            outbox: Outbox::default(),
            buffers: Buffers::default(),
            queued: 0,
            written: 0,
            epoch: 0,
            now: None,
            commands: Commands::default(),
            messages_sent: 0,
            messages_received: 0,
            pending: 0,
            expected: 0,
            early: Vec::new(),
            awaiting: None,
            closing: None,
            several: 0,
            finishing: false,
            disconnecting: false,
            unprompted: false,
            ended: None,
            woken: Vec::new(),
        }
    }

    /// Returns a start for cookies that a server cannot guess.
    pub fn random_cookie() -> u64 {
        Inflight::random_start()
    }

    /// Returns whether requests are taken, or messages that continue one that has begun.
    const fn takes(&self, continues: bool) -> bool {
        self.ended.is_none() && (self.closing.is_none() || (continues && self.finishing))
    }

    /// Returns the reason why no request is taken any more, or no message that continues one that has
    /// begun, if so.
    pub fn refusal(&self, continues: bool) -> Option<Error> {
        if self.takes(continues) {
            return None;
        }
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

    /// Returns the buffers of reads.
    pub const fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// Tells the time, if latency is measured.
    #[inline]
    pub const fn set_now(&mut self, now: Option<std::time::Duration>) {
        self.now = now;
    }

    /// Returns the counts of all commands.
    #[allow(private_interfaces, reason = "for the driver only")]
    pub const fn commands(&self) -> &Commands {
        &self.commands
    }

    /// Returns how many messages were queued and received.
    pub const fn messages(&self) -> (u64, u64) {
        (self.messages_sent, self.messages_received)
    }

    /// Returns the number of unanswered requests.
    pub const fn in_flight(&self) -> usize {
        self.pending
    }

    /// Begins a new epoch.
    pub const fn begin_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Returns whether a request that was queued more than `epochs` epochs ago is in flight. One that
    /// was answered early is, until the server has taken the rest of it.
    pub fn is_any_before(&self, epochs: u32) -> bool {
        self.inflight.iter().any(|entry| {
            !matches!(entry.stage, Stage::Done(_)) && self.epoch.wrapping_sub(entry.epoch) > epochs
        })
    }

    /// Returns how many bytes of data the server owes.
    pub const fn expected(&self) -> u64 {
        self.expected
    }

    /// Swaps the queued bytes with `into`, which is empty.
    pub fn take_outbox(&mut self, into: &mut Outbox) {
        std::mem::swap(&mut self.outbox, into);
    }

    /// Returns whether bytes are queued.
    pub fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Returns whether bytes were queued that no caller has submitted, since the last call.
    pub const fn take_unprompted(&mut self) -> bool {
        std::mem::replace(&mut self.unprompted, false)
    }

    /// Returns whether a request was answered and is not fully written yet.
    pub fn has_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// Moves the wakers of all tasks that have something to poll into `into`.
    pub fn take_woken(&mut self, into: &mut Vec<Waker>) {
        if into.is_empty() {
            std::mem::swap(&mut self.woken, into);
        } else {
            into.append(&mut self.woken);
        }
    }

    /// Returns whether acknowledged changes may not be durable.
    pub const fn has_unflushed(&self) -> bool {
        self.ledger.has_unflushed()
    }

    /// Returns the flush that has failed first, unless that is forgiven.
    pub const fn flush_failure(&self) -> Option<&RequestError> {
        self.ledger.failure()
    }

    /// Lets flushes succeed again after one has failed.
    pub fn clear_flush_error(&mut self) {
        self.ledger.forgive();
    }

    /// Frees memory of an idle connection.
    pub fn shrink(&mut self) {
        self.outbox.shrink();
        self.inflight.shrink();
        self.buffers.shrink();
        self.woken.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests;
