//! How a disk carries out requests: over one link after the other, until there is an answer.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{self, Iter, Stream, TryStreamExt as _};
use tokio::sync::oneshot;

use super::Disk;
use super::event::Event;
use super::hub::{Hub, Link};
use super::policy::Changes;
use super::state::Content;
use crate::chunk::Chunk;
use crate::connection::Connection;
use crate::driver::timer::Timer;
use crate::error::{Delivery, Error, FailedRequest, InvalidRequest, Result};
use crate::export::Export;
use crate::request::{Client, Effect, Execute, Request, sealed};
use crate::wire::{Command, CommandFlags, Errno, ProtocolError};

/// On how many lost links a request may have been before it fails.
const MOST_LOSSES: u32 = 3;

/// The work on a request.
type Work<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// The future of a request of a [`Disk`]; what [`Pending`](crate::Pending) is for a connection.
///
/// # Cancel safety
///
/// If the future is dropped before its change may be sent, nothing is sent. If it is dropped later,
/// the change is carried out in the background, and later changes that overlap it wait for its
/// answer.
#[must_use = "a request is sent only when it is awaited"]
pub struct Pending<O: Execute> {
    stage: Stage<O>,
    timer: Timer,
    /// The error if the deadline passes.
    overdue: Option<Box<Error>>,
}

enum Stage<O: Execute> {
    New(Request<O, Disk>),
    /// The caller does the work himself.
    Working(Work<O::Output>),
    /// A task changes the export, and says when it began to.
    Changing {
        result: oneshot::Receiver<Result<O::Output>>,
        lost: Box<Error>,
        is_begun: Arc<AtomicBool>,
    },
    Over,
}

impl<O: Execute> Stage<O> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<O::Output>> {
        match self {
            Self::Working(work) => work.as_mut().poll(cx),
            Self::Changing { result, .. } => {
                // The task ends without an answer if its runtime does.
                let result = ready!(Pin::new(result).poll(cx));
                Poll::Ready(result.unwrap_or_else(|_| Err(Error::closed())))
            }
            Self::New(_) | Self::Over => {
                let why = "it was polled although it is over".into();
                let what = "request";
                Poll::Ready(Err(InvalidRequest::Argument { what, why }.into()))
            }
        }
    }

    /// Gives the request up because its deadline has passed. Returns the error.
    fn expire(self, overdue: Error) -> Error {
        if let Self::Changing {
            mut result,
            lost,
            is_begun,
        } = self
        {
            // The task looks at the one after it has set the other.
            result.close();
            if is_begun.load(Ordering::SeqCst) {
                return *lost;
            }
        }
        overdue
    }
}

impl<O: Execute> Pending<O> {
    /// Begins with the request, if that was not done yet.
    fn begin(&mut self) {
        if !matches!(self.stage, Stage::New(_)) {
            return;
        }
        let Stage::New(request) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return;
        };
        if let Some(timeout) = request.deadline() {
            if let Err(error) = self.timer.start(timeout) {
                let error = Err(Error::from(error));
                self.stage = Stage::Working(Box::pin(std::future::ready(error)));
                return;
            }
            self.overdue = Some(Box::new(overdue(&request, timeout).unsent()));
        }
        self.stage = begin(request);
    }
}

impl<O: Execute> Future for Pending<O> {
    type Output = Result<O::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.begin();
        match this.stage.poll(cx) {
            Poll::Ready(result) => {
                this.stage = Stage::Over;
                Poll::Ready(result)
            }
            Poll::Pending if this.timer.poll_over(cx) => {
                let stage = std::mem::replace(&mut this.stage, Stage::Over);
                let overdue = this.overdue.take().map(|overdue| *overdue);
                Poll::Ready(Err(stage.expire(overdue.unwrap_or_else(Error::closed))))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<O: Execute> std::fmt::Debug for Pending<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut pending = f.debug_struct("Pending");
        pending
            .field("command", &O::COMMAND)
            .finish_non_exhaustive()
    }
}

/// The error of a request that was not answered in time.
fn overdue<O: Execute>(request: &Request<O, Disk>, timeout: Duration) -> Error {
    let (offset, length) = request.range();
    let command = O::COMMAND;
    Error::overdue(
        timeout,
        FailedRequest {
            command,
            offset,
            length,
        },
    )
}

/// Begins to work on a request.
fn begin<O: Execute>(request: Request<O, Disk>) -> Stage<O> {
    let hub = request.client().hub().clone();
    let timeout = request.deadline().unwrap_or_default();
    let overdue = overdue(&request, timeout);
    let request = Lasting::new(request);
    let refused = |error| Stage::Working(Box::pin(std::future::ready(Err(Error::from(error)))));
    let content = match request.operation.effect() {
        Effect::None if O::COMMAND == Command::FLUSH => {
            return Stage::Working(Box::pin(flush(hub, request)));
        }
        Effect::None => return Stage::Working(Box::pin(read(hub, request))),
        Effect::Data(data) => Content::Data(data),
        Effect::Zeroes => Content::Zeroes,
        Effect::Unknown => Content::Unknown,
    };
    if hub.settings.changes == Changes::Refuse {
        return refused(InvalidRequest::ReadOnly(O::COMMAND));
    }
    let Range { start, end } = request.range;
    if end > hub.facts.export().size() {
        return refused(InvalidRequest::OutOfBounds {
            command: O::COMMAND,
            offset: start,
            length: end - start,
            size: hub.facts.export().size(),
        });
    }
    if request.range.is_empty() {
        return Stage::Working(Box::pin(read(hub, request)));
    }
    let lost = Error::lost_change(O::COMMAND, start..end, None, overdue);
    // It goes on if the caller gives up: what was sent must be followed to its end.
    let (covers, effect) = hub.reach(&request.range, &content, request.is_unaligned);
    let (answer, result) = oneshot::channel();
    let is_begun = Arc::new(AtomicBool::new(false));
    let runtime = hub.runtime.clone();
    let change = Change {
        hub,
        request,
        content,
        covers,
        effect,
        answer,
        is_begun: is_begun.clone(),
    };
    runtime.spawn(change.carry_out());
    Stage::Changing {
        result,
        lost: Box::new(lost),
        is_begun,
    }
}

/// A request that can be sent again.
struct Lasting<O> {
    operation: O,
    range: Range<u64>,
    flags: CommandFlags,
    is_unaligned: bool,
}

impl<O: Execute> Lasting<O> {
    fn new(request: Request<O, Disk>) -> Self {
        let is_unaligned = request.is_unaligned();
        let (operation, offset, length, flags) = request.into_parts();
        Self {
            operation,
            // Ranges that are too long are refused by the checks of each link.
            range: offset..offset.saturating_add(length),
            flags,
            is_unaligned,
        }
    }

    /// The request on a link. `operation` is what it was made with, or a copy.
    fn on(&self, connection: &Connection, operation: O) -> Request<O> {
        let length = self.range.end - self.range.start;
        Request::from_parts(
            connection,
            operation,
            self.range.start,
            length,
            self.flags,
            self.is_unaligned,
        )
    }
}

/// Whether the error says that the link is over, and not only the request.
fn is_lost(error: &Error) -> bool {
    error.is_fatal()
}

/// Whether the server has answered that it is shutting down: then nothing was carried out.
fn was_refused(error: &Error) -> bool {
    matches!(error, Error::Request(request) if request.errno() == Errno::ESHUTDOWN)
        || error.delivery() == Delivery::NotSent
}

/// Carries out what changes nothing: over another link if one is lost (R8).
async fn read<O: Execute>(hub: Arc<Hub>, request: Lasting<O>) -> Result<O::Output> {
    let copy = request.operation.again();
    let first = request.operation;
    let request = Lasting {
        operation: copy,
        ..request
    };
    let mut next = Some(first);
    let mut losses = 0;
    loop {
        if hub.is_scattered(&request.range) {
            flush_early(&hub).await;
        }
        let link = hub.link(Some(&request.range)).await?;
        let operation = next.take().unwrap_or_else(|| request.operation.again());
        let result = request.on(&link.connection, operation).await;
        hub.done(&link);
        match result {
            Err(error) if is_lost(&error) => {
                note(&hub, &link);
                losses += u32::from(!was_refused(&error));
                if losses >= MOST_LOSSES {
                    return Err(error);
                }
            }
            result => return result,
        }
    }
}

/// Flushes on one link what was acknowledged on all (P7).
async fn flush<O: Execute>(hub: Arc<Hub>, request: Lasting<O>) -> Result<O::Output> {
    hub.settle().await;
    let mut losses = 0;
    loop {
        let link = hub.link(None).await?;
        let mark = hub.acknowledged();
        let result = request
            .on(&link.connection, request.operation.again())
            .await;
        hub.done(&link);
        match result {
            Ok(output) => return hub.flushed(mark).map(|()| output),
            Err(error @ Error::DurabilityUnknown(_)) => {
                hub.flushed(mark)?;
                // It was forgiven meanwhile.
                link.connection.clear_flush_error();
                drop(error);
            }
            Err(Error::Request(failure)) if failure.errno() != Errno::ESHUTDOWN => {
                hub.flush_failed(&failure);
                return Err(Error::Request(failure));
            }
            Err(error) if is_lost(&error) => {
                note(&hub, &link);
                losses += u32::from(!was_refused(&error));
                if losses >= MOST_LOSSES {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Flushes for the disk's own sake: too much is unflushed, or a read needs what several links have
/// written (P6).
pub(super) async fn flush_early(hub: &Hub) {
    let mark = hub.acknowledged();
    let Ok(link) = hub.link(None).await else {
        return;
    };
    match link.connection.flush().await {
        Ok(()) => hub.flushed_early(mark),
        // The next flush of a caller says so, too.
        Err(Error::Request(failure)) => hub.flush_failed(&failure),
        Err(_) => {}
    }
    hub.done(&link);
}

/// Takes a dead link out of use at once; its keeper does the rest.
fn note(hub: &Hub, link: &Link) {
    hub.drop_link(link.generation);
    hub.attention.notify_one();
}

/// A change on its way: a task of its own, which goes on if its caller gives up.
struct Change<O: Execute> {
    hub: Arc<Hub>,
    request: Lasting<O>,
    content: Content,
    /// The bytes that it writes, and what it makes of them: of a part of a block it writes all.
    covers: Range<u64>,
    effect: Content,
    answer: oneshot::Sender<Result<O::Output>>,
    /// Whether anything may have been sent.
    is_begun: Arc<AtomicBool>,
}

impl<O: Execute> Change<O> {
    async fn carry_out(mut self) {
        // R0: until the end, no other change of these bytes is sent.
        let placed = self.hub.begin(self.covers.clone());
        let turn = tokio::select! {
            biased;
            () = self.answer.closed() => return,
            turn = self.hub.turn(&placed, &self.covers, &self.effect) => turn,
        };
        let result = match turn {
            Ok(()) => self.send().await,
            Err(error) => Some(Err(error)),
        };
        drop(placed);
        if let Some(result) = result {
            // Nobody may be there to hear it.
            let _ = self.answer.send(result);
        }
    }

    /// Sends the change until it is answered, or its outcome is said to be unknown. Returns `None`
    /// if the caller has given up and nothing was sent.
    async fn send(&mut self) -> Option<Result<O::Output>> {
        let mut losses = 0;
        loop {
            let link = tokio::select! {
                biased;
                () = self.answer.closed(), if losses == 0 => return None,
                link = self.hub.link(None) => link,
            };
            let link = match link {
                Ok(link) => link,
                Err(error) => return Some(Err(error)),
            };
            // Whoever gives up closes the channel, and then looks whether it has begun.
            self.is_begun.store(true, Ordering::SeqCst);
            if losses == 0 && self.answer.is_closed() {
                self.hub.done(&link);
                return None;
            }
            let sending = self.hub.send(link.generation);
            let operation = self.request.operation.again();
            let result = self.request.on(&link.connection, operation).await;
            self.hub.done(&link);
            let ended = match result {
                Ok(output) => {
                    self.acknowledge(&link, losses > 0);
                    Some(Ok(output))
                }
                Err(error) if is_lost(&error) => {
                    note(&self.hub, &link);
                    self.lost(&link, error, &mut losses)
                }
                Err(error) => Some(Err(error)),
            };
            drop(sending);
            if ended.is_some() {
                return ended;
            }
        }
    }

    fn acknowledge(&self, link: &Link, is_repeated: bool) {
        let is_durable = self.request.flags.contains(CommandFlags::FUA);
        let range = &self.request.range;
        self.hub
            .acknowledge(range, &self.content, link.generation, is_durable);
        if is_repeated {
            let range = range.clone();
            self.hub.tell(&Event::Repeated { range });
        }
    }

    /// The link was lost. Returns the result for the caller, unless the change is to be sent again.
    fn lost(&self, link: &Link, error: Error, losses: &mut u32) -> Option<Result<O::Output>> {
        // R6: what was never sent, or refused, is sent on the next link without ceremony.
        if was_refused(&error) {
            return None;
        }
        let (range, generation) = (&self.request.range, link.generation);
        self.hub.lose(&self.covers, &self.effect, generation);
        *losses += 1;
        let repeats = self.hub.settings.changes == Changes::Repeat
            && *losses < MOST_LOSSES
            && !self.answer.is_closed()
            && !matches!(self.effect, Content::Unknown);
        if repeats {
            return None;
        }
        let error = Error::lost_change(O::COMMAND, range.clone(), Some(generation), error);
        Some(Err(error))
    }
}

/// A structured read of a disk: all its pieces come from one link.
#[allow(unnameable_types, reason = "Chunks is its name")]
#[derive(Debug)]
pub struct Reading(Pieces);

enum Pieces {
    Reading(Work<Vec<Chunk>>),
    Giving(Iter<std::vec::IntoIter<Chunk>>),
    Over,
}

impl Reading {
    fn new(disk: &Disk, range: Range<u64>, flags: CommandFlags, timeout: Option<Duration>) -> Self {
        let hub = disk.hub().clone();
        let work = async move {
            let mut losses = 0;
            loop {
                let link = hub.link(Some(&range)).await?;
                let length = range.end - range.start;
                let chunks = link
                    .connection
                    .read_chunks(range.start, length, flags, timeout);
                let result = chunks.try_collect().await;
                hub.done(&link);
                match result {
                    Err(error) if is_lost(&error) => {
                        note(&hub, &link);
                        losses += u32::from(!was_refused(&error));
                        if losses >= MOST_LOSSES {
                            return Err(error);
                        }
                    }
                    result => return result,
                }
            }
        };
        Self(Pieces::Reading(Box::pin(work)))
    }
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reading(_) => "Reading",
            Self::Giving(_) => "Giving",
            Self::Over => "Over",
        })
    }
}

impl Stream for Reading {
    type Item = Result<Chunk>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match &mut self.0 {
                Pieces::Reading(work) => match ready!(work.as_mut().poll(cx)) {
                    Ok(chunks) => self.0 = Pieces::Giving(stream::iter(chunks)),
                    Err(error) => {
                        self.0 = Pieces::Over;
                        return Poll::Ready(Some(Err(error)));
                    }
                },
                Pieces::Giving(chunks) => {
                    return Pin::new(chunks).poll_next(cx).map(|it| it.map(Ok));
                }
                Pieces::Over => return Poll::Ready(None),
            }
        }
    }
}

impl sealed::Sealed for Disk {}

impl Client for Disk {
    type Pending<O: Execute> = Pending<O>;
    type Reading = Reading;

    fn start<O: Execute>(request: Request<O, Self>) -> Pending<O> {
        Pending {
            stage: Stage::New(request),
            timer: Timer::new(),
            overdue: None,
        }
    }

    fn submit<O: Execute>(request: Request<O, Self>) -> Pending<O> {
        let runtime = request.client().hub().runtime.clone();
        let mut pending = Self::start(request);
        pending.begin();
        if let Stage::Working(work) = pending.stage {
            let (answer, result) = oneshot::channel();
            // Nobody may be there to hear it.
            runtime.spawn(async move { drop(answer.send(work.await)) });
            pending.stage = Stage::Working(Box::pin(async move {
                result.await.unwrap_or_else(|_| Err(Error::closed()))
            }));
        }
        pending
    }

    fn settle(&self) -> impl Future<Output = Result<()>> + Send + 'static {
        let hub = self.hub().clone();
        async move {
            hub.settle().await;
            Ok(())
        }
    }

    fn read_chunks(
        &self,
        offset: u64,
        length: u64,
        flags: CommandFlags,
        timeout: Option<Duration>,
    ) -> Reading {
        Reading::new(self, offset..offset.saturating_add(length), flags, timeout)
    }

    fn exported(&self) -> Result<Export> {
        Ok(self.hub().facts.export().clone())
    }

    fn can_filter(&self) -> Result<bool> {
        Ok(self.hub().facts.export().can_block_status_payload())
    }

    fn violated(&self, violation: ProtocolError) -> Error {
        let error = Error::from(violation);
        self.hub().end(error.clone(), None);
        error
    }
}
