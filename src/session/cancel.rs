//! Requests that their callers give up.

use std::collections::VecDeque;

use super::inflight::Stage;
use super::{Cookie, Session, Sink};
use crate::wire::Command;

impl Session {
    /// Removes a waiting request from the gate. Returns its cookie if it was admitted meanwhile.
    pub fn cancel(&mut self, ticket: u64) -> Option<Cookie> {
        let cookie = self.granted.remove(&ticket);
        if let Some(waiter) = self.gate.cancel(ticket) {
            if waiter.want.changes.is_some() {
                self.end_change(waiter.want.span);
            }
            self.grant();
        }
        cookie
    }

    /// Abandons a request. If it is unanswered, its slot stays taken until the reply has come and
    /// was checked.
    pub fn abandon(&mut self, cookie: Cookie) {
        let Some(slot) = self.inflight.find_request(cookie.0) else {
            return;
        };
        let Some(entry) = self.inflight.get_mut(slot) else {
            return;
        };
        if matches!(entry.stage, Stage::Done(_)) {
            self.inflight.remove(slot);
            return;
        }
        if std::mem::replace(&mut entry.abandoned, true) {
            return;
        }
        entry.waker = None;
        if let Sink::Chunks(chunks) = &mut entry.sink {
            chunks.queue = VecDeque::new();
        }
        let Some(changes) = entry.changes() else {
            return;
        };
        if !entry.exclusive {
            self.gate.abandon(&changes, slot as u64);
        } else if entry.command == Command::READ {
            self.unlock(slot);
        }
        // Changes that now wait for this one no longer hold up the line.
        if self.gate.has_waiting() {
            self.grant();
        }
    }
}
