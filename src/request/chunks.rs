//! Reads whose pieces are returned as they arrive.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;

use super::check::{check, is_empty, one_piece, step};
use super::client::Client;
use super::flight::{Flight, expire};
use super::range::Range;
use crate::chunk::Chunk;
use crate::connection::Connection;
use crate::driver::timer::Timer;
use crate::error::{Error, InvalidRequest, Result};
use crate::session::{self, Claims, Sink, Submission};
use crate::wire::{Command, CommandFlags};

/// The pieces of a structured read, in the order of their arrival.
///
/// Data and holes together cover the range exactly, or the last item is an error. The read is sent
/// when the stream is first polled. Pieces that were not taken yet are kept: together they have at
/// most as many bytes as the range.
///
/// Of a read that fails, the stream has the pieces that the server could read, and a
/// [`Chunk::Error`] for each error that it reports, with its place; the last item is
/// [`Error::Request`] with the first of them. So a program that rescues what it can from a disk
/// learns of all bad places at once, and no other takes a part for the whole. With simple replies,
/// the last item is the only one.
///
/// # Cancel safety
///
/// Dropping the stream drops the rest of the answer. The connection goes on.
///
/// # Examples
/// ```
/// # use nbd_client::testing;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nbd_client::Result<()> {
/// use futures::TryStreamExt;
/// use nbd_client::{Chunk, Connection};
///
/// let disk = testing::Export::new(1 << 20);
/// disk.write(8192, b"hello");
/// let server = testing::Server::new(disk);
/// # let conn = Connection::new();
/// # conn.connect_stream(server.connect()).await?;
///
/// let mut zeroes = 0;
/// let mut chunks = conn.read_structured(0, 1 << 20);
/// while let Some(chunk) = chunks.try_next().await? {
///     if let Chunk::Hole { length, .. } = chunk {
///         zeroes += length; // that were neither sent nor stored
///     }
/// }
/// assert!(zeroes > 900_000);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "nbd_chunk_callback")]
#[must_use = "the read is sent only when the stream is polled"]
pub struct Chunks<C: Client = Connection> {
    range: Range,
    flags: CommandFlags,
    timeout: Option<Duration>,
    stage: Stage<C>,
}

enum Stage<C: Client> {
    /// The stream was not polled yet.
    New(C),
    Reading(C::Reading),
}

impl<C: Client> Chunks<C> {
    pub(crate) const fn new(client: C, offset: u64, length: u64) -> Self {
        Self {
            range: Range { offset, length },
            flags: CommandFlags::empty(),
            timeout: None,
            stage: Stage::New(client),
        }
    }

    /// Asks for the content in one piece (`DF`). The server may refuse more than 64 KiB with
    /// `EOVERFLOW`.
    #[doc(alias = "LIBNBD_CMD_FLAG_DF")]
    pub fn dont_fragment(mut self) -> Self {
        self.flags |= CommandFlags::DF;
        self
    }

    /// Fails the read if its end has not come within `timeout`, counted from the first poll. By
    /// default the limit is [`request_timeout`](crate::Builder::request_timeout), and without that
    /// there is none; `Duration::MAX` lifts it. If the
    /// read was sent, this ends the connection.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<C: Client> Stream for Chunks<C> {
    type Item = Result<Chunk>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Stage::New(client) = &this.stage {
            let Range { offset, length } = this.range;
            let reading = client.read_chunks(offset, length, this.flags, this.timeout);
            this.stage = Stage::Reading(reading);
        }
        match &mut this.stage {
            Stage::Reading(reading) => Pin::new(reading).poll_next(cx),
            Stage::New(_) => Poll::Ready(None),
        }
    }
}

impl<C: Client> fmt::Debug for Chunks<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks")
            .field("range", &self.range)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

/// A structured read of a connection, from its first poll on.
#[allow(unnameable_types, reason = "Chunks is its name")]
pub struct Reading {
    connection: Connection,
    range: Range,
    flags: CommandFlags,
    timeout: Option<Duration>,
    timer: Timer,
    flight: Option<Flight>,
    is_over: bool,
}

impl Reading {
    pub(super) const fn new(
        connection: Connection,
        range: Range,
        flags: CommandFlags,
        timeout: Option<Duration>,
    ) -> Self {
        Self {
            connection,
            range,
            flags,
            timeout,
            timer: Timer::new(),
            flight: None,
            is_over: false,
        }
    }

    /// Checks the read. If a check fails, or the range is empty, nothing is sent.
    fn prepare(&mut self) -> Result<Option<Submission>> {
        let transmission = self.connection.transmission()?;
        self.flags |= one_piece(&self.connection, transmission, Command::READ);
        let Range { offset, length } = self.range;
        let strict = self.connection.strict();
        check(transmission, strict, Command::READ, self.flags, self.range)?;
        if is_empty(strict, Command::READ, self.range) {
            return transmission.refusal(false).map_or(Ok(None), Err);
        }
        let limit = step(transmission, strict, Command::READ, CommandFlags::empty()).most;
        if length > limit {
            let command = Command::READ;
            return Err(InvalidRequest::TooLong {
                command,
                length,
                limit,
            }
            .into());
        }
        super::trace(Command::READ, self.range, self.flags);
        Ok(Some(Submission {
            command: Command::READ,
            flags: self.flags,
            offset,
            length,
            payload: bytes::Bytes::new(),
            sink: Sink::Chunks(Box::new(session::Chunks {
                claims: Claims::new(offset, length),
                queue: VecDeque::new(),
            })),
        }))
    }

    fn poll_chunk(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Chunk>>> {
        if self.flight.is_none() {
            self.flight = self.prepare()?.map(|read| Flight::new(read, false));
        }
        let transmission = self.connection.transmission()?;
        match &mut self.flight {
            Some(flight) => flight.poll_chunk(transmission, cx),
            None => Poll::Ready(None),
        }
    }

    /// Abandons the read. Returns whether it was sent.
    fn abandon(&mut self) -> bool {
        let flight = self.flight.take();
        flight.is_some_and(|mut flight| flight.abandon(&self.connection))
    }
}

impl Stream for Reading {
    type Item = Result<Chunk>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        if let Some(timeout) = this.timeout.filter(|_| !this.timer.is_set()) {
            if let Err(error) = this.timer.start(timeout) {
                this.is_over = true;
                return Poll::Ready(Some(Err(error.into())));
            }
        }
        let item = match this.poll_chunk(cx) {
            Poll::Ready(item) => item,
            Poll::Pending if this.timer.poll_over(cx) => {
                let was_sent = this.abandon();
                let limit = this.timeout.unwrap_or_default();
                let overdue = Error::overdue(limit, this.range.of(Command::READ));
                Some(Err(expire(&this.connection, was_sent, overdue)))
            }
            Poll::Pending => return Poll::Pending,
        };
        this.is_over = !matches!(item, Some(Ok(_)));
        let inner = this.connection.inner();
        let request = this.range.of(Command::READ);
        let named = |error: Error| error.of(request).at(&inner.site());
        Poll::Ready(item.map(|item| item.map_err(named)))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading")
            .field("range", &self.range)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}
