//! Changes that wait for abandoned changes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::task::Waker;

use super::gate::{Waiter, Want};
use super::ranges::Ranges;

/// The abandoned changes that are unanswered, and the changes that wait for them.
///
/// An abandoned change may still be on its way: it would overwrite a newer change that overtook it
/// with old data. A change that overlaps an abandoned one therefore waits here, where it holds up
/// no other request.
///
/// Both sets are ordered by range, so every operation costs the logarithm of their size. When an
/// abandoned change is answered, only the waiting changes that became free are looked at, and the
/// gaps between other abandoned changes in its range.
#[derive(Debug)]
pub struct Blocked<T> {
    abandoned: Ranges,
    /// The ranges of the waiting changes, numbered by their tickets.
    ranges: Ranges,
    waiting: BTreeMap<u64, Waiter<T>>,
}

impl<T> Blocked<T> {
    /// Creates an empty set.
    pub const fn new() -> Self {
        Self {
            abandoned: Ranges::new(),
            ranges: Ranges::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// Returns whether a request overlaps an unanswered abandoned change.
    pub fn must_wait(&self, want: &Want) -> bool {
        let changes = want.changes.as_ref().filter(|changes| !changes.is_empty());
        changes.is_some_and(|changes| self.abandoned.overlaps(changes))
    }

    /// Adds a waiting change.
    pub fn wait(&mut self, ticket: u64, waiter: Waiter<T>) {
        if let Some(changes) = &waiter.want.changes {
            self.ranges.insert(changes, ticket);
        }
        self.waiting.insert(ticket, waiter);
    }

    /// Returns the waiting change with this ticket.
    pub fn get_mut(&mut self, ticket: u64) -> Option<&mut Waiter<T>> {
        self.waiting.get_mut(&ticket)
    }

    /// Removes the waiting change with this ticket.
    pub fn remove(&mut self, ticket: u64) -> Option<Waiter<T>> {
        let waiter = self.waiting.remove(&ticket)?;
        if let Some(changes) = &waiter.want.changes {
            self.ranges.remove(changes, ticket);
        }
        Some(waiter)
    }

    /// Adds an abandoned change. `slot` names it until it is answered.
    pub fn abandon(&mut self, changes: &Range<u64>, slot: u64) {
        if !changes.is_empty() {
            self.abandoned.insert(changes, slot);
        }
    }

    /// Removes an abandoned change that was answered, and moves the changes that waited for no
    /// other one to `line`.
    pub fn answered(
        &mut self,
        changes: &Range<u64>,
        slot: u64,
        line: &mut BTreeMap<u64, Waiter<T>>,
    ) {
        self.abandoned.remove(changes, slot);
        let mut at = changes.start;
        while at < changes.end && self.ranges.overlaps(&(at..changes.end)) {
            let reach = self.abandoned.reach(at.saturating_add(1));
            if reach > at {
                // Other abandoned changes cover the range up to `reach`.
                at = reach;
                continue;
            }
            // No abandoned change lies between `reach` and `next`.
            let next = self.abandoned.next(at).unwrap_or(u64::MAX);
            while let Some(ticket) = self.ranges.inside(&(reach..next)) {
                line.extend(self.remove(ticket).map(|waiter| (ticket, waiter)));
            }
            at = next;
        }
    }

    /// Removes all waiting changes, and adds their wakers to `woken`.
    pub fn wake_all(&mut self, woken: &mut Vec<Waker>) {
        self.ranges = Ranges::new();
        let waiting = std::mem::take(&mut self.waiting);
        woken.extend(waiting.into_values().map(|waiter| waiter.waker));
    }
}
