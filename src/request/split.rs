//! Requests that are several messages: reads and writes longer than one message can be, side by
//! side, and changes with a flush after them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::future::try_join_all;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::execute::{Execute, Range};
use super::op::{Flush, Operation, ReadInto, Write};
use super::pending::Pending;
use crate::connection::Connection;
use crate::error::{Delivery, Result};
use crate::wire::CommandFlags;

/// How much of a long read is asked for ahead of what has come, in bytes, as long as that is not
/// less than four messages: requests that come in between wait for no more than that.
const AHEAD: u64 = 4 << 20;

/// A request that is several messages.
pub(super) struct Parts<T> {
    whole: Pin<Box<dyn Future<Output = Result<T>> + Send>>,
    sent: Sent,
}

/// Whether any message of a request was sent.
#[derive(Clone, Default)]
struct Sent(Arc<AtomicBool>);

impl Sent {
    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<T: 'static> Parts<T> {
    fn new(sent: Sent, whole: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        let whole = Box::pin(whole);
        Self { whole, sent }
    }

    /// The same with another result.
    pub(super) fn map<U: 'static>(self, map: impl FnOnce(T) -> U + Send + 'static) -> Parts<U> {
        let whole = self.whole;
        Parts::new(self.sent, async { whole.await.map(map) })
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let result = std::task::ready!(self.whole.as_mut().poll(cx));
        Poll::Ready(result.map_err(|error| {
            // If one message fails, others may have been sent, whatever is true of it.
            self.whole = Box::pin(std::future::pending());
            match self.is_sent() {
                true => error.delivered(Delivery::MaybeSent),
                false => error,
            }
        }))
    }

    /// Lets go of it; says whether any part of it was sent.
    pub(super) fn give_up(self) -> bool {
        drop(self.whole);
        self.sent.get()
    }

    /// Whether any part of it was sent.
    pub(super) fn is_sent(&self) -> bool {
        self.sent.get()
    }
}

/// One of several messages, which tells when it is sent.
struct Part<O: Operation> {
    pending: Pending<O>,
    sent: Sent,
}

impl<O: Execute> Future for Part<O> {
    type Output = Result<O::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = Pin::new(&mut self.pending).poll(cx);
        if self.pending.is_sent() || matches!(result, Poll::Ready(Ok(_))) {
            self.sent.0.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// The ranges of the messages that make up `range`, each of at most `step` bytes.
fn ranges(range: Range, step: u64) -> impl Iterator<Item = Range> {
    let Range {
        mut offset,
        mut length,
    } = range;
    std::iter::from_fn(move || {
        let now = Range {
            offset,
            length: length.min(step),
        };
        offset = offset.saturating_add(now.length);
        length -= now.length;
        (now.length > 0).then_some(now)
    })
}

impl<O: Operation> Drop for Part<O> {
    fn drop(&mut self) {
        if self.pending.release() {
            self.sent.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Reads `range` into `buffer`, each message straight into its part of it.
pub(super) fn read(
    connection: &Connection,
    mut buffer: BytesMut,
    range: Range,
    step: u64,
    flags: CommandFlags,
) -> Parts<BytesMut> {
    buffer.clear();
    buffer.reserve(usize::try_from(range.length).unwrap_or(usize::MAX));
    let (sent, mut parts) = (Sent::default(), Vec::new());
    for range in ranges(range, step) {
        let end = usize::try_from(range.length)
            .unwrap_or(usize::MAX)
            .min(buffer.capacity());
        let rest = buffer.split_off(end);
        let part = ReadInto(std::mem::replace(&mut buffer, rest));
        parts.push(Part {
            pending: Pending::new(connection.clone(), part, range, flags, None),
            sent: sent.clone(),
        });
    }
    let ahead = usize::try_from(AHEAD / step).unwrap_or(usize::MAX).max(4);
    Parts::new(sent, async move {
        let parts = stream::iter(parts).buffered(ahead);
        let mut parts = parts.try_collect::<Vec<_>>().await?.into_iter();
        let mut whole = parts.next().unwrap_or_default();
        // Neighbours in memory: joining them moves nothing.
        parts.for_each(|part| whole.unsplit(part));
        Ok(whole)
    })
}

/// Writes `data` at `range`.
pub(super) fn write(
    connection: &Connection,
    mut data: Bytes,
    range: Range,
    step: u64,
    flags: CommandFlags,
) -> Parts<()> {
    let (sent, mut parts) = (Sent::default(), Vec::new());
    for range in ranges(range, step) {
        let end = usize::try_from(range.length)
            .unwrap_or(usize::MAX)
            .min(data.len());
        let part = Write(data.split_to(end));
        parts.push(Part {
            pending: Pending::new(connection.clone(), part, range, flags, None),
            sent: sent.clone(),
        });
    }
    Parts::new(sent, async move { try_join_all(parts).await.map(drop) })
}

/// Makes a change, and then a flush in place of `FUA`.
pub(super) fn flushed<O: Execute<Output = ()>>(
    connection: &Connection,
    change: O,
    range: Range,
    flags: CommandFlags,
) -> Parts<()> {
    let sent = Sent::default();
    let change = Part {
        pending: Pending::new(connection.clone(), change, range, flags, None),
        sent: sent.clone(),
    };
    let (nowhere, none) = (Range::default(), CommandFlags::empty());
    let flush = Part {
        pending: Pending::new(connection.clone(), Flush, nowhere, none, None),
        sent: sent.clone(),
    };
    Parts::new(sent, async {
        change.await?;
        flush.await
    })
}
