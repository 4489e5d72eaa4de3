//! Backpressure: admits requests, and lets others wait.

use std::collections::BTreeMap;
use std::ops::Range;
use std::task::Waker;

use super::blocked::Blocked;

/// What a request needs to be admitted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Want {
    /// The bytes that it holds: payload in either direction, or extents.
    pub bytes: u64,
    /// The range that it changes, in bytes from the start of the export. Abandoned changes that
    /// overlap this range must be answered first.
    pub changes: Option<Range<u64>>,
    /// Whether the request changes a part of a block: no change of the block may be in flight beside
    /// it.
    pub exclusive: bool,
    /// Of a change its span, see [`Barrier`](super::barrier::Barrier); of a flush the span before
    /// which all changes must be answered.
    pub span: u64,
    /// Whether it is one of several messages of a request that has begun.
    pub continues: bool,
}

/// A bound on requests and bytes in flight, first come, first served.
///
/// A waiting request is in one of three sets: in the line for room; [`Blocked`], because of changes
/// that it overlaps; or, as a flush, held until earlier changes are answered. Only the
/// first request of the line can be next. It becomes blocked if it overlaps what has become a reason
/// to wait meanwhile, and returns to the line, in the order of tickets, when all such changes are
/// answered. Every step costs the logarithm of the number of waiting requests, for
/// each request that is admitted or moved.
#[derive(Debug)]
pub struct Gate<T> {
    max_requests: usize,
    max_bytes: u64,
    requests: usize,
    bytes: u64,
    next_ticket: u64,
    /// The requests that wait for room, by ticket.
    line: BTreeMap<u64, Waiter<T>>,
    blocked: Blocked<T>,
    /// The flushes that wait for earlier changes, by ticket. They hold up no other request.
    held: BTreeMap<u64, Waiter<T>>,
}

/// A waiting request with everything that is needed to send it: when it is admitted, its caller
/// need not be polled first.
#[derive(Debug)]
pub struct Waiter<T> {
    /// What the request needs to be admitted.
    pub want: Want,
    /// The request.
    pub item: T,
    /// The waker of the caller.
    pub waker: Waker,
}

impl<T> Gate<T> {
    /// Creates a gate with these bounds.
    pub const fn new(max_requests: usize, max_bytes: u64) -> Self {
        Self {
            max_requests,
            max_bytes,
            requests: 0,
            bytes: 0,
            next_ticket: 0,
            line: BTreeMap::new(),
            blocked: Blocked::new(),
            held: BTreeMap::new(),
        }
    }

    /// Admits a request if possible, and returns whether it was admitted.
    pub fn enter(&mut self, want: &Want) -> bool {
        let passes = self.fits(want) && !self.blocked.must_queue(want) && !self.has_turn();
        if passes {
            self.take(want);
        }
        passes
    }

    /// Adds a request that cannot be admitted yet, and returns its ticket.
    pub fn wait(&mut self, waiter: Waiter<T>) -> u64 {
        let ticket = self.ticket();
        if self.blocked.must_queue(&waiter.want) {
            self.blocked.wait(ticket, waiter);
        } else {
            self.line.insert(ticket, waiter);
        }
        ticket
    }

    /// Holds a flush back until [`release`](Self::release), and returns its ticket.
    pub fn hold(&mut self, waiter: Waiter<T>) -> u64 {
        let ticket = self.ticket();
        self.held.insert(ticket, waiter);
        ticket
    }

    const fn ticket(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket = self.next_ticket.wrapping_add(1);
        ticket
    }

    /// Moves the flushes for which `is_past` holds into the line. Flushes are held in the order of
    /// their spans.
    pub fn release(&mut self, is_past: impl Fn(u64) -> bool) {
        while let Some(first) = self.held.first_entry() {
            if !is_past(first.get().want.span) {
                return;
            }
            let (ticket, waiter) = first.remove_entry();
            self.line.insert(ticket, waiter);
        }
    }

    /// Marks an admitted change as abandoned: changes that overlap it wait until it is answered.
    /// `slot` names it until it is answered.
    pub fn abandon(&mut self, changes: &Range<u64>, slot: u64) {
        self.blocked.abandon(changes, slot);
    }

    /// Returns whether all changes in flight are known by their ranges.
    pub const fn tracks_changes(&self) -> bool {
        self.blocked.tracks_changes()
    }

    /// Makes all changes in flight known by their ranges, from now on. `changes` are those that are
    /// in flight now, each with its slot.
    pub fn track_changes(&mut self, changes: impl Iterator<Item = (u64, Range<u64>)>) {
        self.blocked.track_changes(changes);
    }

    /// Makes a change known that was admitted.
    pub fn begin(&mut self, changes: &Range<u64>, exclusive: bool, slot: u64) {
        self.blocked.begin(changes, exclusive, slot);
    }

    /// Marks a change as answered: changes that waited for it alone return to the line, in the order
    /// of their tickets.
    pub fn answered(&mut self, changes: &Range<u64>, slot: u64) {
        self.blocked.answered(changes, slot, &mut self.line);
    }

    /// Sets the waker of a waiting request.
    pub fn set_waker(&mut self, ticket: u64, waker: &Waker) {
        let waiter = self.line.get_mut(&ticket);
        let waiter = waiter.or_else(|| self.blocked.get_mut(ticket));
        if let Some(waiter) = waiter.or_else(|| self.held.get_mut(&ticket)) {
            waiter.waker.clone_from(waker);
        }
    }

    /// Frees the room of an answered request.
    pub const fn free(&mut self, bytes: u64) {
        self.requests = self.requests.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Counts `bytes` more for an admitted request.
    pub const fn grow(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Returns the bound on bytes.
    pub const fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Removes a waiting request.
    pub fn cancel(&mut self, ticket: u64) -> Option<Waiter<T>> {
        let waiter = self.line.remove(&ticket);
        let waiter = waiter.or_else(|| self.blocked.remove(ticket));
        let waiter = waiter.or_else(|| self.held.remove(&ticket))?;
        if let Some(changes) = waiter
            .want
            .changes
            .as_ref()
            .filter(|_| waiter.want.exclusive)
        {
            // Others may have waited for this one.
            self.blocked.free(changes, &mut self.line);
        }
        Some(waiter)
    }

    /// Returns whether a request waits for room.
    pub fn has_waiting(&self) -> bool {
        !self.line.is_empty()
    }

    /// Admits the first request of the line if there is room for it.
    pub fn grant(&mut self) -> Option<(u64, Waiter<T>)> {
        if !self.has_turn() {
            return None;
        }
        let (_, first) = self.line.first_key_value()?;
        if !self.fits(&first.want) {
            return None;
        }
        let (ticket, waiter) = self.line.pop_first()?;
        self.take(&waiter.want);
        Some((ticket, waiter))
    }

    /// Removes all waiting requests, or all that continue none.
    pub fn turn_away(&mut self, all: bool) -> Vec<Waiter<T>> {
        let waiting = self
            .line
            .iter()
            .chain(&self.held)
            .chain(self.blocked.iter());
        let away = waiting.filter(|(_, waiter)| all || !waiter.want.continues);
        let away: Vec<u64> = away.map(|(ticket, _)| *ticket).collect();
        let removed = away.into_iter().map(|ticket| self.cancel(ticket));
        removed.flatten().collect()
    }

    /// Moves requests that changes block from the line to the blocked ones, until the
    /// first one is not. Returns whether there is such a first request.
    fn has_turn(&mut self) -> bool {
        while let Some(first) = self.line.first_entry() {
            if !self.blocked.must_stay(*first.key(), &first.get().want) {
                return true;
            }
            let (ticket, waiter) = first.remove_entry();
            self.blocked.wait(ticket, waiter);
        }
        false
    }

    const fn fits(&self, want: &Want) -> bool {
        // A request may be larger than the bound if it is alone.
        self.requests < self.max_requests
            && (self.bytes == 0 || self.bytes.saturating_add(want.bytes) <= self.max_bytes)
    }

    const fn take(&mut self, want: &Want) {
        self.requests = self.requests.saturating_add(1);
        self.bytes = self.bytes.saturating_add(want.bytes);
    }
}

#[cfg(test)]
mod tests;
