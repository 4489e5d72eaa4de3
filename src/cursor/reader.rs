//! The part of a cursor that reads.

use std::ops::Range;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use super::window::Window;
use crate::chunk::Chunk;
use crate::error::Result;
use crate::request::Client;
use crate::stream::ReadAhead;

/// Reads, and reads ahead while it is read in order.
pub(super) struct Reader<C: Client> {
    client: C,
    pub(super) window: Window,
    pub(super) timeout: Option<Duration>,
    /// Whether nothing was read yet. The first read counts as one in order.
    is_new: bool,
    /// The piece that was taken last, and its offset in the export.
    piece: Bytes,
    start: u64,
    /// What follows the piece.
    ahead: Option<ReadAhead<C>>,
}

impl<C: Client> Reader<C> {
    pub(super) const fn new(client: C) -> Self {
        Self {
            client,
            window: Window::new(),
            timeout: None,
            is_new: true,
            piece: Bytes::new(),
            start: 0,
            ahead: None,
        }
    }

    /// Drops what was read or requested.
    pub(super) fn clear(&mut self) {
        self.piece.clear();
        self.ahead = None;
    }

    /// Returns the bytes that are there at the beginning of `range`, which lies inside the export: at
    /// least one, unless the range is empty. `wanted` is how many the caller wants.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        range: Range<u64>,
        wanted: usize,
    ) -> Poll<Result<&[u8]>> {
        let skip = loop {
            if let Some(skip) = self.find(range.start) {
                break skip;
            }
            if range.is_empty() {
                break self.piece.len();
            }
            if !self.leads_to(range.start) {
                self.begin(range.clone());
            }
            match ready!(self.poll_piece(cx, wanted)) {
                Ok(piece) => {
                    self.start = self.next();
                    self.piece = piece;
                }
                Err(error) => {
                    self.clear();
                    return Poll::Ready(Err(error));
                }
            }
        };
        Poll::Ready(Ok(self.piece.get(skip..).unwrap_or_default()))
    }

    /// Returns where in the piece an offset of the export is.
    fn find(&self, offset: u64) -> Option<usize> {
        let skip = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        (skip < self.piece.len()).then_some(skip)
    }

    /// The offset in the export of what follows the piece.
    fn next(&self) -> u64 {
        self.start + self.piece.len() as u64
    }

    /// Returns whether an offset is among what was requested, or follows it.
    fn leads_to(&self, offset: u64) -> bool {
        let next = self.next();
        let Some(ahead) = &self.ahead else {
            return false;
        };
        next <= offset && offset <= ahead.reached().unwrap_or(next)
    }

    /// Begins to read elsewhere.
    fn begin(&mut self, range: Range<u64>) {
        self.window.close();
        if self.is_new {
            self.window.open();
        }
        self.is_new = false;
        self.piece.clear();
        self.start = range.start;
        self.ahead = Some(ReadAhead::range(self.client.clone(), range));
    }

    /// Returns the next piece. It is empty if there is none.
    fn poll_piece(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<Bytes>> {
        let next = self.next();
        let Some(ahead) = &mut self.ahead else {
            return Poll::Ready(Ok(Bytes::new()));
        };
        if ahead.is_drained() {
            if self.window.is_closed() && ahead.reached().is_some() {
                // What was asked for at first is taken, and the caller goes on.
                self.window.open();
            }
            ahead.until = match self.window.is_closed() {
                true => next.saturating_add(Window::probe(wanted)),
                false => u64::MAX,
            };
        }
        ahead.settings = self.window.settings(self.timeout);
        Poll::Ready(match ready!(ahead.poll_chunk(cx)?) {
            Some(Chunk::Data { data, .. }) => {
                self.window.take(data.len() as u64);
                Ok(data)
            }
            Some(Chunk::Hole { .. } | Chunk::Error { .. }) | None => {
                // Cannot be: a range is read as a whole, and up to its end.
                self.ahead = None;
                Ok(Bytes::new())
            }
        })
    }
}
