//! Reads ahead: a bounded number of bytes are requested before they are taken, and are returned in
//! order.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::FuturesUnordered;

use super::blocks::Blocks;
use super::fetch::Fetch;
use super::source::{Source, Span};
use crate::chunk::Chunk;
use crate::error::Result;
use crate::request::{Client, bounds};

/// What a request counts at least, so that there are not too many small ones. Where all requests are
/// smaller, it is their length.
const LEAST_COST: u64 = 4096;

/// How much is read ahead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The length of a request in bytes, bounded by the sizes of the export when that is known. Servers
    /// have a cost for each request, which smaller ones show.
    pub(crate) request: u64,
    /// How much is requested before its bytes are taken.
    pub(crate) reach: Reach,
    pub(crate) timeout: Option<Duration>,
}

/// How far requests are ahead of the caller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reach {
    /// So many requests.
    Requests(u64),
    Bytes(u64),
}

impl Settings {
    /// Returns how many bytes are requested or kept at a time.
    const fn window(self) -> u64 {
        match self.reach {
            Reach::Requests(depth) => self.request.saturating_mul(depth),
            Reach::Bytes(bytes) => bytes,
        }
    }

    /// Returns what a request or a hole counts at least: as many as were asked for always fit.
    fn least_cost(self) -> u64 {
        LEAST_COST.min(self.request)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            request: 256 << 10,
            reach: Reach::Requests(4),
            timeout: None,
        }
    }
}

/// Reads the spans of a source in order.
pub(crate) struct ReadAhead<C: Client> {
    client: C,
    pub(crate) settings: Settings,
    source: Source<C>,
    blocks: Option<Blocks>,
    /// The part of a span that was not requested yet.
    rest: Option<Span>,
    in_flight: FuturesUnordered<Fetch<C>>,
    /// What was requested or is known to be zero, and was not taken yet.
    slots: VecDeque<Slot>,
    /// The number of the first slot.
    first: u64,
    /// The sum of what the slots count.
    charged: u64,
    /// The offset up to which requests are made.
    pub(crate) until: u64,
    /// The end of the last request.
    reached: Option<u64>,
    is_over: bool,
}

struct Slot {
    offset: u64,
    cost: u64,
    result: Option<Result<Chunk>>,
}

impl<C: Client> ReadAhead<C> {
    pub(super) fn new(client: C, source: Source<C>) -> Self {
        Self {
            client,
            settings: Settings::default(),
            source,
            blocks: None,
            rest: None,
            in_flight: FuturesUnordered::new(),
            slots: VecDeque::new(),
            first: 0,
            charged: 0,
            until: u64::MAX,
            reached: None,
            is_over: false,
        }
    }

    /// Reads a range that lies inside the export.
    pub(crate) fn range(client: C, range: Range<u64>) -> Self {
        Self::new(client, Source::Whole(bounds(&range)))
    }

    /// Returns the offset up to which bytes were requested, if any were.
    pub(crate) const fn reached(&self) -> Option<u64> {
        self.reached
    }

    /// Returns whether everything that was requested has been taken.
    pub(crate) fn is_drained(&self) -> bool {
        self.slots.is_empty()
    }

    /// Requests what there is room for, and stores the answers that have come.
    fn advance(&mut self, cx: &mut Context<'_>) {
        if let Err(error) = self.start(cx) {
            self.is_over = true;
            self.push(0, 0, Some(Err(error)));
        }
        while let Poll::Ready(Some((number, result))) = Pin::new(&mut self.in_flight).poll_next(cx)
        {
            let index = usize::try_from(number - self.first).unwrap_or(usize::MAX);
            if let Some(slot) = self.slots.get_mut(index) {
                let offset = slot.offset;
                slot.result = Some(result.map(|data| Chunk::Data { offset, data }));
            }
        }
    }

    /// Makes requests for as much as there is room for.
    fn start(&mut self, cx: &mut Context<'_>) -> Result<()> {
        while !self.is_over && self.has_room(self.settings.least_cost()) {
            let Some(span) = self.rest.take().filter(|span| span.length > 0) else {
                match self
                    .source
                    .poll_next(&self.client, self.settings.timeout, cx)?
                {
                    Poll::Ready(Some(span)) => self.rest = Some(span),
                    Poll::Ready(None) => self.is_over = true,
                    Poll::Pending => break,
                }
                continue;
            };
            if !self.request(span)? {
                self.rest = Some(span);
                break;
            }
        }
        Ok(())
    }

    /// Requests the beginning of a span, if there is room. Returns whether there was.
    fn request(&mut self, span: Span) -> Result<bool> {
        let Span { offset, length, .. } = span;
        let blocks = match self.blocks {
            Some(blocks) => blocks,
            None => *self.blocks.insert(Blocks::of(&self.client)?),
        };
        self.settings.request = blocks.request(self.settings.request);
        if span.is_zero {
            let hole = Chunk::Hole { offset, length };
            self.push(offset, self.settings.least_cost(), Some(Ok(hole)));
            return Ok(true);
        }
        let left = length.min(self.until.saturating_sub(offset));
        let step = blocks.cut(offset, self.settings.request, left);
        let cost = step.max(self.settings.least_cost());
        if step == 0 || !self.has_room(cost) {
            return Ok(false);
        }
        let number = self.first + self.slots.len() as u64;
        let range = (offset, step);
        let fetch = Fetch::new(&self.client, number, range, self.settings.timeout);
        self.in_flight.push(fetch);
        self.push(offset, cost, None);
        self.reached = Some(offset + step);
        self.rest = Some(Span {
            offset: offset + step,
            length: length - step,
            is_zero: false,
        });
        Ok(true)
    }

    /// Returns whether a request that counts `cost` may be made. One may be in any case.
    fn has_room(&self, cost: u64) -> bool {
        self.slots.is_empty() || self.charged + cost <= self.settings.window()
    }

    fn push(&mut self, offset: u64, cost: u64, result: Option<Result<Chunk>>) {
        self.charged += cost;
        self.slots.push_back(Slot {
            offset,
            cost,
            result,
        });
    }

    /// Returns the next piece. Nothing follows an error or the end.
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk>>> {
        self.advance(cx);
        let Some(slot) = self.slots.front_mut() else {
            return match self.is_over {
                true => Poll::Ready(None),
                false => Poll::Pending,
            };
        };
        let Some(result) = slot.result.take() else {
            return Poll::Pending;
        };
        self.charged -= slot.cost;
        self.slots.pop_front();
        self.first += 1;
        match result {
            // The requests that follow are under way while the caller uses this piece.
            Ok(_) => self.advance(cx),
            Err(_) => self.stop(),
        }
        Poll::Ready(Some(result))
    }

    /// Drops what is in flight.
    fn stop(&mut self) {
        self.is_over = true;
        self.source = Source::Over;
        self.slots.clear();
        self.in_flight.clear();
    }
}

impl<C: Client> fmt::Debug for ReadAhead<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadAhead")
            .field("settings", &self.settings)
            .field("source", &self.source)
            .field("in_flight", &self.in_flight.len())
            .finish_non_exhaustive()
    }
}
