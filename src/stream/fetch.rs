//! The read of one piece of a range, whatever the block size of the export is.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::error::Result;
use crate::request::{Client, Started, op, read};

/// What a client and its export need of every read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    /// The size of the export in bytes.
    pub(super) size: u64,
    /// The minimum block size: offset and length of requests are multiples of it.
    pub(super) minimum: u64,
    /// The preferred block size: requests end at multiples of it, if possible.
    pub(super) preferred: u64,
    /// The largest payload of one message.
    pub(super) most: u64,
}

impl Blocks {
    pub(super) fn of<C: Client>(client: &C) -> Result<Self> {
        let export = client.exported()?;
        let minimum = u64::from(export.alignment());
        Ok(Self {
            size: export.size(),
            minimum,
            preferred: minimum.max(export.preferred().into()),
            most: export.max_payload().into(),
        })
    }

    /// Returns the length of the next request at `offset`, if it is to have `request` bytes and
    /// `left` bytes are left to read.
    pub(super) fn cut(self, offset: u64, request: u64, left: u64) -> u64 {
        let whole = request.min(self.most).max(self.minimum);
        let block = match self.preferred {
            preferred if preferred <= whole => preferred,
            _ => self.minimum,
        };
        let end = offset.saturating_add(whole);
        let length = match (end - end % block).saturating_sub(offset) {
            0 => whole,
            length => length,
        };
        length.min(left)
    }
}

/// A read that is under way. It gives its number and exactly the bytes that were asked for.
pub(super) struct Fetch<C: Client> {
    number: u64,
    /// How many bytes of the answer lie before those that were asked for.
    skip: usize,
    length: usize,
    pending: Started<op::Read, C>,
}

impl<C: Client> Fetch<C> {
    /// Makes a read of whole blocks around `length` bytes at `offset`.
    pub(super) fn new(
        client: &C,
        blocks: Blocks,
        number: u64,
        (offset, length): (u64, u64),
        timeout: Option<Duration>,
    ) -> Self {
        // P-114: offset and length are whole blocks. P-121: the export may end inside a block.
        let skip = offset % blocks.minimum;
        let start = offset - skip;
        let end = offset.saturating_add(length);
        let end = end.next_multiple_of(blocks.minimum).min(blocks.size);
        let mut request = read(client, start, end.saturating_sub(start));
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        let small = |length| usize::try_from(length).unwrap_or(usize::MAX);
        Self {
            number,
            skip: small(skip),
            length: small(length),
            pending: request.into_future(),
        }
    }
}

impl<C: Client> Future for Fetch<C> {
    type Output = (u64, Result<Bytes>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = std::task::ready!(Pin::new(&mut self.pending).poll(cx));
        let (skip, end) = (self.skip, self.skip + self.length);
        // A read gives exactly what was asked for.
        Poll::Ready((self.number, answer.map(|data| data.slice(skip..end))))
    }
}
