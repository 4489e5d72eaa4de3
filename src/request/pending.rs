//! Requests as futures.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use super::Request;
use super::check::{check, is_empty, one_piece, step};
use super::execute::Execute;
use super::flight::{Flight, expire};
use super::hold::Hold;
use super::op::Operation;
use super::range::Range;
use super::split::{Cut, Parts, flushed};
use super::unaligned::{Blocks, Unaligned};
use super::zeroes::write_flags;
use crate::connection::Connection;
use crate::driver::Transmission;
use crate::driver::timer::Timer;
use crate::error::{Error, FailedRequest, InvalidRequest, Result};
use crate::session::Answer;
use crate::strict::Strict;
use crate::wire::{Command, CommandFlags, ReplyStyle};

/// The future of a request.
///
/// # Cancel safety
///
/// If the future is dropped before it is polled, or while it waits for room among the requests in
/// flight, nothing is sent. If it is dropped later, the request is sent in full and stays in flight,
/// and its reply is checked and thrown away. Of a request that takes several messages, those that were
/// not queued yet are not sent: it may be carried out in part. A write, trim or zero may then still be applied; a
/// later one on this connection that overlaps it waits until it is answered.
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
/// // In the order of the answers:
/// let reads = (0..8).map(|i| conn.read(i * 512, 512).into_future());
/// let mut reads: FuturesUnordered<_> = reads.collect();
/// while let Some(block) = reads.try_next().await? {
///     assert_eq!(block.len(), 512);
/// }
///
/// // Whichever is first. The other is dropped, and the connection stays usable:
/// tokio::select! {
///     block = conn.read(0, 512) => assert_eq!(block?.len(), 512),
///     () = tokio::time::sleep(std::time::Duration::from_secs(9)) => println!("too slow"),
/// }
/// # Ok(())
/// # }
/// ```
///
/// A program can also queue a request first and await it later, with
/// [`submit`](crate::Request::submit).
#[doc(alias = "nbd_completion_callback")]
#[doc(alias = "nbd_aio_command_completed")]
#[doc(alias = "nbd_aio_peek_command_completed")]
#[must_use = "a request is sent only when it is awaited, and given up when its future is dropped"]
pub struct Pending<O: Operation> {
    request: Request<O>,
    timer: Timer,
    stage: Stage<O>,
    /// Of one of several messages, until it was polled: what holds `DISC` back for it.
    hold: Option<Hold>,
}

enum Stage<O: Operation> {
    /// The future was not polled yet.
    New,
    /// An empty range: there is nothing to send.
    Empty,
    /// One message.
    Single(Flight),
    /// Several messages.
    Split(Parts<O::Output>),
    /// The request was over when it was begun, and its result was not taken yet.
    Known(Result<O::Output>),
    /// The answer was taken.
    Over,
}

impl<O: Execute> Pending<O> {
    pub(super) const fn new(request: Request<O>) -> Self {
        Self {
            request,
            timer: Timer::new(),
            stage: Stage::New,
            hold: None,
        }
    }

    /// One message of several.
    pub(super) fn part(
        connection: Connection,
        operation: O,
        range: Range,
        flags: CommandFlags,
        hold: Hold,
    ) -> Self {
        let request = Request {
            client: connection,
            operation,
            range,
            flags,
            unaligned: false,
            timeout: None,
        };
        let mut part = Self::new(request);
        part.hold = Some(hold);
        part
    }

    /// Queues the request, or waits in line, before anybody waits for the answer.
    pub(super) fn begin(&mut self) {
        let mut nobody = Context::from_waker(Waker::noop());
        if let Poll::Ready(result) = Pin::new(&mut *self).poll(&mut nobody) {
            self.stage = Stage::Known(result);
        }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<O::Output>> {
        // After this poll the message is queued, waits in line, or was divided.
        let hold = self.hold.take();
        if matches!(self.stage, Stage::New) {
            self.stage = self.request.prepare(hold.as_ref())?;
        }
        match &mut self.stage {
            Stage::Empty => {
                let transmission = self.request.client.transmission()?;
                Poll::Ready(Ok(self
                    .request
                    .operation
                    .output(transmission, Answer::Done)))
            }
            Stage::Single(flight) => {
                let transmission = self.request.client.transmission()?;
                let answer = ready!(flight.poll_answer(transmission, cx));
                Poll::Ready(
                    answer.map(|answer| self.request.operation.output(transmission, answer)),
                )
            }
            Stage::Split(parts) => parts.poll(cx),
            stage @ Stage::Known(_) => match std::mem::replace(stage, Stage::Over) {
                Stage::Known(result) => Poll::Ready(result),
                _ => Poll::Pending,
            },
            Stage::New | Stage::Over => {
                let why = "it was polled although it is over";
                Poll::Ready(Err(Error::from(InvalidRequest::Argument {
                    what: "request",
                    why: why.into(),
                })))
            }
        }
    }
}

impl<O: Execute> Request<O> {
    /// The error if it is not answered in time.
    fn overdue(&self) -> Error {
        Error::overdue(self.timeout.unwrap_or_default(), self.named())
    }

    /// Names the request in errors.
    const fn named(&self) -> FailedRequest {
        self.range.of(O::COMMAND)
    }

    /// Checks the request, and decides how it is sent. If a check fails, nothing is sent. `of` is held
    /// by the request that it is a part of, if it is one.
    fn prepare(&mut self, of: Option<&Hold>) -> Result<Stage<O>> {
        if self.unaligned {
            if let Some(parts) = self.prepare_unaligned()? {
                return Ok(Stage::Split(parts));
            }
        }
        let connection = &self.client;
        let transmission = connection.transmission()?;
        let strict = connection.strict();
        self.flags = self.announced(transmission, strict);
        if is_empty(strict, O::COMMAND, self.range) {
            return self.prepare_empty();
        }
        if O::COMMAND.changes() && self.emulates_fua(transmission) {
            let flags = self.flags - CommandFlags::FUA;
            let change = self.operation.again();
            let hold = Hold::begin(of, transmission);
            let parts = flushed(connection, change, self.range, flags, hold);
            return Ok(Stage::Split(parts));
        }
        if let Some(parts) = self
            .operation
            .or_write(connection, self.range, self.flags, of)?
        {
            return Ok(Stage::Split(parts));
        }
        let one_piece = one_piece(connection, transmission, O::COMMAND);
        self.flags |= self.operation.check(transmission)? | one_piece;
        check(transmission, strict, O::COMMAND, self.flags, self.range)?;
        let limits = &connection.inner().config.limits;
        self.operation.check_memory(limits, self.range.length)?;
        let continues = of.is_some_and(Hold::is_held);
        let step = step(transmission, strict, O::COMMAND, one_piece);
        if self.range.length > step.most {
            // If one of several messages fails, it is unknown which were sent; here, none was.
            if let Some(error) = transmission.refusal(continues) {
                return Err(error);
            }
            let hold = Hold::begin(of, transmission);
            let cut = Cut::new(connection, self.range, step, self.flags, hold);
            if let Some(parts) = self.operation.split(cut)? {
                return Ok(Stage::Split(parts));
            }
        }
        super::trace(O::COMMAND, self.range, self.flags);
        let submission = self
            .operation
            .submission(transmission, self.range, self.flags);
        Ok(Stage::Single(Flight::new(submission, continues)))
    }

    /// Returns the flags with `PAYLOAD_LEN` as it must be.
    fn announced(&self, transmission: &Transmission, strict: Strict) -> CommandFlags {
        let mut flags = self.flags;
        if strict.contains(Strict::AUTO_FLAG) {
            // X-05: with extended headers, a write announces its payload.
            let announces =
                O::COMMAND == Command::WRITE && transmission.style() == ReplyStyle::Extended;
            flags.set(CommandFlags::PAYLOAD_LEN, announces);
        }
        flags
    }

    /// Checks a request for an empty range, as if it were sent.
    fn prepare_empty(&self) -> Result<Stage<O>> {
        let transmission = self.client.transmission()?;
        let (command, flags) = self.sent(transmission);
        check(
            transmission,
            self.client.strict(),
            command,
            flags,
            self.range,
        )?;
        transmission.refusal(false).map_or(Ok(Stage::Empty), Err)
    }

    /// Checks and divides a request that may be for any range. Returns `None` if the range is empty
    /// or consists of whole blocks.
    fn prepare_unaligned(&mut self) -> Result<Option<Parts<O::Output>>> {
        let connection = &self.client;
        let transmission = connection.transmission()?;
        let export = transmission.export();
        let blocks = Blocks {
            length: export.alignment().into(),
            size: export.size(),
        };
        if blocks.are_whole(self.range) || self.range.length == 0 {
            return Ok(None);
        }
        let strict = connection.strict() - Strict::ALIGN;
        self.flags = self.announced(transmission, strict);
        let (command, flags) = self.sent(transmission);
        // What lies beyond the end has no blocks.
        let strict = strict | Strict::BOUNDS;
        check(transmission, strict, command, flags, self.range)?;
        let flags = self.sent_flags(transmission);
        if let Some(error) = transmission.refusal(false) {
            return Err(error);
        }
        let hold = Hold::begin(None, transmission);
        let request = Unaligned {
            connection: connection.clone(),
            blocks,
            range: self.range,
            flags,
            read_flags: one_piece(connection, transmission, Command::READ),
            hold: hold.clone(),
        };
        let parts = self.operation.unaligned(&request)?;
        Ok(match parts {
            Some(parts) if self.emulates_fua(transmission) => {
                Some(parts.then_flush(connection, hold))
            }
            parts => parts,
        })
    }

    /// Returns the command that is sent, and its flags.
    fn sent(&self, transmission: &Transmission) -> (Command, CommandFlags) {
        let flags = self.sent_flags(transmission);
        if !self.operation.is_written(transmission.export(), flags) {
            return (O::COMMAND, flags);
        }
        (Command::WRITE, write_flags(transmission, flags))
    }

    /// Returns the flags without those that a flush emulates.
    fn sent_flags(&self, transmission: &Transmission) -> CommandFlags {
        match self.emulates_fua(transmission) {
            true => self.flags - CommandFlags::FUA,
            false => self.flags,
        }
    }

    /// Returns whether a flush must emulate the flag `FUA`.
    fn emulates_fua(&self, transmission: &Transmission) -> bool {
        let export = transmission.export();
        self.flags.contains(CommandFlags::FUA)
            && self.client.inner().config.emulate_fua
            && !export.can_fua()
            && export.can_flush()
    }
}

impl<O: Execute> Future for Pending<O> {
    type Output = Result<O::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(timeout) = this.request.timeout.filter(|_| !this.timer.is_set()) {
            if let Err(error) = this.timer.start(timeout) {
                this.stage = Stage::Over;
                return Poll::Ready(Err(error.into()));
            }
        }
        let result = match this.poll_answer(cx) {
            Poll::Ready(result) => result,
            Poll::Pending if this.timer.poll_over(cx) => {
                let was_sent = this.abandon();
                Err(expire(
                    &this.request.client,
                    was_sent,
                    this.request.overdue(),
                ))
            }
            Poll::Pending => return Poll::Pending,
        };
        this.abandon();
        let inner = this.request.client.inner();
        let request = this.request.named();
        Poll::Ready(result.map_err(|error| error.of(request).at(&inner.site())))
    }
}

impl<O: Operation> Pending<O> {
    /// Returns whether any part of the request was sent and is unanswered.
    pub(super) fn is_sent(&self) -> bool {
        match &self.stage {
            Stage::Single(flight) => flight.is_sent(),
            Stage::Split(parts) => parts.is_sent(),
            Stage::New | Stage::Empty | Stage::Known(_) | Stage::Over => false,
        }
    }

    /// Abandons an unanswered request. Returns whether any part of it was sent.
    pub(super) fn abandon(&mut self) -> bool {
        let was_sent = match &mut self.stage {
            Stage::Over => return false,
            Stage::Single(flight) => flight.abandon(&self.request.client),
            Stage::Split(_) => match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Split(parts) => parts.give_up(),
                _ => false,
            },
            Stage::New | Stage::Empty | Stage::Known(_) => false,
        };
        self.stage = Stage::Over;
        was_sent
    }
}

impl<O: Operation> Drop for Pending<O> {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl<O: Execute> std::fmt::Debug for Pending<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending")
            .field("command", &O::COMMAND)
            .field("range", &self.request.range)
            .field("flags", &self.request.flags)
            .finish_non_exhaustive()
    }
}
