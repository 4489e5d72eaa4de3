//! Changes: their order, what holds them, and what became of them.

use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::{Core, Guard, Hub, Link};
use crate::disk::carry::Carried;
use crate::disk::event::Event;
use crate::disk::state::{Content, Hold, Mark, Place, Turn};
use crate::error::{Error, Result};

impl Hub {
    /// Returns the bytes that a change of `range` writes: of a part of a block it writes the whole
    /// block, with what was read.
    pub(in crate::disk) fn reach(&self, range: &Range<u64>, is_unaligned: bool) -> Range<u64> {
        if !is_unaligned {
            return range.clone();
        }
        let export = self.facts.export();
        let block = u64::from(export.alignment());
        let start = range.start - range.start % block;
        start..range.end.next_multiple_of(block).min(export.size())
    }

    /// Adds a change to the order, which `carrier` carries.
    pub(in crate::disk) fn begin(
        self: &Arc<Self>,
        range: Range<u64>,
        carrier: Arc<dyn Carried>,
    ) -> Placed {
        let mut core = self.core();
        let place = core.table.begin(range);
        core.carried.insert(place, carrier);
        drop(core);
        Placed {
            hub: self.clone(),
            place,
            sent: None,
            is_over: false,
        }
    }

    /// Has tasks carry all changes but this one, because somebody waits for them, and their callers may
    /// not poll.
    pub(in crate::disk) fn hand_over(&self, but: Option<&Placed>) {
        let mut core = self.core();
        let others = core.carried.take_others(but.map(|placed| placed.place));
        drop(core);
        others.for_each(Carried::hand_over);
    }

    /// Returns the link for a change that need not wait for anything, and records that it is about to
    /// be sent. It reads `read` before.
    pub(in crate::disk) fn at_once(
        &self,
        placed: &mut Placed,
        range: &Range<u64>,
        content: &Content,
        read: Option<&Range<u64>>,
    ) -> Option<Arc<Link>> {
        let mut core = self.core();
        let turn = core.table.turn(placed.place, range, content, Waker::noop());
        if core.over.is_some() || turn != Turn::Go {
            return None;
        }
        let link = self.pick(&mut core, read, range.end - range.start)?;
        placed.count(&mut core, link.generation);
        Some(link)
    }

    /// Waits until it is the turn of a change, and no ghost stands in its way.
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
                    Turn::Wait => {
                        drop(core);
                        self.hand_over(Some(placed));
                        Poll::Pending
                    }
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

    /// Waits until a change may be sent over a link, which is returned, and records that it is about to
    /// be sent. While it waits for a link, the journal may leave ghosts: so its turn and the link are
    /// looked for at once.
    pub(in crate::disk) async fn link_for(
        &self,
        placed: &mut Placed,
        range: &Range<u64>,
        content: &Content,
        read: Option<&Range<u64>>,
    ) -> Result<Arc<Link>> {
        loop {
            let linked = self.linked.notified();
            self.turn(placed, range, content).await?;
            match self.at_once(placed, range, content, read) {
                Some(link) => return Ok(link),
                None if self.is_linked() => {}
                None => linked.await,
            }
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
            .acknowledge(range, range, content, generation, is_durable);
        let is_full = self.can_flush() && core.table.unflushed().is_full();
        drop(core);
        if is_full {
            self.attention.notify_one();
        }
    }

    /// Returns whether anything is acknowledged that was not flushed.
    pub(in crate::disk) fn has_unflushed(&self) -> bool {
        self.core().table.unflushed().len() > 0
    }

    fn can_flush(&self) -> bool {
        self.facts.export().can_flush()
    }

    /// Returns whether the journal is full, or too much is unflushed to be remembered.
    pub(in crate::disk) fn is_full(&self) -> bool {
        self.can_flush() && self.core().table.unflushed().is_full()
    }

    /// Records that a change may have been carried out, at least in part.
    pub(in crate::disk) fn doubt(&self, range: &Range<u64>, content: &Content) {
        self.core().table.doubt(range, content);
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
        core.sent.keys().all(|of| core.links.has(*of))
    }

    /// Waits until [`is_resolved`](Self::is_resolved).
    pub(in crate::disk) async fn resolve(&self) {
        loop {
            let resolved = self.resolved.notified();
            if self.is_resolved() {
                return;
            }
            self.hand_over(None);
            resolved.await;
        }
    }

    /// Ends the links that are not in use any more and have not answered all changes: those are in
    /// doubt then.
    pub(in crate::disk) fn leave_unresolved(&self) {
        let core = self.core();
        let links = core.leaving.iter();
        let links = links.filter(|link| core.sent.contains_key(&link.generation));
        let links: Vec<_> = links.cloned().collect();
        drop(core);
        links
            .iter()
            .for_each(|link| link.connection.leave(Duration::ZERO));
    }

    /// Records that the last link was lost, and perhaps the server. Returns what must be written
    /// again.
    pub(in crate::disk) fn server_lost(&self) -> Vec<(Range<u64>, Content)> {
        self.core().table.server_lost()
    }

    /// Records that what was acknowledged in `range`, and is not flushed, is lost.
    pub(in crate::disk) fn give_up_content(&self, range: &Range<u64>) {
        self.core().table.give_up(range);
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

/// A change in the order; dropping it ends the change. If it was sent, it has been answered then, or is
/// recorded as a ghost.
#[derive(Debug)]
pub(in crate::disk) struct Placed {
    hub: Arc<Hub>,
    place: Place,
    /// The generation of the link that it is on its way over.
    sent: Option<u64>,
    is_over: bool,
}

impl Placed {
    /// Records that the change is about to be sent over the link of this generation.
    fn count(&mut self, core: &mut Core, generation: u64) {
        *core.sent.entry(generation).or_default() += 1;
        self.sent = Some(generation);
    }

    /// Records that the change has ended on its link: it was answered, or is recorded as a ghost.
    pub(in crate::disk) fn resolve(&mut self) {
        let hub = self.hub.clone();
        if self.uncount(&mut hub.core()) {
            hub.resolved.notify_waiters();
        }
    }

    /// Returns whether it was sent.
    fn uncount(&mut self, core: &mut Core) -> bool {
        let Some(generation) = self.sent.take() else {
            return false;
        };
        if let Some(count) = core.sent.get_mut(&generation) {
            *count -= 1;
            if *count == 0 {
                core.sent.remove(&generation);
                core.tell_if_lost(generation);
            }
        }
        true
    }

    /// Ends a change of `asked` that was acknowledged on `link`, where it was counted with its length,
    /// and has written `range`.
    pub(in crate::disk) fn acknowledge(
        mut self,
        asked: &Range<u64>,
        range: &Range<u64>,
        content: &Content,
        (link, length): (&Link, u64),
        is_durable: bool,
    ) {
        let hub = self.hub.clone();
        let mut core = hub.core();
        core.table
            .acknowledge(asked, range, content, link.generation, is_durable);
        if hub.settings.connections > 1 {
            core.links.release(link.generation, length);
        }
        let is_full = hub.can_flush() && core.table.unflushed().is_full();
        self.end(core);
        if is_full {
            hub.attention.notify_one();
        }
    }

    fn end(&mut self, mut core: Guard<'_>) {
        let mut woken = Vec::new();
        self.is_over = true;
        let was_sent = self.uncount(&mut core);
        core.table.end(self.place, &mut woken);
        let carrier = core.carried.remove(self.place);
        drop(core);
        drop(carrier);
        woken.into_iter().for_each(Waker::wake);
        self.hub.settled.notify_waiters();
        if was_sent {
            self.hub.resolved.notify_waiters();
        }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if !self.is_over {
            let hub = self.hub.clone();
            self.end(hub.core());
        }
    }
}
