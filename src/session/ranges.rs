//! A set of ranges that may overlap.

use std::cmp::Ordering;
use std::ops::Range;

/// A set of non-empty ranges, each with a number of its own.
///
/// It is a search tree by the start of the ranges, in which every node has the least and the
/// greatest end of all ranges below it. Pseudo-random ranks give it its shape (a treap), so its
/// depth, and the cost of every method, is the logarithm of its size.
#[derive(Debug)]
pub struct Ranges {
    root: Tree,
}

type Tree = Option<Box<Node>>;

#[derive(Debug)]
struct Node {
    start: u64,
    end: u64,
    number: u64,
    /// The rank, which is greater than those of all nodes below.
    rank: u64,
    /// The least and the greatest end of this range and all ranges below.
    least: u64,
    greatest: u64,
    left: Tree,
    right: Tree,
}

impl Ranges {
    /// Creates an empty set.
    pub const fn new() -> Self {
        Self { root: None }
    }

    /// Adds a range with its number.
    pub fn insert(&mut self, range: &Range<u64>, number: u64) {
        let node = Box::new(Node {
            start: range.start,
            end: range.end,
            number,
            rank: mix(range.start ^ mix(number)),
            least: range.end,
            greatest: range.end,
            left: None,
            right: None,
        });
        self.root = Some(insert(self.root.take(), node));
    }

    /// Removes a range with its number.
    pub fn remove(&mut self, range: &Range<u64>, number: u64) {
        self.root = remove(self.root.take(), (range.start, number));
    }

    /// Returns whether a range of the set overlaps `range`, which is not empty.
    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        self.reach(range.end) > range.start
    }

    /// Returns the greatest end of the ranges that begin before `at`, or 0 if none does.
    pub fn reach(&self, at: u64) -> u64 {
        let (mut tree, mut reach) = (&self.root, 0);
        while let Some(node) = tree {
            count_step();
            if node.start < at {
                let left = node.left.as_ref().map_or(0, |left| left.greatest);
                reach = reach.max(node.end).max(left);
                tree = &node.right;
            } else {
                tree = &node.left;
            }
        }
        reach
    }

    /// Returns the least start of the ranges that begin at `at` or later.
    pub fn next(&self, at: u64) -> Option<u64> {
        let (mut tree, mut next) = (&self.root, None);
        while let Some(node) = tree {
            count_step();
            if node.start >= at {
                next = Some(node.start);
                tree = &node.left;
            } else {
                tree = &node.right;
            }
        }
        next
    }

    /// Returns the least number of the ranges that begin at `start`.
    pub fn first(&self, start: u64) -> Option<u64> {
        let (mut tree, mut first) = (&self.root, None);
        while let Some(node) = tree {
            count_step();
            if node.start >= start {
                first = Some(node).filter(|node| node.start == start).or(first);
                tree = &node.left;
            } else {
                tree = &node.right;
            }
        }
        first.map(|node| node.number)
    }

    /// Returns the number of a range that lies inside `range`.
    pub fn inside(&self, range: &Range<u64>) -> Option<u64> {
        let ends = |tree: &Tree| tree.as_ref().is_some_and(|node| node.least <= range.end);
        // `begins` says that all ranges from `tree` down begin inside `range`.
        let (mut tree, mut begins) = (&self.root, false);
        while let Some(node) = tree {
            count_step();
            if !begins && node.start < range.start {
                tree = &node.right;
            } else if node.end <= range.end {
                return Some(node.number);
            } else if ends(&node.right) {
                (tree, begins) = (&node.right, true);
            } else {
                tree = &node.left;
            }
        }
        None
    }
}

impl Node {
    const fn key(&self) -> (u64, u64) {
        (self.start, self.number)
    }

    /// Updates the ends from those of the nodes below.
    fn update(&mut self) {
        count_step();
        (self.least, self.greatest) = (self.end, self.end);
        for below in [&self.left, &self.right].into_iter().flatten() {
            self.least = self.least.min(below.least);
            self.greatest = self.greatest.max(below.greatest);
        }
    }
}

fn insert(tree: Tree, mut new: Box<Node>) -> Box<Node> {
    let Some(mut node) = tree else {
        return new;
    };
    if new.rank > node.rank {
        (new.left, new.right) = split(Some(node), new.key());
        new.update();
        return new;
    }
    let side = if new.key() < node.key() {
        &mut node.left
    } else {
        &mut node.right
    };
    *side = Some(insert(side.take(), new));
    node.update();
    node
}

fn remove(tree: Tree, key: (u64, u64)) -> Tree {
    let mut node = tree?;
    let side = match key.cmp(&node.key()) {
        Ordering::Less => &mut node.left,
        Ordering::Greater => &mut node.right,
        Ordering::Equal => return join(node.left, node.right),
    };
    *side = remove(side.take(), key);
    node.update();
    Some(node)
}

/// Splits a tree into the nodes before `key` and the others.
fn split(tree: Tree, key: (u64, u64)) -> (Tree, Tree) {
    let Some(mut node) = tree else {
        return (None, None);
    };
    if node.key() < key {
        let (before, rest) = split(node.right.take(), key);
        node.right = before;
        node.update();
        (Some(node), rest)
    } else {
        let (before, rest) = split(node.left.take(), key);
        node.left = rest;
        node.update();
        (before, Some(node))
    }
}

/// Joins two trees; every node of the first comes before every node of the second.
fn join(first: Tree, second: Tree) -> Tree {
    let (mut first, mut second) = match (first, second) {
        (Some(first), Some(second)) => (first, second),
        (first, second) => return first.or(second),
    };
    if first.rank > second.rank {
        first.right = join(first.right.take(), Some(second));
        first.update();
        Some(first)
    } else {
        second.left = join(Some(first), second.left.take());
        second.update();
        Some(second)
    }
}

/// Returns a pseudo-random number for `number`, always the same one (SplitMix64).
const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Counts the nodes that are looked at, for tests.
#[inline]
fn count_step() {
    #[cfg(test)]
    STEPS.set(STEPS.get() + 1);
}

/// Returns how many nodes this thread has looked at since the last call.
#[cfg(test)]
pub fn steps() -> u64 {
    STEPS.replace(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn depth(tree: &Tree) -> usize {
        let Some(node) = tree else { return 0 };
        1 + depth(&node.left).max(depth(&node.right))
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow there")]
    fn the_tree_stays_shallow_in_whatever_order_it_grows() {
        for order in 0..4u64 {
            let mut ranges = Ranges::new();
            let range = |number: u64| {
                let start = match order {
                    0 => number,
                    1 => (1 << 20) - number,
                    2 => 7,
                    _ => number % 100,
                };
                start * 4096..(start + 1) * 4096
            };
            for number in 0..20_000 {
                ranges.insert(&range(number), number);
            }
            let deep = depth(&ranges.root);
            assert!(deep <= 64, "{deep}");
            for number in 0..20_000 {
                ranges.remove(&range(number), number);
            }
            assert!(ranges.root.is_none());
        }
    }

    proptest! {
        #![proptest_config(crate::tests::properties::config())]

        /// Each step adds or removes one, and asks everything.
        #[test]
        fn ranges_are_found_as_by_looking_at_each(
            steps in prop::collection::vec((any::<u8>(), 0u64..40, 1u64..20, any::<bool>()), 1..80),
        ) {
            let (mut ranges, mut list) = (Ranges::new(), Vec::<(Range<u64>, u64)>::new());
            for ((which, start, length, adds), number) in steps.into_iter().zip(0..) {
                let range = start..start + length;
                if adds || list.is_empty() {
                    ranges.insert(&range, number);
                    list.push((range.clone(), number));
                } else {
                    let (range, number) = list.swap_remove(usize::from(which) % list.len());
                    ranges.remove(&range, number);
                }
                let overlaps = |r: &Range<u64>| r.start < range.end && range.start < r.end;
                prop_assert_eq!(ranges.overlaps(&range), list.iter().any(|(r, _)| overlaps(r)));
                let before = list.iter().filter(|(r, _)| r.start < start);
                prop_assert_eq!(ranges.reach(start), before.map(|(r, _)| r.end).max().unwrap_or(0));
                let later = list.iter().filter(|(r, _)| r.start >= start);
                prop_assert_eq!(ranges.next(start), later.map(|(r, _)| r.start).min());
                let beginning = list.iter().filter(|(r, _)| r.start == start);
                prop_assert_eq!(ranges.first(start), beginning.map(|(_, number)| *number).min());
                let is_inside = |r: &Range<u64>| range.start <= r.start && r.end <= range.end;
                match ranges.inside(&range) {
                    Some(found) => {
                        let found = list.iter().find(|(_, number)| *number == found);
                        prop_assert!(found.is_some_and(|(r, _)| is_inside(r)));
                    }
                    None => prop_assert!(!list.iter().any(|(r, _)| is_inside(r))),
                }
                prop_assert_eq!(ranges.root.is_none(), list.is_empty());
            }
        }
    }
}
