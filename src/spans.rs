//! A map of ranges that do not overlap.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

/// A value of a range that can be cut in two.
pub(crate) trait Cut: Clone {
    /// Keeps the part of the value for `kept`, of which the whole is for `whole`.
    fn cut(&mut self, whole: &Range<u64>, kept: &Range<u64>);
}

/// Values of non-empty ranges. Each byte has one value or none.
#[derive(Clone, Debug)]
pub(crate) struct Spans<T> {
    /// Start to end and value.
    map: BTreeMap<u64, (u64, T)>,
}

impl<T> Default for Spans<T> {
    fn default() -> Self {
        let map = BTreeMap::new();
        Self { map }
    }
}

impl<T: Cut> Spans<T> {
    /// Returns the number of ranges.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Returns all ranges in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Range<u64>, &T)> {
        self.map
            .iter()
            .map(|(&start, (end, value))| (start..*end, value))
    }

    /// Returns the ranges that overlap `range`, whole, in order.
    pub(crate) fn over(&self, range: &Range<u64>) -> impl Iterator<Item = (Range<u64>, &T)> {
        let first = self.map.range(..=range.start).next_back();
        let first = first.filter(|(_, (end, _))| *end > range.start);
        let from = first.map_or(range.start, |(&start, _)| start);
        self.map
            .range(from..range.end.max(from))
            .map(|(&start, (end, value))| (start..*end, value))
    }

    /// Returns the parts of ranges that lie in `range`, with their values, in order.
    pub(crate) fn within(&self, range: &Range<u64>) -> impl Iterator<Item = (Range<u64>, T)> {
        self.over(range).map(move |(whole, value)| {
            let kept = whole.start.max(range.start)..whole.end.min(range.end);
            let mut value = value.clone();
            value.cut(&whole, &kept);
            (kept, value)
        })
    }

    /// Returns whether no byte of `range` has a value.
    fn is_free(&self, range: &Range<u64>) -> bool {
        let last = self.map.range(..range.end).next_back();
        last.is_none_or(|(_, (end, _))| *end <= range.start)
    }

    /// Gives each byte of `range`, which is not empty, this value, unless one of them has a value
    /// already. Returns whether it did.
    pub(crate) fn insert_free(&mut self, range: &Range<u64>, value: T) -> bool {
        let is_free = self.is_free(range);
        if is_free {
            self.map.insert(range.start, (range.end, value));
        }
        is_free
    }

    /// Takes the value of exactly this range, if it is `value`. Returns whether it was.
    pub(crate) fn remove_exact(&mut self, range: &Range<u64>, value: &T) -> bool
    where
        T: PartialEq,
    {
        let Entry::Occupied(entry) = self.map.entry(range.start) else {
            return false;
        };
        let (end, found) = entry.get();
        let is_it = *end == range.end && found == value;
        if is_it {
            entry.remove();
        }
        is_it
    }

    /// Gives each byte of `range`, which is not empty, this value.
    pub(crate) fn insert(&mut self, range: Range<u64>, value: T) {
        self.remove(&range);
        self.map.insert(range.start, (range.end, value));
    }

    /// Takes the value of each byte of `range`.
    pub(crate) fn remove(&mut self, range: &Range<u64>) {
        if self.is_free(range) {
            return;
        }
        let over: Vec<u64> = self.over(range).map(|(whole, _)| whole.start).collect();
        for start in over {
            let Some((end, value)) = self.map.remove(&start) else {
                continue;
            };
            let whole = start..end;
            for kept in [start..range.start, range.end..end] {
                if kept.start < kept.end {
                    let mut value = value.clone();
                    value.cut(&whole, &kept);
                    self.map.insert(kept.start, (kept.end, value));
                }
            }
        }
    }

    /// Keeps the ranges for which `keep` says so.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.map.retain(|_, (_, value)| keep(value));
    }

    /// Takes all ranges, in order.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = (Range<u64>, T)> + use<T> {
        std::mem::take(&mut self.map)
            .into_iter()
            .map(|(start, (end, value))| (start..end, value))
    }
}

/// A value that neighbours can share.
pub(crate) trait Join: Cut {
    /// Whether two ranges with these values can be one.
    fn joins(&self, other: &Self) -> bool;
}

/// A set of ranges has no values.
impl Cut for () {
    fn cut(&mut self, _whole: &Range<u64>, _kept: &Range<u64>) {}
}

impl Join for () {
    fn joins(&self, (): &Self) -> bool {
        true
    }
}

impl<T: Join> Spans<T> {
    /// Gives each byte of `range`, which is not empty, this value, and joins the range with its
    /// neighbours.
    pub(crate) fn join(&mut self, mut range: Range<u64>, value: T) {
        if self.has(&range, &value) {
            return;
        }
        let near = range.start.saturating_sub(1)..range.end.saturating_add(1);
        let mut near = self.over(&near).filter(|(_, other)| value.joins(other));
        let first = near.next().map(|(whole, _)| whole);
        let last = near.last().map(|(whole, _)| whole);
        for whole in first.into_iter().chain(last) {
            range = range.start.min(whole.start)..range.end.max(whole.end);
        }
        self.insert(range, value);
    }

    /// Returns whether one range has all these bytes, with a value like this.
    fn has(&self, range: &Range<u64>, value: &T) -> bool {
        let before = self.map.range(..=range.start).next_back();
        before.is_some_and(|(_, (end, other))| *end >= range.end && value.joins(other))
    }
}

impl Spans<()> {
    /// Adds a range, and joins it with its neighbours.
    pub(crate) fn add(&mut self, range: Range<u64>) {
        self.join(range, ());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A value that knows where it is.
    #[derive(Clone, Debug, PartialEq)]
    struct At(u8, u64);

    impl Cut for At {
        fn cut(&mut self, whole: &Range<u64>, kept: &Range<u64>) {
            assert!(whole.start <= kept.start && kept.end <= whole.end && kept.start < kept.end);
            self.1 += kept.start - whole.start;
        }
    }

    proptest! {
        #[test]
        fn each_byte_has_its_latest_value(
            changes in prop::collection::vec((0..16_u64, 1..8_u64, prop::option::of(any::<u8>())), 0..20),
            at in 0..20_u64,
            length in 1..8_u64,
        ) {
            let (mut spans, mut model) = (Spans::default(), [None; 24]);
            for (start, length, value) in changes {
                let range = start..start + length;
                model[start as usize..(start + length) as usize].fill(value);
                match value {
                    Some(value) => spans.insert(range.clone(), At(value, range.start)),
                    None => spans.remove(&range),
                }
            }
            let mut found = [None; 24];
            for (range, value) in spans.iter() {
                prop_assert_eq!(value.1, range.start);
                found[range.start as usize..range.end as usize].fill(Some(value.0));
            }
            prop_assert_eq!(found, model);
            let asked = at..at + length;
            for byte in asked.clone() {
                let value = spans.within(&asked).find(|(range, _)| range.contains(&byte));
                prop_assert_eq!(value.map(|(_, at)| at.0), model.get(byte as usize).copied().flatten());
            }
        }

        #[test]
        fn a_set_joins_neighbours(
            ranges in prop::collection::vec((0..32_u64, 1..6_u64), 0..20),
        ) {
            let (mut set, mut model) = (Spans::default(), [false; 40]);
            for (start, length) in ranges {
                set.add(start..start + length);
                model[start as usize..(start + length) as usize].fill(true);
            }
            let mut end = None;
            for (range, ()) in set.iter() {
                prop_assert!(end.is_none_or(|end| end < range.start), "joined");
                end = Some(range.end);
            }
            for (byte, &is_in) in model.iter().enumerate() {
                let byte = byte as u64;
                prop_assert_eq!(set.over(&(byte..byte + 1)).next().is_some(), is_in);
            }
        }
    }
}
