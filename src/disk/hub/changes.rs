//! Changes: their order, what holds them, and what became of them.

use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;

use super::{Hub, Link};
use crate::disk::event::Event;
use crate::disk::state::{Content, Hold, Mark, Place, Turn};
use crate::error::{Error, Result};

/// How many ranges are remembered as unflushed before the disk flushes by itself.
const MOST_UNFLUSHED: usize = 1 << 16;

impl Hub {
    /// Returns the bytes that a change writes, and what it makes of them. Of a part of a block the
    /// whole block is written, with what was read.
    pub(in crate::disk) fn reach(
        &self,
        range: &Range<u64>,
        content: &Content,
        is_unaligned: bool,
    ) -> (Range<u64>, Content) {
        let export = self.facts.export();
        let block = u64::from(export.alignment());
        let start = range.start - range.start % block;
        let end = range.end.next_multiple_of(block).min(export.size());
        if !is_unaligned || (start..end) == *range {
            return (range.clone(), content.clone());
        }
        (start..end, Content::Unknown)
    }

    /// Adds a change to the order.
    pub(in crate::disk) fn begin(self: &Arc<Self>, range: Range<u64>) -> Placed {
        let place = self.core().table.begin(range);
        Placed {
            hub: self.clone(),
            place,
        }
    }

    /// Waits until a change may be sent.
    pub(in crate::disk) async fn turn(
        &self,
        placed: &Placed,
        range: &Range<u64>,
        content: &Content,
    ) -> Result<()> {
        loop {
            let fenced = self.fenced.notified();
            let turn = poll_fn(|cx| {
                let mut core = self.core();
                if let Some(error) = &core.over {
                    return Poll::Ready(Err(error.clone()));
                }
                match core.table.turn(placed.place, range, content, cx.waker()) {
                    Turn::Wait => Poll::Pending,
                    turn => Poll::Ready(Ok(turn)),
                }
            });
            match turn.await? {
                Turn::Held(hold) if self.settings.fence.is_some() && !hold.is_lasting => {
                    fenced.await;
                }
                Turn::Held(hold) => {
                    let Hold {
                        range, generation, ..
                    } = hold;
                    return Err(Error::Held { range, generation });
                }
                Turn::Go | Turn::Wait => return Ok(()),
            }
        }
    }

    /// Records that a change is about to be sent over this link.
    pub(in crate::disk) fn send(self: &Arc<Self>, generation: u64) -> Sending {
        *self.core().sent.entry(generation).or_default() += 1;
        Sending {
            hub: self.clone(),
            generation,
        }
    }

    /// Records a change that was acknowledged.
    pub(in crate::disk) fn acknowledge(
        &self,
        range: &Range<u64>,
        content: &Content,
        generation: u64,
        is_durable: bool,
    ) {
        let mut core = self.core();
        core.table
            .acknowledge(range, content, generation, is_durable);
        let is_full = match self.settings.journal {
            Some(limit) => core.table.unflushed().memory() > limit,
            None => core.table.unflushed().len() > MOST_UNFLUSHED,
        };
        drop(core);
        if is_full {
            self.attention.notify_one();
        }
    }

    /// Returns whether the journal is full, or too much is unflushed to be remembered.
    pub(in crate::disk) fn is_full(&self) -> bool {
        let core = self.core();
        let unflushed = core.table.unflushed();
        match self.settings.journal {
            Some(limit) => unflushed.memory() > limit,
            None => unflushed.len() > MOST_UNFLUSHED,
        }
    }

    /// Records a change whose link was lost before the answer came.
    pub(in crate::disk) fn lose(&self, range: &Range<u64>, content: &Content, link: &Arc<Link>) {
        let mut core = self.core();
        core.table.lose(range, content, link.generation);
        let is_known = |known: &Arc<Link>| known.generation == link.generation;
        if self.settings.fence.is_some() && !core.haunted.iter().any(is_known) {
            core.haunted.push(link.clone());
        }
    }

    /// Returns whether no change is on its way over a link that is not in use any more. Each has ended
    /// then, or is a ghost.
    pub(in crate::disk) fn is_resolved(&self) -> bool {
        let core = self.core();
        let lives = |of: &u64| core.links.iter().any(|(link, _)| link.generation == *of);
        core.sent.keys().all(lives)
    }

    /// Waits until [`is_resolved`](Self::is_resolved).
    pub(in crate::disk) async fn resolve(&self) {
        loop {
            let resolved = self.resolved.notified();
            if self.is_resolved() {
                return;
            }
            resolved.await;
        }
    }

    /// Records that the last link was lost, and perhaps the server. Returns what must be written
    /// again.
    pub(in crate::disk) fn server_lost(&self) -> Vec<(Range<u64>, Content)> {
        self.core().table.server_lost()
    }

    /// Returns what a fence is to prove: the mark of the ghosts, and the links that have left some since
    /// the last call.
    pub(in crate::disk) fn unfenced(&self) -> Option<(Mark, Vec<Arc<Link>>)> {
        let mut core = self.core();
        let links = std::mem::take(&mut core.haunted);
        Some((core.table.unfenced()?, links))
    }

    /// Records that the ghosts up to this mark are over, but for those of the links of these
    /// generations, of which that cannot be proven.
    pub(in crate::disk) fn fence(&self, mark: Mark, lasting: &[u64]) {
        let mut core = self.core();
        for &generation in lasting {
            core.table.cannot_fence(generation);
        }
        if core.table.fence(mark) {
            let generation = mark.generation;
            core.listeners.tell(&Event::Fenced { generation });
        }
        drop(core);
        self.fenced.notify_waiters();
    }

    /// Forgets all ghosts, because the caller knows that they are over.
    pub(in crate::disk) fn assume_fenced(&self) {
        let mut core = self.core();
        core.haunted.clear();
        if let Some(generation) = core.table.assume_fenced() {
            tracing::warn!(generation, "lost links are assumed to be over");
            core.listeners.tell(&Event::Fenced { generation });
        }
        drop(core);
        self.fenced.notify_waiters();
    }
}

/// A change in the order; dropping it ends the change.
#[derive(Debug)]
pub(in crate::disk) struct Placed {
    hub: Arc<Hub>,
    place: Place,
}

impl Drop for Placed {
    fn drop(&mut self) {
        let mut woken = Vec::new();
        self.hub.core().table.end(self.place, &mut woken);
        woken.into_iter().for_each(std::task::Waker::wake);
        self.hub.settled.notify_waiters();
    }
}

/// A change on its way over a link. Dropping it says that it has ended, or is recorded as a ghost.
#[derive(Debug)]
pub(in crate::disk) struct Sending {
    hub: Arc<Hub>,
    generation: u64,
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut core = self.hub.core();
        if let Some(count) = core.sent.get_mut(&self.generation) {
            *count -= 1;
            if *count == 0 {
                core.sent.remove(&self.generation);
            }
        }
        drop(core);
        self.hub.resolved.notify_waiters();
    }
}
