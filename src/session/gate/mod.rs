//! Backpressure: who may send now, and who waits.

use std::collections::BTreeMap;
use std::ops::Range;
use std::task::Waker;

use super::fence::Fence;

/// What a request needs to pass.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Want {
    /// What it holds, in bytes: payload in either direction, or extents.
    pub bytes: u64,
    /// What it changes, in bytes from the start of the export: abandoned changes that overlap it
    /// must be answered first.
    pub changes: Option<Range<u64>>,
    /// The span of a change, see [`Barrier`](super::barrier::Barrier); of a flush, the one before
    /// which all changes have to be answered.
    pub span: u64,
}

/// A bound on requests and payload in flight, first come, first served.
///
/// Who waits is in one of three places: in the line for room; behind the [`Fence`], because an
/// abandoned change that it overlaps is not answered; or held, as a flush, until the changes before
/// it are answered. Only the first of the line is ever looked at to see who is next, and nobody who
/// waits elsewhere. Every step costs as much as the logarithm of how many wait, for each request
/// that it lets go or moves from one place to another. One moves from the line to the fence when it
/// is its turn and a change was abandoned meanwhile, and back when all such are answered.
#[derive(Debug)]
pub struct Gate<T> {
    max_requests: usize,
    max_bytes: u64,
    requests: usize,
    bytes: u64,
    next: u64,
    /// Who waits for room, by place.
    line: BTreeMap<u64, Waiter<T>>,
    fence: Fence<T>,
    /// Flushes that wait for changes before them. They are looked at only when such changes have
    /// been answered; until then they are in nobody's way.
    held: BTreeMap<u64, Waiter<T>>,
}

/// A request that waits, with all that is needed to send it: it does not depend on its caller,
/// who may have other things to do when its turn comes.
#[derive(Debug)]
pub struct Waiter<T> {
    pub want: Want,
    pub item: T,
    pub waker: Waker,
}

impl<T> Gate<T> {
    pub const fn new(max_requests: usize, max_bytes: u64) -> Self {
        Self {
            max_requests,
            max_bytes,
            requests: 0,
            bytes: 0,
            next: 0,
            line: BTreeMap::new(),
            fence: Fence::new(),
            held: BTreeMap::new(),
        }
    }

    /// Lets a request pass, or says that it has to wait.
    pub fn enter(&mut self, want: &Want) -> bool {
        let passes = self.fits(want) && !self.fence.blocks(want) && !self.has_turn();
        if passes {
            self.take(want);
        }
        passes
    }

    /// Lets a request wait that cannot pass; says what its place is.
    pub fn wait(&mut self, waiter: Waiter<T>) -> u64 {
        let place = self.place();
        if self.fence.blocks(&waiter.want) {
            self.fence.wait(place, waiter);
        } else {
            self.line.insert(place, waiter);
        }
        place
    }

    /// Holds a flush back until [`release`](Self::release); says what its place is then.
    pub fn hold(&mut self, waiter: Waiter<T>) -> u64 {
        let place = self.place();
        self.held.insert(place, waiter);
        place
    }

    const fn place(&mut self) -> u64 {
        let place = self.next;
        self.next = self.next.wrapping_add(1);
        place
    }

    /// Puts the flushes that need not be held back any more into the line. They have come in the
    /// order of their spans.
    pub fn release(&mut self, is_past: impl Fn(u64) -> bool) {
        while let Some(first) = self.held.first_entry() {
            if !is_past(first.get().want.span) {
                return;
            }
            let (place, waiter) = first.remove_entry();
            self.line.insert(place, waiter);
        }
    }

    /// A change that passed is abandoned: others that overlap it wait from now on until it is
    /// answered. `number` is its own among those in flight.
    pub fn abandon(&mut self, changes: &Range<u64>, number: u64) {
        self.fence.raise(changes, number);
    }

    /// An abandoned change is answered: those that waited for it alone are in the line again, in
    /// their places.
    pub fn answered(&mut self, changes: &Range<u64>, number: u64) {
        self.fence.fall(changes, number, &mut self.line);
    }

    /// Whom to wake when the turn of a waiting request comes.
    pub fn set_waker(&mut self, place: u64, waker: &Waker) {
        let waiter = self.line.get_mut(&place);
        let waiter = waiter.or_else(|| self.fence.get_mut(place));
        if let Some(waiter) = waiter.or_else(|| self.held.get_mut(&place)) {
            waiter.waker.clone_from(waker);
        }
    }

    /// A request that passed is done.
    pub const fn leave(&mut self, bytes: u64) {
        self.requests = self.requests.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// A request that passed holds so much more than it wanted: others wait for that, too.
    pub const fn grow(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// The bound on bytes.
    pub const fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// A waiting request gives up.
    pub fn cancel(&mut self, place: u64) -> Option<Waiter<T>> {
        let waiter = self.line.remove(&place);
        let waiter = waiter.or_else(|| self.fence.remove(place));
        waiter.or_else(|| self.held.remove(&place))
    }

    /// Whether anybody waits for room.
    pub fn has_waiting(&self) -> bool {
        !self.line.is_empty()
    }

    /// Lets the first one pass who waits for room, if there is enough.
    pub fn grant(&mut self) -> Option<(u64, Waiter<T>)> {
        if !self.has_turn() {
            return None;
        }
        let (_, first) = self.line.first_key_value()?;
        if !self.fits(&first.want) {
            return None;
        }
        let (place, waiter) = self.line.pop_first()?;
        self.take(&waiter.want);
        Some((place, waiter))
    }

    /// Wakes everybody: nobody will pass any more.
    pub fn wake_all(&mut self, woken: &mut Vec<Waker>) {
        for line in [&mut self.line, &mut self.held] {
            let line = std::mem::take(line);
            woken.extend(line.into_values().map(|waiter| waiter.waker));
        }
        self.fence.wake_all(woken);
    }

    /// Whether somebody waits whose turn it is: who is first in the line then.
    fn has_turn(&mut self) -> bool {
        while let Some(first) = self.line.first_entry() {
            if !self.fence.blocks(&first.get().want) {
                return true;
            }
            let (place, waiter) = first.remove_entry();
            self.fence.wait(place, waiter);
        }
        false
    }

    const fn fits(&self, want: &Want) -> bool {
        // One request may be larger than the bound, but then it goes alone.
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
