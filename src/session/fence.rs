//! Changes that wait for abandoned ones.

use std::collections::BTreeMap;
use std::ops::Range;
use std::task::Waker;

use super::gate::{Waiter, Want};
use super::ranges::Ranges;

/// Abandoned changes that are not answered, and the changes that wait for them.
///
/// An abandoned change may still be on its way: a newer one that overtook it would be overwritten
/// with old data. So whoever overlaps one waits here, out of everybody else's way.
///
/// Both are kept in order of their ranges. To see whether a change has to wait, to let it wait
/// here, to give up and to abandon cost as much as the logarithm of what is kept. When an abandoned
/// change is answered, those are looked for that lie in what is free of abandoned changes now:
/// each costs that much, and so does each gap between other abandoned changes that lie inside the
/// one that was answered. Those who still have to wait are not looked at.
#[derive(Debug)]
pub struct Fence<T> {
    abandoned: Ranges,
    /// The ranges of those who wait, numbered by their places.
    ranges: Ranges,
    waiting: BTreeMap<u64, Waiter<T>>,
}

impl<T> Fence<T> {
    pub const fn new() -> Self {
        Self {
            abandoned: Ranges::new(),
            ranges: Ranges::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// Whether a request has to wait here.
    pub fn blocks(&self, want: &Want) -> bool {
        let changes = want.changes.as_ref().filter(|changes| !changes.is_empty());
        changes.is_some_and(|changes| self.abandoned.overlaps(changes))
    }

    /// Takes one in who has to wait here.
    pub fn wait(&mut self, place: u64, waiter: Waiter<T>) {
        if let Some(changes) = &waiter.want.changes {
            self.ranges.insert(changes, place);
        }
        self.waiting.insert(place, waiter);
    }

    pub fn get_mut(&mut self, place: u64) -> Option<&mut Waiter<T>> {
        self.waiting.get_mut(&place)
    }

    pub fn remove(&mut self, place: u64) -> Option<Waiter<T>> {
        let waiter = self.waiting.remove(&place)?;
        if let Some(changes) = &waiter.want.changes {
            self.ranges.remove(changes, place);
        }
        Some(waiter)
    }

    /// A change is abandoned; `number` is its own as long as it is not answered.
    pub fn raise(&mut self, changes: &Range<u64>, number: u64) {
        if !changes.is_empty() {
            self.abandoned.insert(changes, number);
        }
    }

    /// An abandoned change is answered: `line` gets those who have waited for nothing else.
    pub fn fall(&mut self, changes: &Range<u64>, number: u64, line: &mut BTreeMap<u64, Waiter<T>>) {
        self.abandoned.remove(changes, number);
        let mut at = changes.start;
        while at < changes.end && self.ranges.overlaps(&(at..changes.end)) {
            let reach = self.abandoned.reach(at.saturating_add(1));
            if reach > at {
                // Others are there up to this.
                at = reach;
                continue;
            }
            // Between what ends last before here and what begins next, all is free.
            let next = self.abandoned.next(at).unwrap_or(u64::MAX);
            while let Some(place) = self.ranges.inside(&(reach..next)) {
                line.extend(self.remove(place).map(|waiter| (place, waiter)));
            }
            at = next;
        }
    }

    /// Gives up everybody who waits here, and wakes them.
    pub fn wake_all(&mut self, woken: &mut Vec<Waker>) {
        self.ranges = Ranges::new();
        let waiting = std::mem::take(&mut self.waiting);
        woken.extend(waiting.into_values().map(|waiter| waiter.waker));
    }
}
