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
    /// What has arrived above it: sorted, disjoint, not touching. A box keeps the table of
    /// requests small, and few reads need it.
    #[allow(clippy::box_collection)]
    islands: Option<Box<Vec<(u64, u64)>>>,
}

impl Coverage {
    /// Nothing has arrived.
    pub const fn new() -> Self {
        Self {
            prefix: 0,
            islands: None,
        }
    }

    /// Adds `start..end`; there can be at most `limit()` disjoint pieces.
    pub fn insert(
        &mut self,
        start: u64,
        end: u64,
        limit: impl FnOnce() -> u64,
    ) -> Result<(), Refused> {
        if start < self.prefix {
            return Err(Refused::Overlap);
        }
        let Some(islands) = &mut self.islands else {
            if start == self.prefix {
                self.prefix = end;
            } else {
                self.islands = Some(Box::new(vec![(start, end)]));
            }
            return Ok(());
        };
        let limit = usize::try_from(limit()).unwrap_or(usize::MAX);
        insert(islands, start, end, limit)?;
        if let Some(&(first, end)) = islands.first() {
            if first == self.prefix {
                self.prefix = end;
                islands.remove(0);
            }
        }
        if islands.is_empty() {
            self.islands = None;
        }
        Ok(())
    }

    /// How many bytes have arrived.
    pub fn covered(&self) -> u64 {
        let islands = self.islands.iter().flat_map(|islands| islands.iter());
        let lengths = islands.map(|(start, end)| end.saturating_sub(*start));
        lengths.fold(self.prefix, u64::saturating_add)
    }
}

/// Adds `start..end` to sorted and disjoint ranges, joining it with what it touches.
fn insert(
    islands: &mut Vec<(u64, u64)>,
    start: u64,
    end: u64,
    limit: usize,
) -> Result<(), Refused> {
    // The first island that ends at or after `start`: it touches, overlaps or lies beyond.
    let at = islands.partition_point(|island| island.1 < start);
    let touches = islands.get(at).is_some_and(|island| island.1 == start);
    let next = if touches { at.saturating_add(1) } else { at };
    if islands.get(next).is_some_and(|island| island.0 < end) {
        return Err(Refused::Overlap);
    }
    let joins_next = islands.get(next).is_some_and(|island| island.0 == end);
    let far = if joins_next {
        islands.get(next).map_or(end, |island| island.1)
    } else {
        end
    };
    match (touches, joins_next) {
        (false, false) if islands.len() >= limit => return Err(Refused::Fragments),
        (false, false) => islands.insert(at, (start, end)),
        (false, true) => set(islands, next, (start, far)),
        (true, joins_next) => {
            let from = islands.get(at).map_or(start, |island| island.0);
            set(islands, at, (from, far));
            if joins_next {
                islands.remove(next);
            }
        }
    }
    Ok(())
}

fn set(islands: &mut [(u64, u64)], at: usize, island: (u64, u64)) {
    if let Some(place) = islands.get_mut(at) {
        *place = island;
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

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]
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
