//! Requests that are sent as several messages: long requests, and changes with a flush after them.
//! Each message is made when it is sent.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::check::Step;
use super::execute::Execute;
use super::hold::Hold;
use super::op::{Flush, Operation, ReadInto, Write};
use super::pending::Pending;
use super::range::{Range, bytes};
use crate::connection::Connection;
use crate::error::{Delivery, Error, Result};
use crate::wire::CommandFlags;

/// How many bytes of a long request are in flight at a time, and the bounds of that as a number of
/// messages. Other requests wait behind no more than that.
const AHEAD: u64 = 4 << 20;
const LEAST_AHEAD: u64 = 4;
const MOST_AHEAD: u64 = 256;

/// A request that is sent as several messages.
pub(super) struct Parts<T> {
    whole: Whole<T>,
    sent: Sent,
}

type Boxed<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// The future of all messages. Whoever polls it has it alone, so that its lock is never waited for:
/// it makes the request `Sync`, whatever the future holds.
struct Whole<T>(Mutex<Boxed<T>>);

impl<T> Whole<T> {
    fn new(future: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Self(Mutex::new(Box::pin(future)))
    }

    fn get(&mut self) -> &mut Boxed<T> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn into_inner(self) -> Boxed<T> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether any message of a request was sent.
#[derive(Clone, Default)]
pub(super) struct Sent(Arc<AtomicBool>);

impl Sent {
    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<T: 'static> Parts<T> {
    pub(super) fn new(sent: Sent, whole: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        let whole = Whole::new(whole);
        Self { whole, sent }
    }

    /// Converts the result.
    pub(super) fn map<U: 'static>(self, map: impl FnOnce(T) -> U + Send + 'static) -> Parts<U> {
        let whole = self.whole.into_inner();
        Parts::new(self.sent, async { whole.await.map(map) })
    }

    /// Sends a flush after the request, in place of `FUA`.
    pub(super) fn then_flush(self, connection: &Connection, hold: Hold) -> Self
    where
        T: Send,
    {
        let (whole, sent) = (self.whole.into_inner(), self.sent);
        let (nowhere, none) = (Range::default(), CommandFlags::empty());
        let flush = Part::new(connection, &sent, Flush, nowhere, none, hold);
        Self::new(sent, async {
            let result = whole.await?;
            flush.await?;
            Ok(result)
        })
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let result = std::task::ready!(self.whole.get().as_mut().poll(cx));
        Poll::Ready(result.map_err(|error| {
            // If one message was not sent, others may have been.
            self.whole = Whole::new(std::future::pending());
            match self.is_sent() {
                true => error.delivered(Delivery::MaybeSent),
                false => error,
            }
        }))
    }

    /// Waits for the result.
    pub(super) async fn finish(mut self) -> Result<T> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// Abandons the request. Returns whether any part of it was sent.
    pub(super) fn give_up(self) -> bool {
        drop(self.whole);
        self.sent.get()
    }

    /// Returns whether any part of the request was sent.
    pub(super) fn is_sent(&self) -> bool {
        self.sent.get()
    }
}

/// One of several messages, which records that it was sent.
pub(super) struct Part<O: Operation> {
    pending: Pending<O>,
    sent: Sent,
}

impl<O: Execute> Part<O> {
    pub(super) fn new(
        connection: &Connection,
        sent: &Sent,
        operation: O,
        range: Range,
        flags: CommandFlags,
        hold: Hold,
    ) -> Self {
        Self {
            pending: Pending::part(connection.clone(), operation, range, flags, hold),
            sent: sent.clone(),
        }
    }
}

impl<O: Execute> Future for Part<O> {
    type Output = Result<O::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = Pin::new(&mut self.pending).poll(cx);
        // What the server has answered was sent, even if its turn came unseen.
        let is_answered = matches!(result, Poll::Ready(Ok(_) | Err(Error::Request(_))));
        if self.pending.is_sent() || is_answered {
            self.sent.0.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl<O: Operation> Drop for Part<O> {
    fn drop(&mut self) {
        if self.pending.abandon() {
            self.sent.0.store(true, Ordering::Relaxed);
        }
    }
}

/// The division of a long request into messages.
pub(super) struct Cut {
    connection: Connection,
    range: Range,
    step: Step,
    flags: CommandFlags,
    sent: Sent,
    hold: Hold,
}

impl Cut {
    pub(super) fn new(
        connection: &Connection,
        range: Range,
        step: Step,
        flags: CommandFlags,
        hold: Hold,
    ) -> Self {
        Self {
            connection: connection.clone(),
            range,
            step,
            flags,
            sent: Sent::default(),
            hold,
        }
    }

    /// Returns the length of the whole request, in bytes.
    pub(super) const fn length(&self) -> u64 {
        self.range.length
    }

    /// Returns how many messages are in flight at a time.
    fn ahead(&self) -> usize {
        if self.flags.contains(CommandFlags::FAST_ZERO) {
            // If the first message is refused, nothing has been changed.
            return 1;
        }
        let ahead = AHEAD / self.step.most.max(1);
        usize::try_from(ahead.clamp(LEAST_AHEAD, MOST_AHEAD)).unwrap_or(1)
    }

    /// Returns the messages. `make` makes each when it is its turn. The last one takes the hold along.
    fn messages<O: Execute>(
        self,
        mut make: impl FnMut(Range) -> O,
    ) -> impl Iterator<Item = Part<O>> {
        let Range {
            mut offset,
            length: mut left,
        } = self.range;
        let mut hold = Some(self.hold);
        let (connection, sent, flags) = (self.connection, self.sent, self.flags);
        std::iter::from_fn(move || {
            let length = left.min(self.step.reach(offset));
            let range = Range { offset, length };
            offset = offset.saturating_add(length);
            left -= length;
            let own = if left == 0 { hold.take() } else { hold.clone() };
            own.map(|hold| Part::new(&connection, &sent, make(range), range, flags, hold))
        })
    }
}

/// Reads into `buffer`, which has room for it. Each message reads straight into its part of the
/// buffer.
pub(super) fn read(cut: Cut, mut buffer: BytesMut) -> Parts<BytesMut> {
    buffer.clear();
    let (sent, ahead) = (cut.sent.clone(), cut.ahead());
    let parts = cut.messages(move |range| {
        let end = bytes(range.length).min(buffer.capacity());
        let rest = buffer.split_off(end);
        ReadInto(std::mem::replace(&mut buffer, rest))
    });
    let parts = stream::iter(parts).buffered(ahead);
    Parts::new(sent, async move {
        let join = |mut whole: BytesMut, part| {
            // The parts are neighbours in memory, so joining them copies nothing.
            whole.unsplit(part);
            ready(Ok(whole))
        };
        parts.try_fold(BytesMut::new(), join).await
    })
}

/// Writes `data`.
pub(super) fn write(cut: Cut, mut data: Bytes) -> Parts<()> {
    several(cut, move |range| {
        Write(data.split_to(bytes(range.length).min(data.len())))
    })
}

/// Sends the messages that `make` makes.
pub(super) fn several<O: Execute<Output = ()>>(
    cut: Cut,
    make: impl FnMut(Range) -> O + Send + 'static,
) -> Parts<()> {
    let (sent, ahead) = (cut.sent.clone(), cut.ahead());
    let parts = stream::iter(cut.messages(make)).buffer_unordered(ahead);
    Parts::new(sent, parts.try_for_each(|()| ready(Ok(()))))
}

/// Sends a change, and then a flush in place of `FUA`.
pub(super) fn flushed<O: Execute>(
    connection: &Connection,
    change: O,
    range: Range,
    flags: CommandFlags,
    hold: Hold,
) -> Parts<O::Output> {
    let sent = Sent::default();
    let change = Part::new(connection, &sent, change, range, flags, hold.clone());
    Parts::new(sent, change).then_flush(connection, hold)
}
