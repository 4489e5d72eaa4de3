//! How a session ends: in order, by giving up what is not sent, or by a failure.

use bytes::Bytes;

use super::inflight::Stage;
use super::{Outbox, Session};
use crate::error::{Delivery, Error};
use crate::wire::request::RequestHead;
use crate::wire::{Command, CommandFlags};

impl Session {
    /// Takes no further requests. Those in flight go on.
    pub fn close(&mut self) {
        self.refuse(Error::closed());
    }

    /// Refuses every request that is not in flight, for this reason or an earlier one.
    pub(super) fn refuse(&mut self, why: Error) {
        self.closing.get_or_insert(why);
        self.gate.wake_all(&mut self.woken);
    }

    /// Gives up every request of which nothing has been written, and says where the stream of
    /// bytes now ends: what is queued after that must not be written.
    pub fn drop_unsent(&mut self) -> u64 {
        let mut end = self.written;
        let mut unsent = Vec::new();
        for place in self.inflight.places() {
            let Some(entry) = self.inflight.get_mut(place) else {
                continue;
            };
            if matches!(entry.stage, Stage::Done(_)) {
                continue;
            }
            if entry.sent.start >= self.written {
                unsent.push(place);
            } else {
                end = end.max(entry.sent.end);
            }
        }
        self.messages_sent = self.messages_sent.wrapping_sub(unsent.len() as u64);
        for place in unsent {
            self.early.retain(|early| *early != place);
            let error = Error::closed().delivered(Delivery::NotSent);
            self.complete(place, Err(error));
        }
        self.queued = end;
        end
    }

    /// Keeps the first `keep` bytes of what is queued.
    pub fn truncate_outbox(&mut self, keep: u64) {
        self.outbox.truncate(keep);
    }

    /// Queues `DISC` once [`close`](Self::close) was called and nothing is in flight any more;
    /// says whether it is queued.
    pub fn try_disconnect(&mut self) -> bool {
        // P-145: DISC when nothing is in flight.
        if self.closing.is_some()
            && self.pending == 0
            && !self.disconnecting
            && self.ended.is_none()
        {
            self.disconnect_now();
        }
        self.disconnecting
    }

    /// Queues `DISC` whatever is in flight.
    pub fn disconnect_now(&mut self) {
        self.closing.get_or_insert_with(Error::closed);
        self.disconnecting = true;
        // P-144: offset and length zero, nothing after it.
        let head = RequestHead {
            flags: CommandFlags::empty(),
            command: Command::DISC,
            cookie: self.inflight.next_cookie(),
            offset: 0,
            length: 0,
        };
        self.push(&head, Bytes::new());
    }

    /// Why it has ended, if it has.
    pub const fn ended(&self) -> Option<&Error> {
        self.ended.as_ref()
    }

    /// Whether nothing more is expected from the server.
    pub const fn is_disconnecting(&self) -> bool {
        self.disconnecting
    }

    /// Refuses every request from now on with `error`, which is given back with what is to be said
    /// of the end. Those in flight are told by [`finish`](Self::finish). The first cause stands.
    pub fn stop(&mut self, error: Error) -> Error {
        let error = error.with_unflushed(self.has_unflushed());
        if self.ended.is_none() {
            self.ended = Some(error.clone());
            self.outbox = Outbox::default();
            self.gate.wake_all(&mut self.woken);
        }
        error
    }

    /// Tells the requests in flight why it has ended. What is written is known by now, and no more
    /// will be.
    pub fn finish(&mut self) {
        let Some(error) = self.ended.clone() else {
            return;
        };
        self.early.clear();
        for place in self.inflight.places() {
            let Some(entry) = self.inflight.get_mut(place) else {
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
            // A refusal that came before its request was fully written still stands. A success does
            // not: nobody can have done what nobody has received.
            let result = match std::mem::replace(&mut entry.stage, Stage::Waiting) {
                Stage::Early(Err(refusal)) => Err(refusal),
                _ => Err(error.clone().delivered(delivery)),
            };
            self.complete(place, result);
        }
    }

    /// Ends it: every request in flight and every later one gets `error`.
    pub fn fail(&mut self, error: &Error) {
        self.stop(error.clone());
        self.finish();
    }
}
