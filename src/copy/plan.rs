//! The units of work of a copy: what is known of the source, cut so that both sides can take it.

use std::collections::VecDeque;
use std::ops::Range;

/// A part of the disk that is copied by itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Unit {
    pub(super) range: Range<u64>,
    pub(super) is_zero: bool,
}

/// Zeroes that are shorter than this are read, and found to be zero then: asking for each part of a
/// disk with many short holes takes longer than reading it.
const SHORT_HOLE: u64 = 32 << 10;

/// The longest unit of zeroes in bytes: a server that writes zeroes slowly is not asked for more at a
/// time.
const LONGEST_ZEROES: u64 = 32 << 20;

/// Cuts extents into units. Extents are pushed in order; what lies between them is not copied.
#[derive(Debug)]
pub(super) struct Plan {
    /// Units begin and end at multiples of it, in bytes, but for the end of the disk.
    block: u64,
    size: u64,
    /// Extents that were pushed, of which the last may grow. They do not touch units that were taken.
    known: VecDeque<Unit>,
    /// Where the last unit ended.
    taken: u64,
    is_over: bool,
}

impl Plan {
    /// Makes a plan for a disk of this size in bytes. The block is a power of two.
    pub(super) const fn new(size: u64, block: u64) -> Self {
        Self {
            block,
            size,
            known: VecDeque::new(),
            taken: 0,
            is_over: false,
        }
    }

    /// Adds an extent after the others.
    pub(super) fn push(&mut self, range: Range<u64>, is_zero: bool) {
        let hole = self.inner(&range);
        if !is_zero || hole.end - hole.start < SHORT_HOLE {
            return self.push_data(range);
        }
        if range.start < hole.start {
            self.push_data(range.start..hole.start);
        }
        let hole = hole.start.max(self.reached())..hole.end;
        match self.known.back_mut() {
            Some(last) if last.is_zero && last.range.end == hole.start => last.range.end = hole.end,
            _ if hole.is_empty() => {}
            _ => self.known.push_back(Unit {
                range: hole.clone(),
                is_zero,
            }),
        }
        if hole.end < range.end {
            self.push_data(hole.end..range.end);
        }
    }

    /// Adds data, with all blocks that it touches.
    fn push_data(&mut self, range: Range<u64>) {
        let outer = self.outer(&range);
        let range = outer.start.max(self.reached())..outer.end;
        match self.known.back_mut() {
            _ if range.is_empty() => {}
            Some(last) if !last.is_zero && last.range.end == range.start => {
                last.range.end = range.end;
            }
            _ => self.known.push_back(Unit {
                range,
                is_zero: false,
            }),
        }
    }

    /// Says that no extent follows.
    pub(super) const fn finish(&mut self) {
        self.is_over = true;
    }

    /// Takes the next unit, if it is known where it ends. `step` is the longest unit of data in bytes,
    /// a multiple of the block.
    pub(super) fn next(&mut self, step: u64) -> Option<Unit> {
        let may_grow = !self.is_over && self.known.len() == 1;
        let first = self.known.front_mut()?;
        let step = match first.is_zero {
            true => LONGEST_ZEROES.next_multiple_of(self.block),
            false => step,
        };
        let start = first.range.start;
        let cut = (start - start % step).saturating_add(step);
        if may_grow && first.range.end < cut {
            return None;
        }
        let range = start..first.range.end.min(cut);
        let is_zero = first.is_zero;
        first.range.start = range.end;
        if first.range.is_empty() {
            self.known.pop_front();
        }
        self.taken = range.end;
        Some(Unit { range, is_zero })
    }

    /// Where the next extent can begin.
    fn reached(&self) -> u64 {
        self.known.back().map_or(self.taken, |last| last.range.end)
    }

    /// The blocks that lie in a range as a whole.
    fn inner(&self, range: &Range<u64>) -> Range<u64> {
        let start = range.start.next_multiple_of(self.block).min(range.end);
        let end = match range.end == self.size {
            true => self.size,
            false => range.end - range.end % self.block,
        };
        start..end.max(start)
    }

    /// The blocks that a range touches.
    fn outer(&self, range: &Range<u64>) -> Range<u64> {
        let start = range.start - range.start % self.block;
        let end = range.end.checked_next_multiple_of(self.block);
        start..end.unwrap_or(u64::MAX).min(self.size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Cuts extents, of which each may be known before the units before it are taken.
    fn units(mut plan: Plan, step: u64, extents: &[(Range<u64>, bool)], late: usize) -> Vec<Unit> {
        let mut units = Vec::new();
        for (number, (range, is_zero)) in extents.iter().enumerate() {
            plan.push(range.clone(), *is_zero);
            if number % late == 0 {
                units.extend(std::iter::from_fn(|| plan.next(step)));
            }
        }
        plan.finish();
        units.extend(std::iter::from_fn(|| plan.next(step)));
        units
    }

    proptest! {
        #[test]
        fn units_cover_what_is_to_be_copied_and_no_block_twice(
            lengths in prop::collection::vec((1..200_u64, 0..3_u8), 1..30),
            block in 0..4_u32,
            steps in 1..40_u64,
            late in 1..4_usize,
            odd in 0..512_u64,
        ) {
            let block = 512 << block;
            let mut at = 0;
            let mut extents = Vec::new();
            for (length, kind) in lengths {
                // In the units of the smallest block, with an odd end of the disk.
                let range = at * 512..(at + length) * 512;
                at += length;
                if kind < 2 {
                    extents.push((range, kind == 1));
                }
            }
            let size = at * 512 - odd;
            for (range, _) in &mut extents {
                range.end = range.end.min(size);
            }
            extents.retain(|(range, _)| !range.is_empty());
            let step = (steps * 4096).next_multiple_of(block);
            let units = units(Plan::new(size, block), step, &extents, late);
            let mut end = 0;
            for unit in &units {
                let Range { start, end: stop } = unit.range;
                prop_assert!(start >= end && stop > start, "in order, each byte once");
                prop_assert_eq!(start % block, 0);
                prop_assert!(stop % block == 0 || stop == size);
                prop_assert!(unit.is_zero || stop - start <= step);
                end = stop;
                if unit.is_zero {
                    for byte in [start, stop - 1] {
                        let (_, zero) = extents.iter().find(|(range, _)| range.contains(&byte)).unwrap();
                        prop_assert!(zero, "only what is known to be zero is written as zeroes");
                    }
                }
            }
            for (range, _) in &extents {
                for byte in [range.start, range.end - 1, (range.start + range.end) / 2] {
                    prop_assert!(units.iter().any(|unit| unit.range.contains(&byte)), "all is copied");
                }
            }
        }
    }

    #[test]
    fn short_holes_are_read_and_long_ones_are_not() {
        let extents = |hole: u64| {
            [
                (0..65536, false),
                (65536..65536 + hole, true),
                (65536 + hole..1 << 20, false),
            ]
        };
        let short = units(Plan::new(1 << 20, 512), 1 << 20, &extents(16384), 1);
        assert_eq!(
            short,
            [Unit {
                range: 0..1 << 20,
                is_zero: false
            }]
        );
        let long = units(Plan::new(1 << 20, 512), 1 << 20, &extents(32768), 1);
        assert_eq!(
            long.iter().map(|unit| unit.is_zero).collect::<Vec<_>>(),
            [false, true, false]
        );
    }

    #[test]
    fn long_zeroes_are_cut() {
        let all = units(Plan::new(1 << 30, 4096), 1 << 20, &[(0..1 << 30, true)], 1);
        assert_eq!(all.len(), 32);
        assert!(all.iter().all(|unit| unit.is_zero));
    }
}
