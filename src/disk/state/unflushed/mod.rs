//! Changes that were acknowledged, and not flushed since (R7).

use std::ops::Range;

use super::content::Content;
use super::ghosts::Ghosts;
use crate::spans::{Cut, Join, Spans};

/// How many ranges are remembered before it is time for a flush. Twice as many, and they are joined.
const MOST: usize = 1 << 16;
/// The generation of no link: what several have written is flushed before it is read.
const NONE: u64 = 0;

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
    /// How many ranges were left when they were joined last.
    joined: usize,
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
        // What a journal keeps is not joined: then it is not tried again for each change.
        let most = match self.joined {
            few if few <= MOST + MOST / 2 => 2 * MOST,
            many => 2 * many,
        };
        if self.changes.len() <= most {
            return;
        }
        let mut kept: Option<(Range<u64>, Change)> = None;
        for (range, change) in self.changes.take() {
            kept = match kept.take() {
                Some((last, old)) if old.content.is_none() && change.content.is_none() => {
                    let both = Change {
                        epoch: old.epoch.max(change.epoch),
                        generation: match old.generation == change.generation {
                            true => old.generation,
                            false => NONE,
                        },
                        content: None,
                    };
                    self.changes.insert(last.start..range.end, both);
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
        self.joined = self.changes.len();
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
mod tests;
