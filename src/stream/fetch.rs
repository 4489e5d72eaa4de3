//! The read of one piece of a range, whatever the block size of the export is.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::blocks::Blocks;
use crate::error::Result;
use crate::request::{Client, Started, op, read};

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
        let whole = blocks.around(offset, length);
        let skip = offset - whole.start;
        let mut request = read(client, whole.start, whole.end - whole.start);
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
