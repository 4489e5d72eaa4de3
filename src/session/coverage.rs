//! The bytes of a read that have arrived.

use std::collections::BTreeMap;

/// The reason why a piece cannot be added.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// Some of its bytes have arrived already.
    Overlap,
    /// The read would consist of too many disjoint pieces.
    Fragments,
}

/// A bounded set of disjoint byte ranges of one read.
///
/// A reply that arrives in order touches `prefix` only. In any other order, a piece costs one
/// search.
#[derive(Debug)]
pub struct Coverage {
    /// Everything below this has arrived.
    prefix: u64,
    /// The ranges above `prefix` that have arrived, from start to end: disjoint and not touching.
    /// Few reads have any, so a box keeps the table of requests small.
    #[allow(clippy::box_collection)]
    islands: Option<Box<BTreeMap<u64, u64>>>,
}

impl Coverage {
    /// Creates an empty set.
    pub const fn new() -> Self {
        Self {
            prefix: 0,
            islands: None,
        }
    }

    /// Adds `start..end`.
    ///
    /// # Errors
    /// If some of the bytes have arrived already, or there would be more than `limit()` ranges.
    pub fn insert(
        &mut self,
        start: u64,
        end: u64,
        limit: impl FnOnce() -> u64,
    ) -> Result<(), Refused> {
        if start < self.prefix {
            return Err(Refused::Overlap);
        }
        if start == self.prefix && self.islands.is_none() {
            self.prefix = end;
            return Ok(());
        }
        let islands = self.islands.get_or_insert_default();
        let next = islands.range(start..).next().map(|(&at, &end)| (at, end));
        if next.is_some_and(|(at, _)| at < end) {
            return Err(Refused::Overlap);
        }
        let before = islands.range_mut(..start).next_back();
        if before.as_ref().is_some_and(|(_, far)| **far > start) {
            return Err(Refused::Overlap);
        }
        // A range that touches the next one is joined with it.
        let far = match next {
            Some((at, far)) if at == end => far,
            _ => end,
        };
        let joins_next = far > end;
        match before.filter(|(_, far)| **far == start) {
            Some((_, reach)) => *reach = far,
            None if start == self.prefix => self.prefix = far,
            None => {
                if !joins_next && islands.len() as u64 >= limit() {
                    return Err(Refused::Fragments);
                }
                islands.insert(start, far);
            }
        }
        if joins_next {
            islands.remove(&end);
        }
        if islands.is_empty() {
            self.islands = None;
        }
        Ok(())
    }

    /// Returns the number of bytes that have arrived.
    pub fn covered(&self) -> u64 {
        let islands = self.islands.iter().flat_map(|islands| islands.iter());
        let lengths = islands.map(|(start, end)| end.saturating_sub(*start));
        lengths.fold(self.prefix, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces_in_order_need_no_memory() {
        let mut coverage = Coverage::new();
        for i in 0..4096 {
            coverage.insert(i, i + 1, || 64).unwrap();
        }
        assert_eq!(coverage.covered(), 4096);
        assert!(coverage.islands.is_none());
    }

    #[test]
    fn every_second_byte_first_is_refused_at_the_limit() {
        let mut coverage = Coverage::new();
        let refused = (0..).find_map(|i| coverage.insert(2 * i + 1, 2 * i + 2, || 128).err());
        assert_eq!(refused, Some(Refused::Fragments));
        assert_eq!(coverage.islands.unwrap().len(), 128);
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow there")]
    fn pieces_of_a_sector_in_the_worst_order_are_put_together() {
        // Of the longest read there is: every second one from the end, then the others likewise.
        let (count, limit) = (1u64 << 17, || 1 << 17);
        let mut coverage = Coverage::new();
        let halves = [1, 2].map(|first| (0..count / 2).map(move |i| count - first - 2 * i));
        for i in halves.into_iter().flatten() {
            coverage.insert(512 * i, 512 * (i + 1), limit).unwrap();
        }
        assert_eq!(coverage.covered(), 512 * count);
        assert!(coverage.islands.is_none());
    }

    proptest! {
        #![proptest_config(crate::tests::properties::config())]

        #[test]
        fn agrees_with_a_bitmap(pieces in prop::collection::vec((0u64..64, 1u64..16), 0..24)) {
            let mut bitmap = [false; 80];
            let mut coverage = Coverage::new();
            for (start, length) in pieces {
                let end = start + length;
                let range = start as usize..end as usize;
                let overlaps = bitmap[range.clone()].iter().any(|&set| set);
                let result = coverage.insert(start, end, || 64);
                prop_assert_eq!(result.is_err(), overlaps);
                if !overlaps {
                    bitmap[range].fill(true);
                }
                let set = bitmap.iter().filter(|&&set| set).count() as u64;
                prop_assert_eq!(coverage.covered(), set);
            }
        }
    }
}
