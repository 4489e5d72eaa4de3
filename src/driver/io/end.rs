//! The end of the transmission phase: who ends it, and with which error.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use tokio::task::yield_now;
use tokio::time::Instant;

use super::Driver;
use crate::driver::parting::{LEAVE, Parting, Stage};
use crate::driver::transmission::Duty;
use crate::error::{Error, Phase};
use crate::session::Session;

/// The end of the transmission phase.
#[derive(Debug)]
pub(in crate::driver) enum Ended {
    /// After our `DISC`, or by the server with nothing in flight; the error says which.
    Orderly(Error),
    /// By a failure.
    Failed(Error),
}

impl Driver {
    /// Returns the time by which the server must have closed, once it was told that nothing
    /// follows.
    pub(in crate::driver) fn leaving(&self) -> Option<Instant> {
        self.stage.parting().and_then(Parting::end)
    }

    /// Checks whether a handle has ended the connection, or the deadline after `DISC` has passed.
    /// While this is pending, nothing may be written.
    pub(super) fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        let (output, woken) = (&mut self.output, &mut self.woken);
        let mut takes = false;
        let patience = match self.transmission.begin_poll(cx.waker(), output, woken) {
            Duty::Serve => {
                if self.callers.is_set() {
                    self.callers.clear();
                }
                return Poll::Ready(None);
            }
            Duty::Await => return self.poll_callers(cx),
            Duty::Part => {
                std::task::ready!(self.poll_look(cx));
                if let Poll::Ready(ended) = self.poll_gone(cx) {
                    return Poll::Ready(Some(ended));
                }
                self.shutdown_timeout
            }
            Duty::Leave => self.shutdown_timeout.min(LEAVE),
            Duty::Drain(patience) => {
                takes = true;
                patience
            }
            Duty::Stop(error) => return Poll::Ready(Some(Ended::Failed(error))),
        };
        if self.stage.is_serving() {
            self.stage = Stage::Parting(Parting::new(patience, takes));
        }
        if let Stage::Parting(parting) = &mut self.stage {
            parting.hurry(patience);
            // The server keeps the connection open after DISC, so it is closed from this side.
            if parting.poll_over(cx) {
                return Poll::Ready(Some(self.parted()));
            }
        }
        Poll::Ready(None)
    }

    /// Waits for the messages to come of requests that have begun. A caller that does not poll its
    /// request cannot keep the connection open for longer than the server could.
    fn poll_callers(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        if !self.callers.is_set() {
            self.callers.set(self.shutdown_timeout);
        }
        if !self.callers.poll_over(cx) {
            return Poll::Ready(None);
        }
        self.transmission.change(Session::give_up_callers);
        // The next poll queues DISC.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Yields once before `DISC` is written, so that the runtime looks at its sockets: what the
    /// server has done since it last did is not known otherwise.
    fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.looked || !self.stage.is_serving() {
            return Poll::Ready(());
        }
        self.looked = true;
        // A handle that wakes the driver would have it run before the look.
        self.transmission.mark_scheduled();
        pin!(yield_now()).poll(cx)
    }

    /// Checks, before `DISC` is written, whether the server has gone already: then `DISC` is not
    /// the reason.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if !self.stage.is_serving() {
            return Poll::Pending;
        }
        match self.poll_fill(cx) {
            Poll::Ready(Ok(false)) => Poll::Ready(self.eof()),
            // Bytes that come when nothing is owed are ignored.
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(self.lost(error)),
        }
    }

    /// Returns whether the server was told that nothing follows.
    pub(super) fn is_leaving(&self) -> bool {
        self.stage.parting().is_some_and(|parting| !parting.unheard)
    }

    /// Returns the end after `DISC`, with the reason why it was sent.
    fn parted(&self) -> Ended {
        Ended::Orderly(
            self.transmission
                .refusal(false)
                .unwrap_or_else(Error::closed),
        )
    }

    pub(super) fn eof(&self) -> Ended {
        if self.is_leaving() {
            if self.stage.parting().is_some_and(|parting| parting.said) {
                self.transmission.set_drained();
            }
            return self.parted();
        }
        let error = Error::eof(Phase::Request);
        let is_clean = self.input.is_empty() && self.transmission.in_flight() == 0;
        if is_clean {
            Ended::Orderly(error)
        } else {
            Ended::Failed(error)
        }
    }

    pub(super) fn lost(&self, error: io::Error) -> Ended {
        if self.is_leaving() {
            // Some servers reset the connection after DISC.
            return self.parted();
        }
        Ended::Failed(Error::io(Phase::Request, error))
    }
}
