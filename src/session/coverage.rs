//! Which bytes of a read have arrived.

/// Why a piece cannot be added.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// Some of its bytes are there already.
    Overlap,
    /// There would be too many disjoint pieces.
    Fragments,
}

/// A set of disjoint byte ranges of one read, with a bound on how many.
///
/// The usual reply arrives in order and touches `prefix` only.
#[derive(Debug)]
pub struct Coverage {
    /// Everything below this has arrived.
    prefix: u64,
    /// What has arrived above it: sorted, disjoint, not touching.
    islands: Vec<(u64, u64)>,
    limit: usize,
}

impl Coverage {
    /// Nothing of a read of `length` bytes has arrived.
    pub fn new(length: u64) -> Self {
        // An honest server fragments at blocks; memory stays in proportion to the read.
        let limit = usize::try_from(length / 512).unwrap_or(usize::MAX).max(64);
        Self {
            prefix: 0,
            islands: Vec::new(),
            limit,
        }
    }

    /// Adds `start..end`.
    pub fn insert(&mut self, start: u64, end: u64) -> Result<(), Refused> {
        if start == self.prefix && self.islands.is_empty() {
            self.prefix = end;
            return Ok(());
        }
        self.insert_island(start, end)
    }

    fn insert_island(&mut self, start: u64, end: u64) -> Result<(), Refused> {
        if start < self.prefix {
            return Err(Refused::Overlap);
        }
        let at = self.islands.partition_point(|island| island.1 < start);
        // `at` is the first island that ends at or after `start`: it touches, overlaps or
        // lies beyond.
        let touches = |island: Option<&(u64, u64)>| island.is_some_and(|i| i.1 == start);
        let next = if touches(self.islands.get(at)) {
            at.saturating_add(1)
        } else {
            at
        };
        if self.islands.get(next).is_some_and(|island| island.0 < end) {
            return Err(Refused::Overlap);
        }
        let joins_next = self.islands.get(next).is_some_and(|island| island.0 == end);
        match (next > at, joins_next) {
            (true, true) => {
                let (_, far) = self.islands.remove(next);
                self.extend(at, far);
            }
            (true, false) => self.extend(at, end),
            (false, true) => {
                if let Some(island) = self.islands.get_mut(next) {
                    island.0 = start;
                }
            }
            (false, false) if self.islands.len() >= self.limit => return Err(Refused::Fragments),
            (false, false) => self.islands.insert(at, (start, end)),
        }
        if let Some(&(first, end)) = self.islands.first() {
            if first == self.prefix {
                self.prefix = end;
                self.islands.remove(0);
            }
        }
        Ok(())
    }

    fn extend(&mut self, at: usize, end: u64) {
        if let Some(island) = self.islands.get_mut(at) {
            island.1 = end;
        }
    }

    /// How many bytes have arrived.
    pub fn covered(&self) -> u64 {
        let islands = self
            .islands
            .iter()
            .map(|(start, end)| end.saturating_sub(*start));
        islands.fold(self.prefix, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces_in_order_need_no_memory() {
        let mut coverage = Coverage::new(4096);
        for i in 0..4096 {
            coverage.insert(i, i + 1).unwrap();
        }
        assert_eq!(coverage.covered(), 4096);
        assert_eq!(coverage.islands.capacity(), 0);
    }

    #[test]
    fn every_second_byte_first_is_refused_at_the_limit() {
        let mut coverage = Coverage::new(65536);
        let refused = (0..).find_map(|i| coverage.insert(2 * i + 1, 2 * i + 2).err());
        assert_eq!(refused, Some(Refused::Fragments));
        assert_eq!(coverage.islands.len(), 128);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]
        #[test]
        fn agrees_with_a_bitmap(pieces in prop::collection::vec((0u64..64, 1u64..16), 0..24)) {
            let mut bitmap = [false; 80];
            let mut coverage = Coverage::new(80);
            for (start, length) in pieces {
                let end = start + length;
                let range = start as usize..end as usize;
                let overlaps = bitmap[range.clone()].iter().any(|&set| set);
                let result = coverage.insert(start, end);
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
