//! The rules of a disk over connections that come and go, without I/O and without a clock.
//!
//! R0: changes of the same byte are carried out one at a time (`order`). R1 to R4: what a lost link
//! leaves behind, and who must wait for a fence (`ghosts`). R7: what is acknowledged and not durable
//! (`unflushed`). P2, P4 and P6: which link takes a request (`links`).

mod content;
mod ghosts;
mod links;
mod order;
#[cfg(test)]
mod tests;
mod unflushed;

use std::ops::Range;
use std::task::Waker;

pub(crate) use content::Content;
use ghosts::Ghosts;
pub(crate) use ghosts::{Hold, Mark};
pub(crate) use links::{Links, Numbered};
use order::Order;
pub(crate) use order::Place;
use unflushed::Unflushed;

/// What becomes of a change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Turn {
    /// It may be sent.
    Go,
    /// It waits for an earlier change; its waker is called when to ask again.
    Wait,
    /// It would write other content than a ghost.
    Held(Hold),
}

/// All that a disk knows about its changes.
#[derive(Debug, Default)]
pub(crate) struct Table {
    order: Order,
    ghosts: Ghosts,
    unflushed: Unflushed,
}

impl Table {
    /// Creates an empty table. `journal` says how many bytes of content are kept until they are flushed.
    pub(crate) fn new(journal: Option<u64>) -> Self {
        Self {
            unflushed: Unflushed::new(journal),
            ..Self::default()
        }
    }

    /// Adds a change of `range`, which is not empty.
    pub(crate) fn begin(&mut self, range: Range<u64>) -> Place {
        self.order.enter(range)
    }

    /// Returns whether a change may be sent.
    pub(crate) fn turn(
        &mut self,
        place: Place,
        range: &Range<u64>,
        content: &Content,
        waker: &Waker,
    ) -> Turn {
        if !self.order.is_turn(place, waker) {
            return Turn::Wait;
        }
        match self.ghosts.hold(range, content) {
            None => Turn::Go,
            Some(hold) => Turn::Held(hold),
        }
    }

    /// Records that a change of `asked` was answered, which has written `range`: it succeeded on the
    /// link of this generation.
    pub(crate) fn acknowledge(
        &mut self,
        asked: &Range<u64>,
        range: &Range<u64>,
        content: &Content,
        generation: u64,
        is_durable: bool,
    ) {
        self.ghosts.repeated(range);
        self.unflushed.replaced(asked);
        self.unflushed
            .acknowledge(range, content, generation, is_durable);
    }

    /// Records that a change may have been carried out, at least in part.
    pub(crate) fn doubt(&mut self, range: &Range<u64>, content: &Content) {
        self.unflushed.doubt(range, content);
    }

    /// Records that the link of a change, of this generation, was lost before the answer came.
    pub(crate) fn lose(&mut self, range: &Range<u64>, content: &Content, generation: u64) {
        self.ghosts.add(range, content, generation);
        self.unflushed.doubt(range, content);
    }

    /// Ends a change, whatever became of it, or takes one that waits out of the order.
    pub(crate) fn end(&mut self, place: Place, woken: &mut Vec<Waker>) {
        self.order.leave(place, woken);
    }

    /// Records that no ghost up to this mark can be carried out any more, but for those of links that
    /// the fence does not cover. Returns whether there were any.
    pub(crate) fn fence(&mut self, mark: Mark) -> bool {
        self.ghosts.fence(mark)
    }

    /// Records that the fence cannot prove that the link of this generation is over.
    pub(crate) fn cannot_fence(&mut self, generation: u64) {
        self.ghosts.cannot_fence(generation);
    }

    /// Forgets all ghosts, because the caller knows better. Returns the newest generation of a link
    /// that left one, if there were any.
    pub(crate) fn assume_fenced(&mut self) -> Option<u64> {
        self.ghosts.assume()
    }

    /// Returns the mark of the changes so far, for [`is_settled`](Self::is_settled).
    pub(crate) const fn begun(&self) -> u64 {
        self.order.mark()
    }

    /// Returns whether all changes before the mark have ended.
    pub(crate) fn is_settled(&self, mark: u64) -> bool {
        self.order.is_past(mark)
    }

    /// Returns the mark of what is acknowledged, for [`flushed`](Self::flushed).
    pub(crate) const fn acknowledged(&mut self) -> u64 {
        self.unflushed.mark()
    }

    /// Records that a flush has succeeded that was sent at this mark.
    pub(crate) fn flushed(&mut self, mark: u64) {
        self.unflushed.flushed(mark);
        let unflushed = &self.unflushed;
        let is_durable = |range: &Range<u64>| unflushed.maker(range).is_none();
        self.ghosts.forget_repeated(is_durable);
    }

    /// Returns what may be lost although it was acknowledged, and forgets it.
    pub(crate) fn take_unsure(&mut self) -> Vec<Range<u64>> {
        self.unflushed.take_unsure()
    }

    /// Records that the last link was lost, and perhaps the server. Returns what must be written
    /// again before anything else.
    pub(crate) fn server_lost(&mut self) -> Vec<(Range<u64>, Content)> {
        self.unflushed.server_lost(&self.ghosts)
    }

    /// Records that what was acknowledged in `range`, and is not flushed, is lost.
    pub(crate) fn give_up(&mut self, range: &Range<u64>) {
        self.unflushed.give_up(range);
    }

    /// Returns the mark of the ghosts that a fence can end, if there are any.
    pub(crate) fn unfenced(&self) -> Option<Mark> {
        self.ghosts.mark()
    }

    /// Returns the ranges that ghosts may still change.
    pub(crate) fn held(&self) -> impl Iterator<Item = Hold> {
        self.ghosts.ranges()
    }

    /// Returns the ranges of the ghosts that the link of this generation has left, in order.
    pub(crate) fn left_by(&self, generation: u64) -> Vec<Range<u64>> {
        self.ghosts.left_by(generation)
    }

    /// Returns the changes that were acknowledged and not flushed.
    pub(crate) const fn unflushed(&self) -> &Unflushed {
        &self.unflushed
    }

    /// Returns how many changes have begun and not ended.
    pub(crate) fn changes(&self) -> usize {
        self.order.len()
    }
}
