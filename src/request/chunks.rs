//! A read whose pieces are handed over as they arrive.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::check::{check, one_piece, step};
use super::execute::Range;
use crate::chunk::Chunk;
use crate::connection::Connection;
use crate::driver::timer::Timer;
use crate::error::{Delivery, Error, InvalidRequest, Phase, Result};
use crate::session::{self, Assembly, Sink, Submission, Ticket};
use crate::wire::{Command, CommandFlags};
use bytes::BytesMut;
use futures::Stream;

/// The pieces of a structured read, in the order in which they arrive.
///
/// Data and holes together cover the range exactly, or the last item is an error. The read is
/// sent when the stream is first polled. Pieces that are not taken yet are kept: together no more
/// than was asked for.
///
/// # Cancel safety
///
/// Dropping the stream drops what is left of the answer; the connection goes on.
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
#[must_use = "the read is sent only when the stream is polled"]
pub struct Chunks {
    connection: Connection,
    range: Range,
    flags: CommandFlags,
    timeout: Option<Duration>,
    timer: Timer,
    submission: Option<Submission>,
    place: Option<u64>,
    ticket: Option<Ticket>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    New,
    Sending,
    Over,
}

impl Chunks {
    pub(super) const fn new(connection: Connection, range: Range) -> Self {
        Self {
            connection,
            range,
            flags: CommandFlags::empty(),
            timeout: None,
            timer: Timer::new(),
            submission: None,
            place: None,
            ticket: None,
            stage: Stage::New,
        }
    }

    /// Asks for the content in one piece. The server may refuse with `EOVERFLOW` what is longer
    /// than 64 KiB.
    pub fn dont_fragment(mut self) -> Self {
        self.flags |= CommandFlags::DF;
        self
    }

    /// Gives the whole answer this long, counted from the first poll. If it takes longer, the
    /// connection is ended.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    fn prepare(&mut self) -> Result<Submission> {
        let link = self.connection.link()?;
        self.flags |= one_piece(&self.connection, link, Command::READ);
        let Range { offset, length } = self.range;
        let strict = self.connection.strict();
        check(link, strict, Command::READ, self.flags, self.range)?;
        let limit = step(link, strict, Command::READ, CommandFlags::empty()).most;
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
        let read = Assembly::new(offset, length, BytesMut::new());
        Ok(Submission {
            command: Command::READ,
            flags: self.flags,
            offset,
            length,
            payload: bytes::Bytes::new(),
            sink: Sink::Chunks(Box::new(session::Chunks {
                read,
                queue: VecDeque::new(),
            })),
        })
    }

    fn poll_chunk(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Chunk>>> {
        if self.stage == Stage::New {
            self.submission = Some(self.prepare()?);
            self.stage = Stage::Sending;
        }
        let link = self.connection.link()?;
        let ticket = match self.ticket {
            Some(ticket) => ticket,
            None => {
                let sent = link.poll_submit(&mut self.submission, &mut self.place, cx.waker());
                let ticket = std::task::ready!(sent)?;
                self.ticket = Some(ticket);
                ticket
            }
        };
        link.poll_chunk(ticket, cx.waker())
    }

    fn expire(&mut self) -> Error {
        if !self.release() {
            return Error::unsent();
        }
        let error = Error::timeout(Phase::Request);
        match self.connection.link() {
            Ok(link) => link.fail(error).delivered(Delivery::MaybeSent),
            Err(ended) => ended,
        }
    }

    /// Lets go of the read; says whether it was sent.
    fn release(&mut self) -> bool {
        let (place, ticket) = (self.place.take(), self.ticket.take());
        let Ok(link) = self.connection.link() else {
            return false;
        };
        // It may have been sent since it was last looked at.
        let ticket = ticket.or_else(|| link.leave_queue(place?));
        ticket.into_iter().for_each(|ticket| link.abandon(ticket));
        ticket.is_some()
    }
}

impl Stream for Chunks {
    type Item = Result<Chunk>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.stage == Stage::Over {
            return Poll::Ready(None);
        }
        if let Some(timeout) = this.timeout.take() {
            if let Err(error) = this.timer.start(timeout) {
                this.stage = Stage::Over;
                return Poll::Ready(Some(Err(error.into())));
            }
        }
        let item = match this.poll_chunk(cx) {
            Poll::Ready(item) => item,
            Poll::Pending if this.timer.poll_over(cx) => Some(Err(this.expire())),
            Poll::Pending => return Poll::Pending,
        };
        if !matches!(item, Some(Ok(_))) {
            this.stage = Stage::Over;
        }
        Poll::Ready(item)
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks")
            .field("range", &self.range)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}
