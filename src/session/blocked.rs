//! Changes that wait for other changes.

use std::collections::{BTreeMap, BTreeSet};
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
/// is answered, only the waiting changes are looked at that no change in flight holds any more, the gaps
/// between other reasons to wait in its range, and one exclusive change for each block in it. A change
/// that waits behind an exclusive one is not looked at again until that one waits here no longer.
#[derive(Debug)]
pub struct Blocked<T> {
    /// The abandoned and the exclusive changes in flight. Changes that overlap them must wait.
    closed: Ranges,
    /// All changes in flight, by slot, from the first exclusive one on. Exclusive changes that
    /// overlap them must wait.
    in_flight: Option<Ranges>,
    /// The ranges of the waiting changes, numbered by their tickets, without those in `behind`.
    ranges: Ranges,
    /// The waiting changes that no change in flight holds, but an exclusive one that waits here: the
    /// ticket of that one, and their own.
    behind: BTreeSet<(u64, u64)>,
    /// The same the other way round.
    ahead: BTreeMap<u64, u64>,
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
            behind: BTreeSet::new(),
            ahead: BTreeMap::new(),
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

    /// Returns whether a request that has waited must go on to wait: for a change in flight, or for an
    /// exclusive one that waits here and was first.
    pub fn must_stay(&self, ticket: u64, want: &Want) -> bool {
        self.must_wait(want) || self.first_ahead(ticket, want).is_some()
    }

    /// Returns an exclusive change that waits here, overlaps a request, and came before it.
    fn first_ahead(&self, ticket: u64, want: &Want) -> Option<u64> {
        let changes = want
            .changes
            .as_ref()
            .filter(|changes| !changes.is_empty())?;
        let mut at = self.first_start(changes);
        while let Some((start, first)) = self.next_block(at, changes.end) {
            if first < ticket && self.overlaps_waiting(first, changes) {
                return Some(first);
            }
            at = start.saturating_add(1);
        }
        None
    }

    fn overlaps_waiting(&self, ticket: u64, changes: &Range<u64>) -> bool {
        let other = self.waiting.get(&ticket);
        let other = other.and_then(|waiter| waiter.want.changes.as_ref());
        other.is_some_and(|other| other.start < changes.end && changes.start < other.end)
    }

    /// Returns the least start of a block that may overlap `range`, which may be before it.
    const fn first_start(&self, range: &Range<u64>) -> u64 {
        range.start.saturating_sub(self.longest.saturating_sub(1))
    }

    /// Returns the first block of a waiting exclusive change that begins at `at` or later, and before
    /// `end`: its start, and the ticket of the first such change.
    fn next_block(&self, at: u64, end: u64) -> Option<(u64, u64)> {
        let start = self.blocks.next(at).filter(|&start| start < end)?;
        Some((start, self.blocks.first(start)?))
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
                self.let_back(ticket);
            } else if let Some(first) = self.ahead.remove(&ticket) {
                self.behind.remove(&(first, ticket));
            } else {
                self.ranges.remove(changes, ticket);
            }
        }
        Some(waiter)
    }

    /// Moves a waiting change behind the exclusive one with the ticket `first`.
    fn put_behind(&mut self, first: u64, ticket: u64) {
        let waiter = self.waiting.get(&ticket);
        if let Some(changes) = waiter.and_then(|waiter| waiter.want.changes.as_ref()) {
            self.ranges.remove(changes, ticket);
            self.behind.insert((first, ticket));
            self.ahead.insert(ticket, first);
        }
    }

    /// Moves the changes behind an exclusive one, which waits here no longer, back to `ranges`. They
    /// are looked at when that one has ended.
    fn let_back(&mut self, first: u64) {
        let all = (first, 0)..=(first, u64::MAX);
        while let Some(&(_, ticket)) = self.behind.range(all.clone()).next() {
            self.behind.remove(&(first, ticket));
            self.ahead.remove(&ticket);
            let waiter = self.waiting.get(&ticket);
            if let Some(changes) = waiter.and_then(|waiter| waiter.want.changes.as_ref()) {
                self.ranges.insert(changes, ticket);
            }
        }
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
        self.free_ranges(range, line);
        self.free_blocks(range, line);
    }

    fn free_ranges(&mut self, range: &Range<u64>, line: &mut BTreeMap<u64, Waiter<T>>) {
        let mut at = range.start;
        while at < range.end && self.ranges.overlaps(&(at..range.end)) {
            let reach = self.closed.reach(at.saturating_add(1));
            if reach > at {
                // Other reasons to wait cover the range up to `reach`.
                at = reach;
                continue;
            }
            // No change in flight is a reason to wait between `reach` and `next`.
            let next = self.closed.next(at).unwrap_or(u64::MAX);
            while let Some(ticket) = self.ranges.inside(&(reach..next)) {
                let waiter = self.waiting.get(&ticket);
                match waiter.and_then(|waiter| self.first_ahead(ticket, &waiter.want)) {
                    Some(first) => self.put_behind(first, ticket),
                    None => line.extend(self.remove(ticket).map(|waiter| (ticket, waiter))),
                }
            }
            at = next;
        }
    }

    fn free_blocks(&mut self, range: &Range<u64>, line: &mut BTreeMap<u64, Waiter<T>>) {
        let mut at = self.first_start(range);
        while let Some((start, ticket)) = self.next_block(at, range.end) {
            let waiter = self.waiting.get(&ticket);
            if waiter.is_some_and(|waiter| !self.must_wait(&waiter.want)) {
                line.extend(self.remove(ticket).map(|waiter| (ticket, waiter)));
            }
            at = start.saturating_add(1);
        }
    }

    /// Returns all waiting changes, by ticket.
    pub fn iter(&self) -> impl Iterator<Item = (&u64, &Waiter<T>)> {
        self.waiting.iter()
    }
}
