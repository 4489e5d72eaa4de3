//! Takes requests: at once, or after a wait for room, for abandoned changes that they overlap, or,
//! if they are flushes, for earlier changes.

use std::task::{Poll, Waker};

use super::gate::{Waiter, Want};
use super::inflight::{Entry, Kind, payload};
use super::{Cookie, Error, Session, Sink, Submission};
use crate::wire::request::RequestHead;
use crate::wire::{Command, CommandFlags};

impl Session {
    /// Queues a request of one message, see [`poll_message`](Self::poll_message).
    #[cfg(any(test, feature = "__internals"))]
    pub fn poll_submit(
        &mut self,
        submission: &mut Option<Submission>,
        ticket: &mut Option<u64>,
        waker: &Waker,
    ) -> Poll<Result<Cookie, Error>> {
        self.poll_message(false, submission, ticket, waker)
    }

    /// Queues a message as soon as there is room for it, whether or not the caller polls. From then on
    /// it is sent, whatever the caller does. `ticket` is its ticket while it waits. One that `continues`
    /// a request of several messages is taken even if the session was closed after that had begun.
    ///
    /// Returns the cookie. If the message had a ticket, its answer may be there already.
    pub fn poll_message(
        &mut self,
        continues: bool,
        submission: &mut Option<Submission>,
        ticket: &mut Option<u64>,
        waker: &Waker,
    ) -> Poll<Result<Cookie, Error>> {
        if let Some(cookie) = ticket.and_then(|ticket| self.granted.remove(&ticket)) {
            *ticket = None;
            return Poll::Ready(Ok(cookie));
        }
        if let Some(error) = self.refusal(continues) {
            return Poll::Ready(Err(error));
        }
        if let Some(ticket) = *ticket {
            self.gate.set_waker(ticket, waker);
            return Poll::Pending;
        }
        let Some(item) = submission.take() else {
            return Poll::Pending;
        };
        let want = self.want(&item, continues);
        if item.command == Command::FLUSH && !self.barrier.is_past(want.span) {
            let waker = waker.clone();
            *ticket = Some(self.gate.hold(Waiter { want, item, waker }));
            return Poll::Pending;
        }
        if self.gate.enter(&want) {
            return Poll::Ready(Ok(self.queue(item, &want, waker)));
        }
        let waker = waker.clone();
        *ticket = Some(self.gate.wait(Waiter { want, item, waker }));
        Poll::Pending
    }

    /// Returns what the gate needs to know of a request.
    fn want(&mut self, submission: &Submission, continues: bool) -> Want {
        let (command, offset, length) = (submission.command, submission.offset, submission.length);
        let exclusive = matches!(submission.sink, Sink::Modify(_));
        let changes =
            (command.changes() || exclusive).then(|| offset..offset.saturating_add(length));
        if exclusive && !self.gate.tracks_changes() {
            self.gate.track_changes(self.inflight.unanswered_changes());
        }
        Want {
            bytes: match &submission.sink {
                Sink::Status(status) => status.expected(),
                _ => payload(command, length),
            },
            span: match command {
                Command::FLUSH => self.barrier.cut(),
                _ if changes.is_some() => self.barrier.begin(),
                _ => 0,
            },
            changes,
            exclusive,
            continues,
        }
    }

    /// Ends a change of `span`, which is answered or will not be sent. Flushes that waited for it
    /// move into the line.
    pub(super) fn end_change(&mut self, span: u64) {
        if self.barrier.end(span) {
            let barrier = &self.barrier;
            self.gate.release(|span| barrier.is_past(span));
            self.settling.wake(barrier, &mut self.woken);
        }
    }

    /// Queues the waiting requests that can be admitted now.
    pub(super) fn grant(&mut self) {
        // What else waited was turned away.
        if !self.takes(true) {
            return;
        }
        while let Some((ticket, waiter)) = self.gate.grant() {
            let cookie = self.queue(waiter.item, &waiter.want, &waiter.waker);
            self.granted.insert(ticket, cookie);
            self.woken.push(waiter.waker);
        }
    }

    /// Queues an admitted request, and returns its cookie.
    fn queue(&mut self, submission: Submission, want: &Want, waker: &Waker) -> Cookie {
        let cookie = self.inflight.next_cookie();
        let Submission {
            command,
            flags,
            offset,
            length,
            payload,
            sink,
        } = submission;
        let head = RequestHead {
            flags,
            command,
            cookie,
            offset,
            length,
        };
        // with a choice of contexts, the header's length is that of the payload.
        let length = match &sink {
            Sink::Status(status) => status.length(),
            _ => length,
        };
        let begin = self.queued;
        self.push(&head, payload);
        let mut entry = Entry::new(command, (offset, length), begin..self.queued, sink);
        entry.bytes = want.bytes;
        entry.kind = match command {
            Command::FLUSH => Kind::Flush {
                covered: self.ledger.covered(),
            },
            _ if want.changes.is_some() => Kind::Change { span: want.span },
            _ => Kind::Other,
        };
        entry.epoch = self.epoch;
        entry.begun = self.now.unwrap_or_default();
        entry.fua = flags.contains(CommandFlags::FUA);
        entry.exclusive = want.exclusive;
        entry.single_chunk = flags.contains(CommandFlags::DF);
        entry.waker = Some(waker.clone());
        self.expected = self.expected.saturating_add(entry.data());
        let slot = self.inflight.insert(entry);
        if let Some(changes) = want.changes.as_ref().filter(|_| self.gate.tracks_changes()) {
            self.gate.begin(changes, want.exclusive, slot as u64);
        }
        self.pending = self.pending.saturating_add(1);
        Cookie(cookie)
    }
}
