//! The read of one piece of a range.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use crate::error::Result;
use crate::request::{Client, Started, op, read};

/// A read that is under way. It gives its number and the bytes.
pub(super) struct Fetch<C: Client> {
    number: u64,
    pending: Started<op::Read, C>,
}

impl<C: Client> Fetch<C> {
    /// Reads a range, which need not be aligned.
    pub(super) fn new(
        client: &C,
        number: u64,
        (offset, length): (u64, u64),
        timeout: Option<Duration>,
    ) -> Self {
        let mut request = read(client, offset, length).unaligned();
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        let pending = request.into_future();
        Self { number, pending }
    }
}

impl<C: Client> Future for Fetch<C> {
    type Output = (u64, Result<Bytes>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.pending).poll(cx));
        Poll::Ready((self.number, answer))
    }
}
