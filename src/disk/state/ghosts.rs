//! What changes of lost links may still do (R1 to R4).

use std::ops::Range;

use super::content::Content;
use crate::spans::{Cut, Spans};

/// How much memory the content of ghosts takes, in bytes, before that of some is forgotten.
const MEMORY: u64 = 64 << 20;

/// The bytes that ghosts may still change: changes that were sent and not answered when their link
/// was lost. All ghosts of one byte have the same content for it, because no other change of the
/// byte is begun before they are fenced.
#[derive(Debug, Default)]
pub(crate) struct Ghosts {
    held: Spans<Ghost>,
    /// The number of ghosts so far.
    count: u64,
    /// The generations of links of which the fence cannot prove that they are over.
    lasting: Spans<()>,
}

#[derive(Clone, Debug)]
struct Ghost {
    /// Unknown, too, if it was repeated and forgotten.
    content: Content,
    /// Whether a change with the same content was acknowledged since.
    is_repeated: bool,
    /// The number of the newest ghost that may change this byte.
    number: u64,
    /// The generations of the links that left ghosts lie between these, which are among them.
    oldest: u64,
    newest: u64,
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
    /// Whether the fence cannot end it.
    pub(crate) is_lasting: bool,
}

impl Ghosts {
    /// Returns why a change must wait for a fence, or fail: it would write other content than a
    /// ghost (R2). If the fence cannot end all of its holds, it is one of those.
    pub(crate) fn hold(&self, range: &Range<u64>, content: &Content) -> Option<Hold> {
        let differs =
            |(part, ghost): &(Range<u64>, Ghost)| !ghost.content.equals(&content.part(range, part));
        let mut holds = self.held.within(range).filter(differs);
        let hold = |(range, ghost): (Range<u64>, Ghost)| self.hold_of(range, &ghost);
        let first = hold(holds.next()?);
        let lasting = || holds.map(hold).find(|hold| hold.is_lasting);
        match first.is_lasting {
            true => Some(first),
            false => lasting().or(Some(first)),
        }
    }

    fn hold_of(&self, range: Range<u64>, ghost: &Ghost) -> Hold {
        Hold {
            range,
            generation: ghost.newest,
            is_lasting: is_lasting(&self.lasting, ghost),
        }
    }

    /// Adds a change whose link, of this generation, was lost before the answer came.
    pub(crate) fn add(&mut self, range: &Range<u64>, content: &Content, generation: u64) {
        let (mut oldest, mut newest) = (generation, generation);
        for (_, ghost) in self.held.over(range) {
            (oldest, newest) = (oldest.min(ghost.oldest), newest.max(ghost.newest));
        }
        self.count += 1;
        let ghost = Ghost {
            content: content.clone(),
            is_repeated: false,
            number: self.count,
            oldest,
            newest,
        };
        self.held.insert(range.clone(), ghost);
    }

    /// Records that a change was acknowledged: where there are ghosts, it had their content.
    pub(crate) fn repeated(&mut self, range: &Range<u64>) {
        let ghosts: Vec<_> = self.held.within(range).collect();
        for (part, mut ghost) in ghosts {
            ghost.is_repeated = true;
            self.held.insert(part, ghost);
        }
    }

    /// Forgets the content of ghosts if it takes much memory: where `is_durable` says that what was
    /// repeated need not be written once more. No change passes those before a fence.
    pub(crate) fn forget_repeated(&mut self, is_durable: impl Fn(&Range<u64>) -> bool) {
        let memory = self.held.iter().map(|(_, ghost)| ghost.content.memory());
        if memory.sum::<u64>() <= MEMORY {
            return;
        }
        let whole = 0..u64::MAX;
        let ghosts = self.held.within(&whole);
        let over = |(range, ghost): &(Range<u64>, Ghost)| ghost.is_repeated && is_durable(range);
        for (range, mut ghost) in ghosts.filter(over).collect::<Vec<_>>() {
            ghost.content = Content::Unknown;
            self.held.insert(range, ghost);
        }
    }

    /// Records that the fence cannot prove that the link of this generation is over: its ghosts stay
    /// until [`assume`](Self::assume).
    pub(crate) fn cannot_fence(&mut self, generation: u64) {
        self.lasting.add(generation..generation.saturating_add(1));
    }

    /// Forgets the ghosts up to a mark, but for those of links that the fence does not cover. Returns
    /// whether there were any.
    pub(crate) fn fence(&mut self, mark: Mark) -> bool {
        let before = self.held.len();
        let lasting = &self.lasting;
        self.held
            .retain(|ghost| ghost.number > mark.number || is_lasting(lasting, ghost));
        self.held.len() != before
    }

    /// Forgets all ghosts. Returns the newest generation of a link that left one.
    pub(crate) fn assume(&mut self) -> Option<u64> {
        let newest = self.held.take().map(|(_, ghost)| ghost.newest).max();
        drop(self.lasting.take());
        newest
    }

    /// Returns the mark of the ghosts so far, if there are any that the fence can end.
    pub(crate) fn mark(&self) -> Option<Mark> {
        let ghosts = self.held.iter().map(|(_, ghost)| ghost);
        let open = ghosts.filter(|ghost| !is_lasting(&self.lasting, ghost));
        let generation = open.map(|ghost| ghost.newest).max()?;
        let number = self.count;
        Some(Mark { number, generation })
    }

    /// Returns the ranges of the ghosts that the link of this generation has left, in order.
    pub(crate) fn left_by(&self, generation: u64) -> Vec<Range<u64>> {
        let of = |ghost: &Ghost| ghost.newest == generation;
        let ghosts = self.held.iter().filter(|(_, ghost)| of(ghost));
        ghosts.map(|(range, _)| range).collect()
    }

    /// Returns the number of ghosts so far.
    #[cfg(test)]
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// Returns the ranges that ghosts may still change, in order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Hold> {
        let ghosts = self.held.iter();
        ghosts.map(|(range, ghost)| self.hold_of(range, ghost))
    }

    /// Returns the parts of `range` where no ghost has other content than this.
    pub(crate) fn free_for(&self, range: &Range<u64>, content: &Content) -> Vec<Range<u64>> {
        let (mut free, mut at) = (Vec::new(), range.start);
        for (held, ghost) in self.held.within(range) {
            if ghost.content.equals(&content.part(range, &held)) {
                continue;
            }
            if at < held.start {
                free.push(at..held.start);
            }
            at = held.end;
        }
        if at < range.end {
            free.push(at..range.end);
        }
        free
    }
}

/// Whether one of the links that may have left this ghost is one that the fence does not cover.
fn is_lasting(lasting: &Spans<()>, ghost: &Ghost) -> bool {
    let generations = ghost.oldest..ghost.newest.saturating_add(1);
    lasting.over(&generations).next().is_some()
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
                is_lasting: false,
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
        assert_eq!(ghosts.free_for(&(0..6), &Content::Zeroes), [0..2, 4..6]);
        assert!(ghosts.hold(&(2..4), &Content::Zeroes).is_some());
        assert!(ghosts.fence(mark) && ghosts.ranges().next().is_none());
    }

    #[test]
    fn content_that_was_repeated_is_forgotten_if_it_takes_much() {
        let half = MEMORY / 2;
        let large = Content::Data(vec![1; usize::try_from(half).unwrap()].into());
        let ranges = [0..half, half..2 * half, 2 * half..3 * half];
        let mut ghosts = Ghosts::default();
        for (at, range) in ranges.iter().enumerate() {
            ghosts.add(range, &large, 1);
            ghosts.repeated(range);
            ghosts.forget_repeated(|range| range.start == 0);
            let is_held = ghosts.hold(&ranges[0], &large).is_some();
            assert_eq!(is_held, at == 2, "not before it takes too much");
        }
        assert!(ghosts.hold(&ranges[1], &large).is_none(), "not durable");
        ghosts.add(&ranges[0], &large, 1);
        ghosts.forget_repeated(|_| true);
        assert!(ghosts.hold(&ranges[0], &large).is_none(), "not repeated");
        assert!(ghosts.hold(&ranges[1], &large).is_some());
    }

    #[test]
    fn what_the_fence_does_not_cover_stays() {
        let mut ghosts = Ghosts::default();
        ghosts.add(&(0..4), &data("abcd"), 1);
        ghosts.add(&(4..8), &data("abcd"), 2);
        let mark = ghosts.mark().unwrap();
        ghosts.cannot_fence(1);
        assert!(ghosts.hold(&(0..8), &Content::Zeroes).unwrap().is_lasting);
        assert!(!ghosts.hold(&(4..8), &Content::Zeroes).unwrap().is_lasting);
        assert!(ghosts.fence(mark));
        assert!(
            ghosts
                .ranges()
                .map(|hold| hold.range)
                .eq(std::iter::once(0..4))
        );
        assert_eq!(ghosts.mark(), None);
        // A newer ghost of the same bytes does not make the older one go.
        ghosts.add(&(2..4), &data("cd"), 3);
        assert_eq!(ghosts.mark(), None);
        assert!(ghosts.hold(&(2..3), &Content::Zeroes).unwrap().is_lasting);
        assert_eq!(ghosts.assume(), Some(3));
        assert!(ghosts.hold(&(0..8), &Content::Zeroes).is_none());
    }
}
