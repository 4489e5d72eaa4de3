//! The life of one message: waiting for room, queued, and answered.

use std::task::{Context, Poll, ready};

use crate::chunk::Chunk;
use crate::connection::Connection;
use crate::driver::Transmission;
use crate::error::{Delivery, Error, Result};
use crate::session::{Answer, Cookie, Submission};

/// One message, from its submission to its answer.
#[derive(Debug)]
pub(super) struct Flight {
    /// The message, until it is queued.
    submission: Option<Submission>,
    /// The ticket of the message at the gate, while it waits for room.
    ticket: Option<u64>,
    /// The cookie of the message, while it is queued or sent.
    cookie: Option<Cookie>,
    /// Whether the message is part of a request that has begun.
    continues: bool,
}

impl Flight {
    #[inline]
    pub(super) const fn new(submission: Submission, continues: bool) -> Self {
        Self {
            submission: Some(submission),
            ticket: None,
            cookie: None,
            continues,
        }
    }

    /// Waits until there is room, and queues the message.
    #[inline]
    fn poll_submit(
        &mut self,
        transmission: &Transmission,
        cx: &Context<'_>,
    ) -> Poll<Result<Cookie>> {
        if let Some(cookie) = self.cookie {
            return Poll::Ready(Ok(cookie));
        }
        let (submission, ticket) = (&mut self.submission, &mut self.ticket);
        let sent = transmission.poll_submit(self.continues, submission, ticket, cx.waker());
        Poll::Ready(Ok(*self.cookie.insert(ready!(sent)?)))
    }

    #[inline]
    pub(super) fn poll_answer(
        &mut self,
        transmission: &Transmission,
        cx: &Context<'_>,
    ) -> Poll<Result<Answer>> {
        let is_new = self.cookie.is_none() && self.ticket.is_none();
        let cookie = ready!(self.poll_submit(transmission, cx))?;
        if is_new {
            // The waker is registered, and no answer can have come yet.
            return Poll::Pending;
        }
        let answer = ready!(transmission.poll_answer(cookie, cx.waker()));
        self.cookie = None;
        Poll::Ready(answer)
    }

    pub(super) fn poll_chunk(
        &mut self,
        transmission: &Transmission,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Chunk>>> {
        let cookie = ready!(self.poll_submit(transmission, cx))?;
        transmission.poll_chunk(cookie, cx.waker())
    }

    /// Returns whether the message was queued and is unanswered.
    #[inline]
    pub(super) const fn is_sent(&self) -> bool {
        self.cookie.is_some()
    }

    /// Abandons an unanswered message. Returns whether it was sent.
    #[inline]
    pub(super) fn abandon(&mut self, connection: &Connection) -> bool {
        let (ticket, cookie) = (self.ticket.take(), self.cookie.take());
        if ticket.is_none() && cookie.is_none() {
            return false;
        }
        let Ok(transmission) = connection.transmission() else {
            return false;
        };
        // The message may have been sent since the last poll.
        let cookie = cookie.or_else(|| transmission.cancel(ticket?));
        cookie
            .into_iter()
            .for_each(|cookie| transmission.abandon(cookie));
        cookie.is_some()
    }
}

/// Returns the error of a request whose deadline has passed. If the request was sent, this ends the
/// connection: the server may still carry the request out.
pub(super) fn expire(connection: &Connection, was_sent: bool, overdue: Error) -> Error {
    if !was_sent {
        return overdue.unsent();
    }
    match connection.transmission() {
        Ok(transmission) => transmission.fail(overdue).delivered(Delivery::MaybeSent),
        Err(ended) => ended,
    }
}
