//! Requests of a disk as futures.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use super::carrier::{Carried as _, Carrier};
use super::change::Change;
use super::{Lasting, Work, flush, read};
use crate::disk::Disk;
use crate::disk::hub::Hub;
use crate::disk::policy::Changes;
use crate::driver::timer::Timer;
use crate::error::{Error, FailedRequest, InvalidRequest, Result};
use crate::request::{Effect, Execute, Request};
use crate::wire::Command;

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
    /// How much time it has, if that is limited.
    limit: Option<Duration>,
    /// The disk, once the request has begun: it does not end before that is over.
    disk: Option<Disk>,
    asked: FailedRequest,
}

enum Stage<O: Execute> {
    New(Request<O, Disk>),
    /// The caller does the work himself.
    Working(Work<O::Output>),
    /// A change, which the caller carries as long as nobody else waits for it.
    Changing(Arc<Carrier<O::Output>>),
    Over,
}

impl<O: Execute> Stage<O> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<O::Output>> {
        match self {
            Self::Working(work) => work.as_mut().poll(cx),
            Self::Changing(carrier) => carrier.poll(cx),
            Self::New(_) | Self::Over => {
                let why = "it was polled although it is over".into();
                let what = "request";
                Poll::Ready(Err(InvalidRequest::Argument { what, why }.into()))
            }
        }
    }

    /// Gives the request up. Returns whether it may have been sent as a change.
    fn give_up(self) -> bool {
        match self {
            Self::Changing(carrier) => carrier.give_up(),
            Self::New(_) | Self::Working(_) | Self::Over => false,
        }
    }
}

impl<O: Execute> Pending<O> {
    pub(super) const fn new(request: Request<O, Disk>) -> Self {
        let (offset, length) = request.range();
        let command = O::COMMAND;
        Self {
            stage: Stage::New(request),
            timer: Timer::new(),
            limit: None,
            disk: None,
            asked: FailedRequest {
                command,
                offset,
                length,
            },
        }
    }

    /// Begins with the request at once, whether the future is polled or not.
    pub(super) fn submit(request: Request<O, Disk>) -> Self {
        let hub = request.client().hub().clone();
        let mut pending = Self::new(request);
        pending.begin();
        match std::mem::replace(&mut pending.stage, Stage::Over) {
            Stage::Working(work) => {
                let (answer, result) = oneshot::channel();
                // Nobody may be there to hear it.
                hub.spawn(async move { drop(answer.send(work.await)) });
                pending.stage = Stage::Working(Box::pin(async move {
                    result.await.unwrap_or_else(|_| Err(Error::closed()))
                }));
            }
            Stage::Changing(carrier) => {
                carrier.clone().hand_over();
                pending.stage = Stage::Changing(carrier);
            }
            stage => pending.stage = stage,
        }
        pending
    }

    /// Begins with the request, if that was not done yet.
    fn begin(&mut self) {
        if !matches!(self.stage, Stage::New(_)) {
            return;
        }
        let Stage::New(request) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return;
        };
        let disk = self.disk.insert(request.client().clone());
        self.limit = disk.hub().settings.deadline(request.deadline());
        if let Some(timeout) = self.limit {
            if let Err(error) = self.timer.start(timeout) {
                let error = Err(Error::from(error));
                self.stage = Stage::Working(Box::pin(std::future::ready(error)));
                return;
            }
        }
        self.stage = match self.check() {
            Ok(()) => begin(request),
            Err(error) => Stage::Working(Box::pin(std::future::ready(Err(error)))),
        };
    }

    /// Refuses what is beyond the end of the disk, which may be before that of a later export.
    fn check(&self) -> Result<()> {
        let FailedRequest {
            command,
            offset,
            length,
        } = self.asked;
        let size = self.hub().map_or(u64::MAX, |hub| hub.facts.export().size());
        match offset.checked_add(length).is_some_and(|end| end <= size) {
            true => Ok(()),
            false => Err(InvalidRequest::OutOfBounds {
                command,
                offset,
                length,
                size,
            }
            .into()),
        }
    }
}

impl<O: Execute> Pending<O> {
    /// Returns the state of the disk, while the request is not over.
    fn hub(&self) -> Option<&Arc<Hub>> {
        self.disk.as_ref().map(Disk::hub)
    }

    /// Adds the request, the server and the export to an error, unless it has them.
    fn named(&self, error: Error) -> Error {
        let error = match error.request() {
            Some(_) => error,
            None => error.of(self.asked),
        };
        match self.hub() {
            Some(hub) => error.at(&hub.site),
            None => error,
        }
    }

    /// The result for the caller, who hears of a flush what it promises.
    fn taken(&self, result: Result<O::Output>) -> Result<O::Output> {
        let result = match O::COMMAND {
            Command::FLUSH => result.and_then(|output| self.promised(output)),
            _ => result,
        };
        result.map_err(|error| self.named(error))
    }

    fn promised(&self, output: O::Output) -> Result<O::Output> {
        match self.hub() {
            Some(hub) => hub.promise().map(|()| output),
            None => Ok(output),
        }
    }

    /// Gives the request up, because its time is over.
    fn overdue(&mut self, stage: Stage<O>) -> Error {
        let (Some(limit), Some(hub)) = (self.limit.take(), self.hub()) else {
            return Error::closed();
        };
        let FailedRequest {
            command,
            offset,
            length,
        } = self.asked;
        let is_change = matches!(stage, Stage::Changing(_));
        if stage.give_up() {
            let range = offset..offset.saturating_add(length);
            let overdue = Error::overdue(limit, self.asked);
            return Error::lost_change(command, range, None, overdue);
        }
        match is_change {
            true => hub.unsent(limit, self.asked),
            false => hub.overdue(limit, self.asked),
        }
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
                let result = this.taken(result);
                this.disk = None;
                Poll::Ready(result)
            }
            Poll::Pending if this.timer.poll_over(cx) => {
                let stage = std::mem::replace(&mut this.stage, Stage::Over);
                let error = this.overdue(stage);
                let error = this.named(error);
                this.disk = None;
                Poll::Ready(Err(error))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// What was sent is followed to its end, whoever does it.
impl<O: Execute> Drop for Pending<O> {
    fn drop(&mut self) {
        std::mem::replace(&mut self.stage, Stage::Over).give_up();
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

/// Begins to work on a request.
fn begin<O: Execute>(request: Request<O, Disk>) -> Stage<O> {
    let hub = request.client().hub().clone();
    let request = Lasting::new(request);
    let refused = |error| Stage::Working(Box::pin(std::future::ready(Err(Error::from(error)))));
    match request.operation.effect() {
        Effect::None if O::COMMAND == Command::FLUSH => {
            return Stage::Working(Box::pin(flush(hub, request)));
        }
        Effect::None => return Stage::Working(Box::pin(read(hub, request))),
        Effect::Data(_) | Effect::Zeroes | Effect::Unknown => {}
    }
    if hub.settings.changes == Changes::Refuse {
        return refused(InvalidRequest::ReadOnlyDisk(O::COMMAND));
    }
    if request.range.is_empty() {
        return Stage::Working(Box::pin(read(hub, request)));
    }
    let covers = hub.reach(&request.range, request.is_unaligned);
    let carrier = Carrier::new(hub.clone());
    let placed = hub.begin(covers.clone(), carrier.clone());
    let change = Change {
        asked: request.range.clone(),
        hub,
        request,
        covers,
        carrier: carrier.clone(),
    };
    carrier.put(Box::pin(change.carry_out(placed)), None);
    Stage::Changing(carrier)
}
