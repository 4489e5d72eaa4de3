//! Changes that overlap, one after the other (R0).

use std::ops::Range;
use std::task::Waker;

use slab::Slab;

use crate::spans::{Cut, Spans};

/// Lets changes of the same bytes pass one at a time, in the order in which they came.
///
/// Each byte knows the last change that has asked for it. A change waits for those that it finds at
/// its bytes, and they for those before them; so the cost of a change does not depend on how many
/// wait.
#[derive(Debug, Default)]
pub(crate) struct Order {
    last: Spans<Place>,
    entries: Slab<Entry>,
    /// The oldest and the newest change that have not ended.
    oldest: Option<Place>,
    newest: Option<Place>,
    next: u64,
}

/// A change in the order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place(usize);

impl Place {
    /// A small number that no other change has that has not ended.
    pub(crate) const fn index(self) -> usize {
        self.0
    }
}

impl Cut for Place {
    fn cut(&mut self, _whole: &Range<u64>, _kept: &Range<u64>) {}
}

#[derive(Debug)]
struct Entry {
    number: u64,
    /// The change before it, and that after it, of those that have not ended.
    older: Option<Place>,
    newer: Option<Place>,
    range: Range<u64>,
    /// How many changes must end before this one may begin.
    before: usize,
    /// The changes that wait for this one.
    after: Vec<Place>,
    waker: Option<Waker>,
    /// Whether the caller has given up: the change ends as soon as it could begin.
    is_given_up: bool,
}

impl Order {
    /// Adds a change of `range`, which is not empty.
    pub(crate) fn enter(&mut self, range: Range<u64>) -> Place {
        let entry = self.entries.vacant_entry();
        let place = Place(entry.key());
        entry.insert(Entry {
            number: self.next,
            older: self.newest,
            newer: None,
            range: range.clone(),
            before: 0,
            after: Vec::new(),
            waker: None,
            is_given_up: false,
        });
        self.next += 1;
        match self.newest.replace(place) {
            Some(older) => self.entries[older.0].newer = Some(place),
            None => self.oldest = Some(place),
        }
        if !self.last.insert_free(&range, place) {
            self.enter_behind(place, range);
        }
        place
    }

    /// Puts a change behind those that it finds at its bytes.
    fn enter_behind(&mut self, place: Place, range: Range<u64>) {
        let mut before: Vec<Place> = self.last.over(&range).map(|(_, &place)| place).collect();
        before.sort_unstable_by_key(|place| place.0);
        before.dedup();
        for earlier in &before {
            self.entries[earlier.0].after.push(place);
        }
        self.entries[place.0].before = before.len();
        self.last.insert(range, place);
    }

    /// Returns whether the change may begin. If not, `waker` is called when it may.
    pub(crate) fn is_turn(&mut self, place: Place, waker: &Waker) -> bool {
        let entry = &mut self.entries[place.0];
        if entry.before == 0 {
            return true;
        }
        match &mut entry.waker {
            Some(old) => old.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        false
    }

    /// Ends a change that has begun, or gives up one that waits. Those who may go on then are added
    /// to `woken`.
    pub(crate) fn leave(&mut self, place: Place, woken: &mut Vec<Waker>) {
        if self.entries[place.0].before > 0 {
            let entry = &mut self.entries[place.0];
            (entry.is_given_up, entry.waker) = (true, None);
            return;
        }
        let (mut next, mut over) = (Some(place), Vec::new());
        while let Some(place) = next.take().or_else(|| over.pop()) {
            let entry = self.entries.remove(place.0);
            self.unlink(&entry);
            self.forget(place, &entry.range);
            for later in entry.after {
                let entry = &mut self.entries[later.0];
                entry.before -= 1;
                if entry.before == 0 {
                    match entry.is_given_up {
                        true => over.push(later),
                        false => woken.extend(entry.waker.take()),
                    }
                }
            }
        }
    }

    /// Takes a change that has ended from between its neighbours in time.
    fn unlink(&mut self, entry: &Entry) {
        match entry.older {
            Some(older) => self.entries[older.0].newer = entry.newer,
            None => self.oldest = entry.newer,
        }
        match entry.newer {
            Some(newer) => self.entries[newer.0].older = entry.older,
            None => self.newest = entry.older,
        }
    }

    /// Takes a change from the bytes that it was the last to ask for.
    fn forget(&mut self, place: Place, range: &Range<u64>) {
        if self.last.remove_exact(range, &place) {
            return;
        }
        let of = self.last.over(range).filter(|(_, last)| **last == place);
        let mut own = of.map(|(range, _)| range);
        let (first, rest): (_, Vec<_>) = (own.next(), own.collect());
        first
            .iter()
            .chain(&rest)
            .for_each(|range| self.last.remove(range));
    }

    /// Returns a mark: all changes so far come before it.
    pub(crate) const fn mark(&self) -> u64 {
        self.next
    }

    /// Returns whether all changes before the mark have ended.
    pub(crate) fn is_past(&self, mark: u64) -> bool {
        self.oldest
            .is_none_or(|oldest| self.entries[oldest.0].number >= mark)
    }

    /// Returns the number of changes that have not ended.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_turn(order: &mut Order, place: Place) -> bool {
        order.is_turn(place, Waker::noop())
    }

    #[test]
    fn who_comes_first_goes_first() {
        let mut order = Order::default();
        let [a, b, c] = [0..8, 4..12, 8..16].map(|range| order.enter(range));
        let d = order.enter(20..24);
        assert!(is_turn(&mut order, a) && is_turn(&mut order, d));
        assert!(!is_turn(&mut order, b) && !is_turn(&mut order, c));
        let mark = order.mark();
        order.leave(b, &mut Vec::new());
        assert!(!is_turn(&mut order, c), "what was given up keeps its place");
        let mut woken = Vec::new();
        order.leave(a, &mut woken);
        assert!(is_turn(&mut order, c));
        assert_eq!(woken.len(), 1);
        assert!(!order.is_past(mark));
        [c, d]
            .into_iter()
            .for_each(|place| order.leave(place, &mut woken));
        assert!(order.is_past(mark) && order.last.len() == 0 && order.len() == 0);
    }

    proptest! {
        /// The plain rule: a change waits for all earlier ones that overlap it.
        #[test]
        fn the_order_is_that_of_the_plain_rule(
            steps in prop::collection::vec((0..12_u64, 1..6_u64, any::<bool>(), any::<prop::sample::Index>()), 0..40),
        ) {
            let mut order = Order::default();
            let mut model: Vec<(Place, Range<u64>, bool)> = Vec::new();
            let free = |model: &[(Place, Range<u64>, bool)], at: usize| {
                let (_, range, _) = &model[at];
                model[..at].iter().all(|(_, other, _)| other.end <= range.start || range.end <= other.start)
            };
            for (start, length, ends, which) in steps {
                if ends && !model.is_empty() {
                    let at = which.index(model.len());
                    if model[at].2 {
                        continue;
                    }
                    order.leave(model[at].0, &mut Vec::new());
                    model[at].2 = true;
                    // What was given up ends when it could begin.
                    while let Some(at) = (0..model.len()).find(|&at| model[at].2 && free(&model, at)) {
                        model.remove(at);
                    }
                } else {
                    let range = start..start + length;
                    model.push((order.enter(range.clone()), range, false));
                }
                prop_assert_eq!(order.len(), model.len());
                for at in 0..model.len() {
                    if !model[at].2 {
                        prop_assert_eq!(order.is_turn(model[at].0, Waker::noop()), free(&model, at));
                    }
                }
            }
        }
    }
}
