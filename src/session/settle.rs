//! Callers that wait until earlier changes are answered, without a flush.

use std::collections::BTreeMap;
use std::task::{Poll, Waker};

use super::barrier::Barrier;
use super::{Error, Session};

/// The place of a caller that waits: the span before which all changes must be answered, and a
/// number of its own.
pub type Place = (u64, u64);

/// The callers that wait until earlier changes are answered.
#[derive(Debug, Default)]
pub struct Settling {
    next: u64,
    waiting: BTreeMap<Place, Waker>,
}

impl Settling {
    /// Moves the wakers of callers whose changes are answered to `woken`.
    pub(super) fn wake(&mut self, barrier: &Barrier, woken: &mut Vec<Waker>) {
        while let Some(first) = self.waiting.first_entry() {
            if !barrier.is_past(first.key().0) {
                return;
            }
            woken.push(first.remove());
        }
    }

    /// Moves the wakers of all callers to `woken`.
    pub(super) fn wake_all(&mut self, woken: &mut Vec<Waker>) {
        woken.extend(std::mem::take(&mut self.waiting).into_values());
    }
}

impl Session {
    /// Waits until the changes are answered that were begun before the first call with this `place`,
    /// which is then `None`.
    ///
    /// # Errors
    /// The cause, if the session has ended and a change was not answered.
    pub fn poll_settled(
        &mut self,
        place: &mut Option<Place>,
        waker: &Waker,
    ) -> Poll<Result<(), Error>> {
        if let Some(error) = self.ended.as_ref().filter(|_| !self.is_settled) {
            return Poll::Ready(Err(error.clone()));
        }
        let place = *place.get_or_insert_with(|| {
            self.settling.next = self.settling.next.wrapping_add(1);
            (self.barrier.cut(), self.settling.next)
        });
        if self.barrier.is_past(place.0) {
            self.settling.waiting.remove(&place);
            return Poll::Ready(Ok(()));
        }
        self.settling.waiting.insert(place, waker.clone());
        Poll::Pending
    }

    /// Removes a caller that waits no longer.
    pub fn leave_settling(&mut self, place: Place) {
        self.settling.waiting.remove(&place);
    }
}
