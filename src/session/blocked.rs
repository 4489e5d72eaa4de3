//! Changes that wait for other changes.

use std::collections::BTreeMap;
use std::ops::Range;

use super::gate::{Waiter, Want};
use super::ranges::Ranges;

/// The changes that others must wait for, and the changes that wait for them.
///
/// An abandoned change may still be on its way: it would overwrite a newer change that overtook it
/// with old data. A change that overlaps an abandoned one therefore waits here, where it holds up
/// no other request.
///
/// An exclusive change is one of a part of a block, which is read, changed and written: it would undo
/// any other change of the block that is carried out meanwhile. It therefore waits for all changes of
/// the block that are in flight, and changes of the block wait for it. A change that comes while an
/// exclusive one waits here, waits for that one, so that the exclusive one has its turn; one that was
/// here before it is not held up by it. Exclusive changes of a block take turns in the order of
/// their tickets.
///
/// All sets are ordered by range, so every operation costs the logarithm of their size. When a change
/// is answered, only the waiting changes that became free are looked at, the gaps between other
/// reasons to wait in its range, and one exclusive change for each block in it.
#[derive(Debug)]
pub struct Blocked<T> {
    /// The abandoned and the exclusive changes in flight. Changes that overlap them must wait.
    closed: Ranges,
    /// All changes in flight, by slot, from the first exclusive one on. Exclusive changes that
    /// overlap them must wait.
    in_flight: Option<Ranges>,
    /// The ranges of the waiting changes, numbered by their tickets.
    ranges: Ranges,
    /// The blocks of the waiting exclusive changes, numbered by their tickets.
    blocks: Ranges,
    /// The length of the longest block of an exclusive change so far, in bytes.
    longest: u64,
    waiting: BTreeMap<u64, Waiter<T>>,
}

impl<T> Blocked<T> {
    /// Creates an empty set.
    pub const fn new() -> Self {
        Self {
            closed: Ranges::new(),
            in_flight: None,
            ranges: Ranges::new(),
            blocks: Ranges::new(),
            longest: 0,
            waiting: BTreeMap::new(),
        }
    }

    /// Returns whether a request overlaps a change in flight that it must wait for.
    pub fn must_wait(&self, want: &Want) -> bool {
        let Some(changes) = want.changes.as_ref().filter(|changes| !changes.is_empty()) else {
            return false;
        };
        match &self.in_flight {
            Some(in_flight) if want.exclusive => in_flight.overlaps(changes),
            _ => self.closed.overlaps(changes),
        }
    }

    /// Returns whether a new request must wait: for a change in flight, or for an exclusive one that
    /// waits here.
    pub fn must_queue(&self, want: &Want) -> bool {
        let changes = want.changes.as_ref().filter(|changes| !changes.is_empty());
        self.must_wait(want) || changes.is_some_and(|changes| self.blocks.overlaps(changes))
    }

    /// Adds a waiting change.
    pub fn wait(&mut self, ticket: u64, waiter: Waiter<T>) {
        if let Some(changes) = &waiter.want.changes {
            if waiter.want.exclusive {
                self.longest = self.longest.max(changes.end.saturating_sub(changes.start));
                self.blocks.insert(changes, ticket);
            } else {
                self.ranges.insert(changes, ticket);
            }
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
            if waiter.want.exclusive {
                self.blocks.remove(changes, ticket);
            } else {
                self.ranges.remove(changes, ticket);
            }
        }
        Some(waiter)
    }

    /// Returns whether all changes in flight are known.
    pub const fn tracks_changes(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Makes all changes in flight known, from now on. `changes` are those that are in flight now,
    /// each with its slot.
    pub fn track_changes(&mut self, changes: impl Iterator<Item = (u64, Range<u64>)>) {
        let in_flight = self.in_flight.insert(Ranges::new());
        for (slot, changes) in changes.filter(|(_, changes)| !changes.is_empty()) {
            in_flight.insert(&changes, slot);
        }
    }

    /// Adds a change that was admitted. `slot` names it until it is answered.
    pub fn begin(&mut self, changes: &Range<u64>, exclusive: bool, slot: u64) {
        if changes.is_empty() {
            return;
        }
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.insert(changes, slot);
        }
        if exclusive {
            self.closed.insert(changes, slot);
        }
    }

    /// Adds an abandoned change. `slot` names it until it is answered.
    pub fn abandon(&mut self, changes: &Range<u64>, slot: u64) {
        if !changes.is_empty() {
            self.closed.insert(changes, slot);
        }
    }

    /// Removes a change that was answered, and moves the changes that waited for no other one to
    /// `line`.
    pub fn answered(
        &mut self,
        changes: &Range<u64>,
        slot: u64,
        line: &mut BTreeMap<u64, Waiter<T>>,
    ) {
        self.closed.remove(changes, slot);
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.remove(changes, slot);
        }
        self.free(changes, line);
    }

    /// Moves the waiting changes that overlap `range` and have no reason to wait any more to `line`.
    pub fn free(&mut self, range: &Range<u64>, line: &mut BTreeMap<u64, Waiter<T>>) {
        let mut at = range.start;
        while at < range.end && self.ranges.overlaps(&(at..range.end)) {
            let reach = self.closed.reach(at.saturating_add(1));
            if reach > at {
                // Other reasons to wait cover the range up to `reach`.
                at = reach;
                continue;
            }
            // No reason to wait lies between `reach` and `next`.
            let next = self.closed.next(at).unwrap_or(u64::MAX);
            while let Some(ticket) = self.ranges.inside(&(reach..next)) {
                line.extend(self.remove(ticket).map(|waiter| (ticket, waiter)));
            }
            at = next;
        }
        // The first block may begin before the range.
        let mut at = range.start.saturating_sub(self.longest.saturating_sub(1));
        while let Some(start) = self.blocks.next(at).filter(|&start| start < range.end) {
            let first = self.blocks.first(start);
            let free = first.filter(|ticket| {
                let waiter = self.waiting.get(ticket);
                waiter.is_some_and(|waiter| !self.must_wait(&waiter.want))
            });
            if let Some(ticket) = free {
                line.extend(self.remove(ticket).map(|waiter| (ticket, waiter)));
            }
            at = start.saturating_add(1);
        }
    }

    /// Removes all waiting changes.
    pub fn take_all(&mut self) -> impl Iterator<Item = Waiter<T>> + use<T> {
        self.ranges = Ranges::new();
        self.blocks = Ranges::new();
        std::mem::take(&mut self.waiting).into_values()
    }
}
