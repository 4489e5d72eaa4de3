//! Requests that their callers give up.

use super::inflight::Stage;
use super::{Session, Ticket};

impl Session {
    /// Removes a waiting request from the gate. Returns its ticket if it was admitted meanwhile.
    pub fn leave_queue(&mut self, place: u64) -> Option<Ticket> {
        let ticket = self.granted.remove(&place);
        if let Some(waiter) = self.gate.cancel(place) {
            if waiter.want.changes.is_some() {
                self.end_change(waiter.want.span);
            }
            self.grant();
        }
        ticket
    }

    /// Abandons a request. If it is unanswered, its slot stays taken until the reply has come and
    /// was checked.
    pub fn abandon(&mut self, ticket: Ticket) {
        let Some(place) = self.inflight.find(ticket.0) else {
            return;
        };
        let Some(entry) = self.inflight.get_mut(place) else {
            return;
        };
        if matches!(entry.stage, Stage::Done(_)) {
            self.inflight.remove(place);
            return;
        }
        if std::mem::replace(&mut entry.orphan, true) {
            return;
        }
        entry.waker = None;
        if let Some(changes) = entry.changes() {
            self.gate.abandon(&changes, place as u64);
            // Changes that now wait for this one no longer hold up the line.
            if self.gate.has_waiting() {
                self.grant();
            }
        }
    }
}
