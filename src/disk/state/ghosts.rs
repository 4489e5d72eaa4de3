//! What changes of lost links may still do (R1 to R4).

use std::ops::Range;

use super::content::Content;
use crate::spans::{Cut, Spans};

/// The bytes that ghosts may still change: changes that were sent and not answered when their link
/// was lost. All ghosts of one byte have the same content for it, because no other change of the
/// byte is begun before they are fenced.
#[derive(Debug, Default)]
pub(crate) struct Ghosts {
    held: Spans<Ghost>,
    /// The number of ghosts so far.
    count: u64,
}

#[derive(Clone, Debug)]
struct Ghost {
    content: Content,
    /// The number of the newest ghost that may change this byte, and the newest generation of a link
    /// that left one.
    number: u64,
    generation: u64,
}

impl Cut for Ghost {
    fn cut(&mut self, whole: &Range<u64>, kept: &Range<u64>) {
        self.content.cut(whole, kept);
    }
}

/// The ghosts up to a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Mark {
    pub(super) number: u64,
    /// The newest generation of a link that left one.
    pub(crate) generation: u64,
}

/// A range that a change may not touch before a fence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Hold {
    pub(crate) range: Range<u64>,
    pub(crate) generation: u64,
}

impl Ghosts {
    /// Returns why a change must wait for a fence, or fail: it would write other content than a
    /// ghost (R2).
    pub(crate) fn hold(&self, range: &Range<u64>, content: &Content) -> Option<Hold> {
        let differs =
            |(part, ghost): &(Range<u64>, Ghost)| !ghost.content.equals(&content.part(range, part));
        let (range, ghost) = self.held.within(range).find(differs)?;
        let generation = ghost.generation;
        Some(Hold { range, generation })
    }

    /// Adds a change whose link, of this generation, was lost before the answer came.
    pub(crate) fn add(&mut self, range: &Range<u64>, content: &Content, generation: u64) {
        let newest = self.held.over(range).map(|(_, ghost)| ghost.generation);
        let generation = newest.fold(generation, u64::max);
        self.count += 1;
        let ghost = Ghost {
            content: content.clone(),
            number: self.count,
            generation,
        };
        self.held.insert(range.clone(), ghost);
    }

    /// Forgets the ghosts up to a mark. Returns whether there were any.
    pub(crate) fn fence(&mut self, mark: Mark) -> bool {
        let before = self.held.len();
        self.held.retain(|ghost| ghost.number > mark.number);
        self.held.len() != before
    }

    /// Returns the mark of the ghosts so far, if there are any.
    pub(crate) fn mark(&self) -> Option<Mark> {
        let generations = self.held.iter().map(|(_, ghost)| ghost.generation);
        let generation = generations.max()?;
        let number = self.count;
        Some(Mark { number, generation })
    }

    /// Returns the ranges that ghosts may still change, in order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Hold> {
        self.held.iter().map(|(range, ghost)| Hold {
            range,
            generation: ghost.generation,
        })
    }

    /// Returns the parts of `range` that no ghost may change.
    pub(crate) fn free_of(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let (mut free, mut at) = (Vec::new(), range.start);
        for (held, _) in self.held.over(range) {
            if at < held.start {
                free.push(at..held.start);
            }
            at = at.max(held.end);
        }
        if at < range.end {
            free.push(at..range.end);
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn data(text: &'static str) -> Content {
        Content::Data(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn only_the_same_content_passes_a_ghost() {
        let mut ghosts = Ghosts::default();
        ghosts.add(&(4..8), &data("abcd"), 1);
        assert_eq!(ghosts.hold(&(0..4), &data("wxyz")), None);
        assert_eq!(ghosts.hold(&(4..8), &data("abcd")), None);
        assert_eq!(ghosts.hold(&(6..10), &data("cdef")), None);
        let hold = |range| {
            Some(Hold {
                range,
                generation: 1,
            })
        };
        assert_eq!(ghosts.hold(&(6..10), &data("cxef")), hold(6..8));
        assert_eq!(ghosts.hold(&(0..5), &Content::Zeroes), hold(4..5));
        assert_eq!(ghosts.hold(&(7..8), &Content::Unknown), hold(7..8));
        let mark = ghosts.mark().unwrap();
        assert!(ghosts.fence(mark) && !ghosts.fence(mark));
        assert_eq!(ghosts.hold(&(0..8), &Content::Zeroes), None);
    }

    #[test]
    fn a_ghost_of_a_trim_lets_nothing_pass() {
        let mut ghosts = Ghosts::default();
        ghosts.add(&(0..8), &Content::Unknown, 1);
        for content in [Content::Zeroes, Content::Unknown] {
            assert!(ghosts.hold(&(0..8), &content).is_some());
        }
    }

    #[test]
    fn zeroes_are_the_same_however_they_are_written() {
        let mut ghosts = Ghosts::default();
        ghosts.add(&(0..4), &Content::Zeroes, 1);
        assert_eq!(ghosts.hold(&(0..4), &data("\0\0\0\0")), None);
        assert!(ghosts.hold(&(0..4), &data("\0\0\0a")).is_some());
    }

    #[test]
    fn a_repeat_that_is_lost_too_holds_until_both_are_fenced() {
        let mut ghosts = Ghosts::default();
        ghosts.add(&(0..4), &data("abcd"), 2);
        let mark = ghosts.mark().unwrap();
        ghosts.add(&(2..4), &data("cd"), 1);
        assert!(ghosts.fence(mark));
        let mark = ghosts.mark().unwrap();
        assert_eq!(mark.generation, 2);
        assert_eq!(ghosts.free_of(&(0..6)), [0..2, 4..6]);
        assert!(ghosts.hold(&(2..4), &Content::Zeroes).is_some());
        assert!(ghosts.fence(mark) && ghosts.ranges().next().is_none());
    }
}
