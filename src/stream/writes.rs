//! Changes in order, with a bounded number of bytes in flight.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::stream::FuturesUnordered;

use super::blocks::Blocks;
use crate::error::{Error, Result};
use crate::request::{Client, Request, Started, flush, op, write, write_zeroes};

/// The longest request for zeroes that are sent as data, in bytes.
const ZEROES: u64 = 256 << 10;

/// What a change counts at least, in bytes, so that there are not too many small ones.
const LEAST_COST: u64 = 4096;

/// A change that was not started yet.
#[derive(Debug)]
pub(crate) enum Change {
    Data { offset: u64, data: Bytes },
    Zeroes { offset: u64, length: u64 },
}

/// Changes in the order in which they were handed over. Two that overlap are never in flight
/// together, so that the later one prevails.
pub(crate) struct Writes<C: Client> {
    client: C,
    /// How many bytes are in flight at a time.
    pub(crate) limit: u64,
    pub(crate) timeout: Option<Duration>,
    facts: Option<Facts>,
    /// What waits, in order.
    queue: VecDeque<Change>,
    in_flight: FuturesUnordered<InFlight<C>>,
    /// The ranges of what is in flight, in whole blocks.
    ranges: Vec<Range<u64>>,
    /// The sum of what the changes in flight count.
    charged: u64,
    flush: Option<Started<op::Flush, C>>,
    /// Whether a change was handed over since the last flush.
    is_dirty: bool,
    /// The first failure. Nothing is done after it.
    error: Option<Error>,
}

/// What is known of the export.
#[derive(Clone, Copy)]
struct Facts {
    blocks: Blocks,
    can_zero: bool,
}

/// A change in flight.
struct InFlight<C: Client> {
    range: Range<u64>,
    cost: u64,
    pending: Pending<C>,
}

enum Pending<C: Client> {
    Write(Started<op::Write, C>),
    Zeroes(Started<op::WriteZeroes, C>),
}

/// A change that was answered.
struct Answered {
    range: Range<u64>,
    cost: u64,
    result: Result<()>,
}

impl<C: Client> Future for InFlight<C> {
    type Output = Answered;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        let result = match &mut self.pending {
            Pending::Write(write) => ready!(Pin::new(write).poll(cx)),
            Pending::Zeroes(zeroes) => ready!(Pin::new(zeroes).poll(cx)),
        };
        Poll::Ready(Answered {
            range: self.range.clone(),
            cost: self.cost,
            result,
        })
    }
}

impl<C: Client> Writes<C> {
    pub(crate) fn new(client: C, limit: u64) -> Self {
        Self {
            client,
            limit,
            timeout: None,
            facts: None,
            queue: VecDeque::new(),
            in_flight: FuturesUnordered::new(),
            ranges: Vec::new(),
            charged: 0,
            flush: None,
            is_dirty: false,
            error: None,
        }
    }

    /// Hands over a change. It is started when this is polled.
    pub(crate) fn push(&mut self, change: Change) {
        // A flush that was begun before does not cover it.
        self.flush = None;
        self.is_dirty = true;
        self.queue.push_back(change);
    }

    /// Waits until nothing waits to be started, and there is room in flight.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.advance(cx)?;
        let has_room = self.in_flight.is_empty() || self.charged < self.limit;
        match self.queue.is_empty() && has_room {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// Waits until every change is answered.
    pub(crate) fn poll_answered(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.advance(cx)?;
        match self.queue.is_empty() && self.in_flight.is_empty() {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// Waits until every change is answered, and then flushes, if there is something to flush.
    pub(crate) fn poll_durable(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_answered(cx))?;
        if !self.is_dirty {
            return Poll::Ready(Ok(()));
        }
        let (client, timeout) = (&self.client, self.timeout);
        let pending = self
            .flush
            .get_or_insert_with(|| timed(flush(client), timeout).into_future());
        let result = ready!(Pin::new(pending).poll(cx));
        self.flush = None;
        self.is_dirty = result.is_err();
        Poll::Ready(result)
    }

    /// Returns whether there is nothing to wait for, and nothing has failed.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_empty() && self.error.is_none()
    }

    /// Forgets the failure, and goes on.
    pub(crate) fn clear_error(&mut self) {
        self.error = None;
    }

    /// Starts what may be started, and takes the answers that have come.
    fn advance(&mut self, cx: &mut Context<'_>) -> Result<()> {
        loop {
            if let Some(error) = &self.error {
                return Err(error.clone());
            }
            let answer = self.start().map(|()| self.poll_answer(cx));
            match answer.and_then(std::convert::identity) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    self.queue.clear();
                    self.error = Some(error);
                }
            }
        }
    }

    /// Takes an answer. Returns whether there was one.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Result<bool> {
        let Poll::Ready(Some(answered)) = Pin::new(&mut self.in_flight).poll_next(cx) else {
            return Ok(false);
        };
        self.charged -= answered.cost;
        // No two of them overlap, so there is one.
        self.ranges.retain(|range| *range != answered.range);
        answered.result.map(|()| true)
    }

    /// Starts the first changes, as far as there is room and they overlap none in flight.
    fn start(&mut self) -> Result<()> {
        while !self.queue.is_empty() && (self.in_flight.is_empty() || self.charged < self.limit) {
            let facts = self.facts()?;
            let Some(next) = self.queue.front().map(|change| facts.next(change)) else {
                break;
            };
            let overlaps =
                |range: &Range<u64>| range.start < next.range.end && next.range.start < range.end;
            if self.ranges.iter().any(overlaps) {
                break;
            }
            let Some(pending) = self.begin(next.length) else {
                continue;
            };
            self.charged += next.cost;
            self.ranges.push(next.range.clone());
            self.in_flight.push(InFlight {
                cost: next.cost,
                range: next.range,
                pending,
            });
        }
        Ok(())
    }

    fn facts(&mut self) -> Result<Facts> {
        if let Some(facts) = self.facts {
            return Ok(facts);
        }
        let facts = Facts {
            blocks: Blocks::of(&self.client)?,
            can_zero: self.client.exported()?.can_zero(),
        };
        self.facts = Some(facts);
        Ok(facts)
    }

    /// Makes the request for the first `length` bytes of the first change. What is left of the
    /// change stays the first.
    fn begin(&mut self, length: u64) -> Option<Pending<C>> {
        let timeout = self.timeout;
        match self.queue.front_mut()? {
            Change::Data { offset, data } => {
                let request = write(&self.client, *offset, std::mem::take(data)).unaligned();
                self.queue.pop_front();
                (length > 0).then(|| Pending::Write(timed(request, timeout).into_future()))
            }
            Change::Zeroes {
                offset,
                length: left,
            } => {
                let start = *offset;
                (*offset, *left) = (start.saturating_add(length), *left - length);
                if *left == 0 {
                    self.queue.pop_front();
                }
                let request = write_zeroes(&self.client, start, length);
                let request = timed(request.unaligned().or_write(), timeout);
                (length > 0).then(|| Pending::Zeroes(request.into_future()))
            }
        }
    }
}

/// The next request of a change.
struct Next {
    length: u64,
    /// The whole blocks that it touches.
    range: Range<u64>,
    /// What it counts, in bytes.
    cost: u64,
}

impl Facts {
    /// Returns whether a change reaches beyond the export. As one request it is refused as a whole, unless
    /// the caller wants no check of bounds.
    fn exceeds(self, change: &Change) -> bool {
        let (offset, length) = match change {
            Change::Data { offset, data } => (*offset, data.len() as u64),
            Change::Zeroes { offset, length } => (*offset, *length),
        };
        offset
            .checked_add(length)
            .is_none_or(|end| end > self.blocks.size)
    }

    /// Returns what the next request of a change is.
    fn next(self, change: &Change) -> Next {
        let (offset, length, sent) = match change {
            Change::Data { offset, data } => (*offset, data.len() as u64, data.len() as u64),
            Change::Zeroes { offset, length } if self.can_zero || self.exceeds(change) => {
                (*offset, *length, 0)
            }
            Change::Zeroes { offset, length } => {
                let length = ZEROES.min(*length);
                (*offset, length, length)
            }
        };
        Next {
            length,
            range: self.blocks.around(offset, length),
            cost: sent.max(LEAST_COST),
        }
    }
}

/// Sets the timeout of a request, if there is one.
fn timed<O: op::Operation, C: Client>(
    request: Request<O, C>,
    timeout: Option<Duration>,
) -> Request<O, C> {
    match timeout {
        Some(timeout) => request.timeout(timeout),
        None => request,
    }
}

impl<C: Client> fmt::Debug for Writes<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writes")
            .field("limit", &self.limit)
            .field("waiting", &self.queue.len())
            .field("in_flight", &self.ranges)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}
