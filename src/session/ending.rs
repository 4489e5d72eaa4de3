//! The end of a session: in order, by giving up what is not sent, or by a failure.

use bytes::Bytes;

use super::inflight::Stage;
use super::{Outbox, Session};
use crate::error::{Delivery, Error};
use crate::wire::request::RequestHead;
use crate::wire::{Command, CommandFlags};

impl Session {
    /// Refuses further requests. Requests in flight go on, and requests of several messages that have
    /// begun are sent to their end.
    pub fn close(&mut self) {
        if self.closing.is_none() {
            self.closing = Some(Error::closed());
            self.finishing = true;
        }
        self.turn_away();
        // Those that were turned away may have stood before others.
        self.grant();
    }

    /// Refuses every message that is not in flight, with `why` or an earlier reason.
    pub fn refuse(&mut self, why: Error) {
        self.closing.get_or_insert(why);
        self.finishing = false;
        self.turn_away();
    }

    /// Begins a request of several messages, for which `DISC` waits until [`end_several`]. Returns
    /// false if no request is taken any more.
    ///
    /// [`end_several`]: Self::end_several
    pub const fn begin_several(&mut self) -> bool {
        let begins = self.takes(false);
        if begins {
            self.several = self.several.saturating_add(1);
        }
        begins
    }

    /// Ends a request of several messages: all are queued or given up. Returns whether `DISC` waits
    /// for none any more.
    pub const fn end_several(&mut self) -> bool {
        self.several = self.several.saturating_sub(1);
        self.finishing && self.several == 0
    }

    /// Returns whether `DISC` waits for nothing but messages to come of requests that have begun.
    pub const fn awaits_callers(&self) -> bool {
        self.ended.is_none() && self.finishing && self.pending == 0
    }

    /// Has `DISC` wait no longer for messages to come, and refuses them.
    pub fn give_up_callers(&mut self) {
        if std::mem::take(&mut self.finishing) {
            self.turn_away();
        }
    }

    /// Wakes the callers of all waiting requests that are not taken any more.
    fn turn_away(&mut self) {
        for waiter in self.gate.turn_away(!self.takes(true)) {
            self.woken.push(waiter.waker);
            if waiter.want.changes.is_some() {
                self.end_change(waiter.want.span);
            }
        }
    }

    /// Fails every request of which nothing has been written, and drops its bytes. `taken` are the
    /// bytes that were taken to be written, and are not written yet.
    pub fn discard_unsent(&mut self, taken: &mut Outbox) {
        let mut end = self.written;
        let mut unsent = Vec::new();
        for slot in self.inflight.slots() {
            let Some(entry) = self.inflight.get_mut(slot) else {
                continue;
            };
            if matches!(entry.stage, Stage::Done(_)) {
                continue;
            }
            if entry.sent.start >= self.written {
                unsent.push(slot);
            } else {
                end = end.max(entry.sent.end);
            }
        }
        self.messages_sent = self.messages_sent.wrapping_sub(unsent.len() as u64);
        for slot in unsent {
            self.early.retain(|early| *early != slot);
            let error = Error::closed().delivered(Delivery::NotSent);
            self.retire(slot, Err(error));
        }
        let keep = end.saturating_sub(self.written);
        self.outbox.truncate(keep.saturating_sub(taken.remaining()));
        taken.truncate(keep);
        self.queued = end;
        self.give_up_callers();
        // The requests that waited for room are queued behind what is kept.
        self.grant();
    }

    /// Queues `DISC` if [`close`](Self::close) was called and nothing is in flight. Returns whether
    /// `DISC` is queued or was queued before.
    pub fn try_disconnect(&mut self) -> bool {
        // P-145: DISC is sent when nothing is in flight.
        if self.closing.is_some()
            && self.pending == 0
            && (!self.finishing || self.several == 0)
            && !self.disconnecting
            && self.ended.is_none()
        {
            self.disconnect_now();
        }
        self.disconnecting
    }

    /// Queues `DISC` regardless of requests in flight.
    pub fn disconnect_now(&mut self) {
        self.closing.get_or_insert_with(Error::closed);
        self.give_up_callers();
        self.disconnecting = true;
        // P-144: DISC has offset and length zero, and nothing follows it.
        let head = RequestHead {
            flags: CommandFlags::empty(),
            command: Command::DISC,
            cookie: self.inflight.next_cookie(),
            offset: 0,
            length: 0,
        };
        self.push(&head, Bytes::new());
    }

    /// Returns the cause of the end, if the session has ended.
    pub const fn ended(&self) -> Option<&Error> {
        self.ended.as_ref()
    }

    /// Returns whether `DISC` is queued: nothing more is expected from the server.
    pub const fn is_disconnecting(&self) -> bool {
        self.disconnecting
    }

    /// Refuses every request from now on with `error`. Requests in flight fail with the call of
    /// [`finish`](Self::finish). The first cause stands. Returns the error, which also says whether
    /// writes were left unflushed.
    pub fn stop(&mut self, error: Error) -> Error {
        let error = error.with_unflushed(self.has_unflushed());
        if self.ended.is_none() {
            self.ended = Some(error.clone());
            self.outbox = Outbox::default();
            self.turn_away();
            self.is_settled = self.barrier.is_empty();
            self.settling.wake_all(&mut self.woken);
        }
        error
    }

    /// Fails the requests in flight after [`stop`](Self::stop). Must be called when the number of
    /// written bytes is final.
    pub fn finish(&mut self) {
        let Some(error) = self.ended.clone() else {
            return;
        };
        self.early.clear();
        for slot in self.inflight.slots() {
            let Some(entry) = self.inflight.get_mut(slot) else {
                continue;
            };
            if matches!(entry.stage, Stage::Done(_)) {
                continue;
            }
            let delivery = if entry.sent.start < self.written {
                Delivery::MaybeSent
            } else {
                Delivery::NotSent
            };
            // An error that came before its request was fully written stands. An early success
            // does not: the server cannot have acted on data it never received.
            let result = match std::mem::replace(&mut entry.stage, Stage::Waiting) {
                Stage::Early(Err(refusal)) => Err(*refusal),
                _ => Err(error.clone().delivered(delivery)),
            };
            self.complete(slot, result);
        }
    }

    /// Ends the session: every request in flight and every later one fails with `error`.
    pub fn fail(&mut self, error: &Error) {
        self.stop(error.clone());
        self.finish();
    }
}
