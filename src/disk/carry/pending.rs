//! Requests of a disk as futures.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::oneshot;

use super::change::Change;
use super::{Lasting, Work, flush, read};
use crate::disk::Disk;
use crate::disk::policy::Changes;
use crate::disk::state::Content;
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
    /// How much time it has, if that is limited, and what it asks for.
    timeout: Duration,
    asked: FailedRequest,
}

enum Stage<O: Execute> {
    New(Request<O, Disk>),
    /// The caller does the work himself.
    Working(Work<O::Output>),
    /// A task changes the export, and says when it began to.
    Changing {
        result: oneshot::Receiver<Result<O::Output>>,
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

    /// Gives the request up because its deadline has passed. Returns whether it may have been sent as
    /// a change.
    fn give_up(self) -> bool {
        let Self::Changing {
            mut result,
            is_begun,
        } = self
        else {
            return false;
        };
        // The task looks at the one after it has set the other.
        result.close();
        is_begun.load(Ordering::SeqCst)
    }
}

impl<O: Execute> Pending<O> {
    pub(super) const fn new(request: Request<O, Disk>) -> Self {
        let (offset, length) = request.range();
        let command = O::COMMAND;
        Self {
            stage: Stage::New(request),
            timer: Timer::new(),
            timeout: Duration::MAX,
            asked: FailedRequest {
                command,
                offset,
                length,
            },
        }
    }

    /// Begins with the request at once, whether the future is polled or not.
    pub(super) fn submit(request: Request<O, Disk>) -> Self {
        let runtime = request.client().hub().runtime.clone();
        let mut pending = Self::new(request);
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

    /// Begins with the request, if that was not done yet.
    fn begin(&mut self) {
        if !matches!(self.stage, Stage::New(_)) {
            return;
        }
        let Stage::New(request) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return;
        };
        let settings = &request.client().hub().settings;
        let timeout = settings.deadline(request.deadline());
        if let Some(timeout) = timeout {
            if let Err(error) = self.timer.start(timeout) {
                let error = Err(Error::from(error));
                self.stage = Stage::Working(Box::pin(std::future::ready(error)));
                return;
            }
            self.timeout = timeout;
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
                let FailedRequest {
                    command,
                    offset,
                    length,
                } = this.asked;
                let overdue = Error::overdue(this.timeout, this.asked);
                Poll::Ready(Err(match stage.give_up() {
                    true => Error::lost_change(
                        command,
                        offset..offset.saturating_add(length),
                        None,
                        overdue,
                    ),
                    false => overdue.unsent(),
                }))
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

/// Begins to work on a request.
fn begin<O: Execute>(request: Request<O, Disk>) -> Stage<O> {
    let hub = request.client().hub().clone();
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
    Stage::Changing { result, is_begun }
}
