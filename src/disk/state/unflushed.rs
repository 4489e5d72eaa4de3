//! Changes that were acknowledged, and not flushed since (R7).

use std::ops::Range;

use super::content::Content;
use super::ghosts::Ghosts;
use crate::spans::{Cut, Join, Spans};

/// How many ranges are remembered before it is time for a flush. Twice as many, and they are joined.
const MOST: usize = 1 << 16;

/// What is acknowledged and may not be durable: by which link, and, with a journal, the content.
#[derive(Debug, Default)]
pub(crate) struct Unflushed {
    changes: Spans<Change>,
    /// What may be lost, and no flush has said so yet.
    unsure: Spans<()>,
    /// How much memory the content may take, in bytes, if it is kept.
    limit: Option<u64>,
    /// The memory of the content, in bytes.
    memory: u64,
    /// Whether the content of a change is not kept, because of the limit.
    is_over: bool,
    /// How many marks were taken.
    epoch: u64,
}

#[derive(Clone, Debug)]
struct Change {
    /// The mark after which it was acknowledged.
    epoch: u64,
    generation: u64,
    content: Option<Content>,
}

impl Change {
    fn memory(&self) -> u64 {
        self.content.as_ref().map_or(0, Content::memory)
    }
}

impl Cut for Change {
    fn cut(&mut self, whole: &Range<u64>, kept: &Range<u64>) {
        if let Some(content) = &mut self.content {
            content.cut(whole, kept);
        }
    }
}

/// Changes are joined if a flush cannot tell them apart, and their content is not kept.
impl Join for Change {
    fn joins(&self, other: &Self) -> bool {
        let is_kept = self.content.is_some() || other.content.is_some();
        !is_kept && (self.epoch, self.generation) == (other.epoch, other.generation)
    }
}

impl Unflushed {
    /// Creates the record, which keeps content if there is a journal, up to its limit in bytes.
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Records an acknowledged change by the link of this generation. `is_durable` says whether it
    /// was acknowledged as durable.
    pub(crate) fn acknowledge(
        &mut self,
        range: &Range<u64>,
        content: &Content,
        generation: u64,
        is_durable: bool,
    ) {
        // What a trim leaves is not defined, so it cannot be lost.
        if is_durable || matches!(content, Content::Unknown) {
            return self.forget(range);
        }
        let mut change = Change {
            epoch: self.epoch,
            generation,
            content: None,
        };
        let Some(limit) = self.limit else {
            self.changes.join(range.clone(), change);
            return self.bound();
        };
        self.forget(range);
        if self.memory + content.memory() <= limit {
            self.memory += content.memory();
            change.content = Some(content.clone());
            self.changes.insert(range.clone(), change);
        } else {
            self.is_over = true;
            self.changes.join(range.clone(), change);
        }
        self.bound();
    }

    /// Joins neighbours, with what lies between them, if there are too many ranges, and no flush has come
    /// or succeeded. To take too much for lost is sound.
    fn bound(&mut self) {
        if self.changes.len() <= 2 * MOST {
            return;
        }
        let mut kept: Option<(Range<u64>, Change)> = None;
        for (range, change) in self.changes.take() {
            kept = match kept.take() {
                Some((last, old)) if old.content.is_none() && change.content.is_none() => {
                    let newest =
                        match (old.epoch, old.generation) > (change.epoch, change.generation) {
                            true => old,
                            false => change,
                        };
                    self.changes.insert(last.start..range.end, newest);
                    None
                }
                Some((last, old)) => {
                    self.changes.insert(last, old);
                    Some((range, change))
                }
                None => Some((range, change)),
            };
        }
        if let Some((last, change)) = kept {
            self.changes.insert(last, change);
        }
    }

    /// Records that a change may have been carried out, or may be later, whose answer never came. Other
    /// content that was acknowledged before it is never written over it: somebody may have read it.
    pub(crate) fn doubt(&mut self, range: &Range<u64>, content: &Content) {
        let known: Vec<_> = self.changes.within(range).collect();
        for (part, mut change) in known {
            let new = content.part(range, &part);
            if change.content.take().is_some_and(|old| !old.equals(&new)) {
                self.forget(&part);
                self.is_over = true;
                self.changes.join(part, change);
            }
        }
    }

    /// Records that the caller has changed these bytes: what was there before cannot be missed.
    pub(crate) fn replaced(&mut self, range: &Range<u64>) {
        self.unsure.remove(range);
    }

    /// Forgets changes that no longer count: others came after them.
    fn forget(&mut self, range: &Range<u64>) {
        if self.limit.is_some() {
            let gone = self.changes.within(range);
            self.memory -= gone.map(|(_, change)| change.memory()).sum::<u64>();
        }
        self.changes.remove(range);
    }

    /// Returns a mark: a flush that is sent now covers what was acknowledged until now.
    pub(crate) const fn mark(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }

    /// Records that a flush has succeeded.
    pub(crate) fn flushed(&mut self, mark: u64) {
        self.changes.retain(|change| change.epoch >= mark);
        self.memory = self.changes.iter().map(|(_, change)| change.memory()).sum();
        let is_kept = |(_, change): (_, &Change)| change.content.is_some();
        self.is_over = self.limit.is_some() && !self.changes.iter().all(is_kept);
    }

    /// Returns whether it is time for a flush, before the content of a change is not kept, or because
    /// there is too much to remember.
    pub(crate) fn is_full(&self) -> bool {
        let is_half_full = self.limit.is_some_and(|limit| self.memory > limit / 2);
        is_half_full || self.is_over || self.len() > MOST
    }

    /// Returns what may be lost, in order, and forgets it: a flush says it once.
    pub(crate) fn take_unsure(&mut self) -> Vec<Range<u64>> {
        self.unsure.take().map(|(range, ())| range).collect()
    }

    /// Records that the last link was lost, and the server perhaps with it. Returns what must be
    /// written again before anything else. What is not known, or covered by a ghost, is from now on
    /// unsure.
    pub(crate) fn server_lost(&mut self, ghosts: &Ghosts) -> Vec<(Range<u64>, Content)> {
        let mut again = Vec::new();
        for (range, change) in self.changes.iter() {
            let Some(content) = &change.content else {
                self.unsure.add(range);
                continue;
            };
            let mut at = range.start;
            for free in ghosts.free_for(&range, content) {
                if at < free.start {
                    self.unsure.add(at..free.start);
                }
                at = free.end;
                again.push((free.clone(), content.part(&range, &free)));
            }
            if at < range.end {
                self.unsure.add(at..range.end);
            }
        }
        again
    }

    /// Records that what was acknowledged in `range` is lost.
    pub(crate) fn give_up(&mut self, range: &Range<u64>) {
        let lost: Vec<_> = self.changes.within(range).map(|(part, _)| part).collect();
        lost.into_iter().for_each(|part| self.unsure.add(part));
        self.forget(range);
    }

    /// Returns the link that made an unflushed change in `range`; the latest of several.
    pub(crate) fn maker(&self, range: &Range<u64>) -> Option<u64> {
        let over = self.changes.over(range).map(|(_, change)| change);
        let newest = over.max_by_key(|change| (change.epoch, change.generation))?;
        Some(newest.generation)
    }

    /// Returns whether several links have made unflushed changes in `range`.
    pub(crate) fn has_several_makers(&self, range: &Range<u64>) -> bool {
        let mut makers = self
            .changes
            .over(range)
            .map(|(_, change)| change.generation);
        let first = makers.next();
        makers.any(|maker| Some(maker) != first)
    }

    /// Returns the memory of the journal, in bytes.
    pub(crate) const fn memory(&self) -> u64 {
        self.memory
    }

    /// Returns how many ranges there are.
    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }

    /// Returns what is acknowledged and not flushed.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.changes.iter().map(|(range, _)| range)
    }

    /// Returns how many bytes the link of this generation has written that are not flushed.
    pub(crate) fn bytes_of(&self, generation: u64) -> u64 {
        let changes = self.changes.iter();
        let own = changes.filter(|(_, change)| change.generation == generation);
        own.map(|(range, _)| range.end - range.start).sum()
    }

    /// Returns how many bytes are acknowledged and not flushed.
    pub(crate) fn bytes(&self) -> u64 {
        self.ranges().map(|range| range.end - range.start).sum()
    }

    /// Returns what may be lost, and no flush has said so yet.
    pub(crate) fn unsure(&self) -> impl Iterator<Item = Range<u64>> {
        self.unsure.iter().map(|(range, ())| range)
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
    fn a_flush_covers_what_was_acknowledged_before_it_was_sent() {
        let mut unflushed = Unflushed::new(Some(1 << 20));
        unflushed.acknowledge(&(0..4), &data("abcd"), 1, false);
        let mark = unflushed.mark();
        unflushed.acknowledge(&(2..6), &data("efgh"), 1, false);
        assert_eq!((unflushed.memory(), unflushed.bytes()), (6, 6));
        unflushed.flushed(mark);
        assert_eq!((unflushed.memory(), unflushed.bytes()), (4, 4));
        unflushed.acknowledge(&(3..4), &data("x"), 1, true);
        assert_eq!((unflushed.memory(), unflushed.bytes()), (3, 3));
        unflushed.acknowledge(&(0..6), &Content::Unknown, 1, false);
        assert_eq!((unflushed.memory(), unflushed.len()), (0, 0));
    }

    #[test]
    fn without_a_journal_the_next_flush_says_once_what_may_be_lost() {
        let mut unflushed = Unflushed::new(None);
        unflushed.acknowledge(&(0..4), &data("abcd"), 1, false);
        unflushed.acknowledge(&(8..12), &Content::Zeroes, 1, false);
        assert!(unflushed.server_lost(&Ghosts::default()).is_empty());
        // Written anew on the next link: nobody minds the old content.
        unflushed.acknowledge(&(8..10), &data("ab"), 2, false);
        unflushed.replaced(&(8..10));
        let mark = unflushed.mark();
        unflushed.flushed(mark);
        assert_eq!(unflushed.take_unsure(), [0..4, 10..12]);
        assert!(unflushed.take_unsure().is_empty());
    }

    #[test]
    fn a_journal_writes_all_again_that_no_ghost_covers() {
        let mut unflushed = Unflushed::new(Some(1 << 20));
        unflushed.acknowledge(&(0..8), &data("abcdefgh"), 1, false);
        let mut ghosts = Ghosts::default();
        ghosts.add(&(2..4), &data("xy"), 1);
        let again = unflushed.server_lost(&ghosts);
        let again: Vec<_> = again
            .iter()
            .map(|(range, content)| (range.clone(), content))
            .collect();
        assert!(
            matches!(&again[..], [(a, Content::Data(ab)), (b, Content::Data(efgh))]
            if *a == (0..2) && ab == "ab" && *b == (4..8) && efgh == "efgh")
        );
        assert!(unflushed.unsure().eq(std::iter::once(2..4)));
        assert_eq!(unflushed.memory(), 8, "kept until it is flushed");
        // A ghost of what was being written again stands in nobody's way (R1).
        ghosts.add(&(4..6), &data("ef"), 2);
        let again = unflushed.server_lost(&ghosts).into_iter();
        assert!(again.map(|(range, _)| range).eq([0..2, 4..8]));
    }

    #[test]
    fn a_journal_writes_nothing_over_what_may_have_been_read() {
        let mut unflushed = Unflushed::new(Some(1 << 20));
        unflushed.acknowledge(&(0..8), &data("abcdefgh"), 1, false);
        unflushed.doubt(&(2..6), &data("xyef"));
        unflushed.doubt(&(6..8), &Content::Unknown);
        assert_eq!(unflushed.bytes(), 8);
        // No ghost is left: it was fenced.
        let again = unflushed.server_lost(&Ghosts::default()).into_iter();
        assert!(again.map(|(range, _)| range).eq(std::iter::once(0..2)));
        assert!(unflushed.unsure().eq(std::iter::once(2..8)));
        assert!(unflushed.is_full(), "a flush takes the doubt away");
    }

    #[test]
    fn changes_are_joined_that_one_flush_covers() {
        let mut unflushed = Unflushed::new(None);
        let mut acknowledge = |range, generation| {
            unflushed.acknowledge(&range, &Content::Zeroes, generation, false);
            unflushed.len()
        };
        assert_eq!(acknowledge(0..4, 1), 1);
        assert_eq!(acknowledge(4..8, 1), 1);
        assert_eq!(acknowledge(2..6, 1), 1);
        assert_eq!(acknowledge(8..12, 2), 2, "another link");
        let mark = unflushed.mark();
        unflushed.acknowledge(&(6..8), &Content::Zeroes, 1, false);
        assert_eq!(unflushed.len(), 3, "after the flush was sent");
        unflushed.flushed(mark);
        assert_eq!((unflushed.bytes(), unflushed.maker(&(0..12))), (2, Some(1)));
    }

    #[test]
    fn reads_go_to_the_link_that_wrote() {
        let mut unflushed = Unflushed::new(None);
        unflushed.acknowledge(&(0..4), &data("abcd"), 1, false);
        assert_eq!(unflushed.maker(&(2..6)), Some(1));
        unflushed.acknowledge(&(4..8), &data("abcd"), 2, false);
        assert_eq!(unflushed.maker(&(2..6)), Some(2));
        assert!(unflushed.has_several_makers(&(2..6)));
        assert_eq!(unflushed.maker(&(8..9)), None);
    }

    #[test]
    fn too_many_ranges_are_joined_with_what_lies_between() {
        const STEP: u64 = 10;
        for limit in [None, Some(0)] {
            let mut unflushed = Unflushed::new(limit);
            let count = 2 * MOST as u64 + 10;
            for at in 0..count {
                let range = at * STEP..at * STEP + 1;
                unflushed.acknowledge(&range, &data("x"), 1, false);
                assert!(unflushed.len() <= 2 * MOST);
            }
            let covered = |at: u64| unflushed.maker(&(at * STEP..at * STEP + 1)) == Some(1);
            assert!((0..count).all(covered));
            // What comes after this mark is not flushed.
            let mark = unflushed.mark();
            unflushed.acknowledge(&(0..1), &data("y"), 1, false);
            unflushed.flushed(mark);
            assert!(unflushed.ranges().eq(std::iter::once(0..1)));
        }
    }
}
