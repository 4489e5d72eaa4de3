//! A request as a future.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::check::{check, one_piece, step};
use super::execute::{Execute, Range};
use super::op::Operation;
use super::split::Parts;
use crate::connection::Connection;
use crate::driver::Link;
use crate::driver::timer::Timer;
use crate::error::{Delivery, Error, Phase, Result};
use crate::session::{Submission, Ticket};
use crate::strict::Strict;
use crate::wire::{Command, CommandFlags, ReplyStyle};

/// A request that is being answered.
///
/// # Cancel safety
///
/// Dropping it before it was polled, or while it waits for room among the requests in flight,
/// sends nothing. Later the request is sent in full and stays in flight; its reply is checked
/// and thrown away. A write, trim or zero may then still be applied; a later one on this
/// connection that overlaps it waits until it is answered.
///
/// # Examples
/// ```
/// # use nbd_client::{Connection, testing};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nbd_client::Result<()> {
/// # let server = testing::Server::new(testing::Export::new(1 << 20));
/// # let conn = Connection::new();
/// # conn.connect_stream(server.connect()).await?;
/// use std::future::IntoFuture;
/// use futures::stream::{FuturesUnordered, TryStreamExt};
///
/// // In the order in which the answers come:
/// let reads = (0..8).map(|i| conn.read(i * 512, 512).into_future());
/// let mut reads: FuturesUnordered<_> = reads.collect();
/// while let Some(block) = reads.try_next().await? {
///     assert_eq!(block.len(), 512);
/// }
///
/// // Whichever is first; the other is dropped, and the connection is none the worse:
/// tokio::select! {
///     block = conn.read(0, 512) => assert_eq!(block?.len(), 512),
///     () = tokio::time::sleep(std::time::Duration::from_secs(9)) => println!("too slow"),
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a request is sent only when it is awaited"]
pub struct Pending<O: Operation> {
    connection: Connection,
    operation: O,
    range: Range,
    flags: CommandFlags,
    timeout: Option<Duration>,
    timer: Timer,
    stage: Stage<O>,
}

enum Stage<O: Operation> {
    /// Nothing has happened.
    New,
    /// One message: waiting for room, or queued.
    Single {
        submission: Option<Submission>,
        place: Option<u64>,
        ticket: Option<Ticket>,
    },
    /// Several messages.
    Split(Parts<O::Output>),
    /// The answer is taken.
    Over,
}

#[allow(
    private_bounds,
    reason = "how a command is executed is nobody else's business"
)]
impl<O: Execute> Pending<O> {
    pub(super) const fn new(
        connection: Connection,
        operation: O,
        range: Range,
        flags: CommandFlags,
        timeout: Option<Duration>,
    ) -> Self {
        Self {
            connection,
            operation,
            range,
            flags,
            timeout,
            timer: Timer::new(),
            stage: Stage::New,
        }
    }

    /// Checks the request and decides how it is sent. A failure sends nothing.
    fn prepare(&mut self) -> Result<()> {
        let link = self.connection.link()?;
        let strict = self.connection.strict();
        if strict.contains(Strict::AUTO_FLAG) {
            // X-05: with extended headers a write says that it has a payload.
            let announces = O::COMMAND == Command::WRITE && link.style() == ReplyStyle::Extended;
            self.flags.set(CommandFlags::PAYLOAD_LEN, announces);
        }
        if self.emulates_fua(link) {
            let flags = self.flags - CommandFlags::FUA;
            let flushed = self.operation.flushed(&self.connection, self.range, flags);
            if let Some(parts) = flushed {
                self.stage = Stage::Split(parts);
                return Ok(());
            }
        }
        let one_piece = one_piece(&self.connection, link, O::COMMAND);
        self.flags |= self.operation.check(link)? | one_piece;
        check(link, strict, O::COMMAND, self.flags, self.range)?;
        let limits = &self.connection.shared().config.limits;
        self.operation.check_memory(limits, self.range.length)?;
        let step = step(link, strict, O::COMMAND, one_piece);
        if self.range.length > step.most {
            // Of several messages it is not known which were sent, if one fails; of none it is.
            if let Some(error) = link.refusal() {
                return Err(error);
            }
            let parts = self
                .operation
                .split(&self.connection, self.range, step, self.flags)?;
            if let Some(parts) = parts {
                self.stage = Stage::Split(parts);
                return Ok(());
            }
        }
        let submission = submission(&mut self.operation, link, self.range, self.flags);
        self.stage = Stage::Single {
            submission: Some(submission),
            place: None,
            ticket: None,
        };
        Ok(())
    }

    /// Whether a flush has to stand in for the flag.
    fn emulates_fua(&self, link: &Link) -> bool {
        let export = link.export();
        self.flags.contains(CommandFlags::FUA)
            && self.connection.shared().config.emulate_fua
            && !export.can_fua()
            && export.can_flush()
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<O::Output>> {
        if matches!(self.stage, Stage::New) {
            self.prepare()?;
        }
        match &mut self.stage {
            Stage::Single {
                submission,
                place,
                ticket,
            } => {
                let link = self.connection.link()?;
                let taken = match *ticket {
                    Some(ticket) => ticket,
                    None => {
                        let waited = place.is_some();
                        let sent = link.poll_submit(submission, place, cx.waker());
                        let sent = *ticket.insert(std::task::ready!(sent)?);
                        if !waited {
                            // Its waker is registered, and no answer can be there yet.
                            return Poll::Pending;
                        }
                        sent
                    }
                };
                let answer = std::task::ready!(link.poll_answer(taken, cx.waker()));
                *ticket = None;
                Poll::Ready(answer.map(|answer| self.operation.output(link, answer)))
            }
            Stage::Split(parts) => parts.poll(cx),
            Stage::New | Stage::Over => {
                let why = "it was polled although it is over";
                Poll::Ready(Err(Error::argument("request", why)))
            }
        }
    }

    /// The deadline has passed: a request that was sent may still be carried out by the server,
    /// so the connection cannot go on as if nothing was the matter.
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
}

impl<O: Execute> Future for Pending<O> {
    type Output = Result<O::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(timeout) = this.timeout.take() {
            if let Err(error) = this.timer.start(timeout) {
                this.stage = Stage::Over;
                return Poll::Ready(Err(error.into()));
            }
        }
        let result = match this.poll_answer(cx) {
            Poll::Ready(result) => result,
            Poll::Pending if this.timer.poll_over(cx) => Err(this.expire()),
            Poll::Pending => return Poll::Pending,
        };
        this.release();
        Poll::Ready(result)
    }
}

impl<O: Operation> Pending<O> {
    /// Whether any part of it was sent and is not answered yet.
    pub(super) fn is_sent(&self) -> bool {
        match &self.stage {
            Stage::Single { ticket, .. } => ticket.is_some(),
            Stage::Split(parts) => parts.is_sent(),
            Stage::New | Stage::Over => false,
        }
    }

    /// Lets go of a request that is not answered; says whether any part of it was sent.
    pub(super) fn release(&mut self) -> bool {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Single { place, ticket, .. } => {
                let Ok(link) = self.connection.link() else {
                    return false;
                };
                // It may have been sent since it was last looked at.
                let ticket = ticket.or_else(|| link.leave_queue(place?));
                ticket.into_iter().for_each(|ticket| link.abandon(ticket));
                ticket.is_some()
            }
            Stage::Split(parts) => parts.give_up(),
            Stage::New | Stage::Over => false,
        }
    }
}

impl<O: Operation> Drop for Pending<O> {
    fn drop(&mut self) {
        self.release();
    }
}

impl<O: Execute> std::fmt::Debug for Pending<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending")
            .field("command", &O::COMMAND)
            .field("range", &self.range)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

/// One message of an operation.
pub(super) fn submission<O: Execute>(
    operation: &mut O,
    link: &Link,
    range: Range,
    flags: CommandFlags,
) -> Submission {
    super::trace(O::COMMAND, range, flags);
    let message = operation.message(link, range, flags);
    Submission {
        command: O::COMMAND,
        flags,
        offset: range.offset,
        length: message.length,
        payload: message.payload,
        sink: message.sink,
    }
}
