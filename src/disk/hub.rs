//! What the handles of a disk, its requests and its keeper have in common.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::builder::Settings;
use super::event::{Event, Listeners, Status};
use super::same::Facts;
use super::state::{Content, Hold, Mark, Place, Table, Turn};
use crate::connection::Connection;
use crate::error::{Error, RequestError, Result};

/// How many requests a link works on before another link is wished for: servers work on no more at
/// a time.
const BUSY: usize = 16;

/// One connection of a disk.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) generation: u64,
    pub(super) connection: Connection,
}

/// The state of a disk, and those who wait for it to change.
#[derive(Debug)]
pub(super) struct Hub {
    core: Mutex<Core>,
    pub(super) settings: Settings,
    pub(super) facts: Facts,
    pub(super) runtime: Handle,
    /// Links have come, or the disk has ended.
    linked: Notify,
    /// A change has ended.
    settled: Notify,
    /// A change over a link has ended, whatever became of it.
    resolved: Notify,
    /// Ghosts were fenced, or the disk has ended.
    fenced: Notify,
    /// Something for the keeper: a link is dead, or another one is wished for.
    pub(super) attention: Notify,
    /// The last handle is gone, or the disk is closed.
    pub(super) leaving: Notify,
}

#[derive(Debug)]
struct Core {
    table: Table,
    /// The links that are ready, with the number of requests that each works on.
    links: Vec<(Arc<Link>, usize)>,
    /// How many changes were sent over each link and have not ended.
    sent: BTreeMap<u64, usize>,
    generation: u64,
    is_wishing: bool,
    over: Option<Error>,
    failure: Option<RequestError>,
    listeners: Listeners,
    limited_by: Option<&'static str>,
}

impl Hub {
    pub(super) fn new(settings: Settings, facts: Facts, first: Connection) -> Self {
        let link = Link {
            generation: 1,
            connection: first,
        };
        let core = Core {
            table: Table::new(settings.journal.is_some()),
            links: vec![(Arc::new(link), 0)],
            sent: BTreeMap::new(),
            generation: 1,
            is_wishing: false,
            over: None,
            failure: None,
            listeners: Listeners::default(),
            limited_by: settings.limit(facts.export()),
        };
        Self {
            core: Mutex::new(core),
            settings,
            facts,
            runtime: Handle::current(),
            linked: Notify::new(),
            settled: Notify::new(),
            resolved: Notify::new(),
            fenced: Notify::new(),
            attention: Notify::new(),
            leaving: Notify::new(),
        }
    }

    /// Locks the state, for a few statements.
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Links.

    /// Waits for a link: of those that are ready, the one that has written what is asked for and not
    /// flushed it, or else the least busy one.
    pub(super) async fn link(&self, range: Option<&Range<u64>>) -> Result<Arc<Link>> {
        loop {
            let linked = self.linked.notified();
            if let Some(link) = self.try_link(range)? {
                return Ok(link);
            }
            linked.await;
        }
    }

    fn try_link(&self, range: Option<&Range<u64>>) -> Result<Option<Arc<Link>>> {
        let mut core = self.core();
        if let Some(error) = &core.over {
            return Err(error.clone());
        }
        let maker = match range {
            Some(range) if core.links.len() > 1 => core.table.unflushed().maker(range),
            _ => None,
        };
        let written = core
            .links
            .iter()
            .position(|(link, _)| Some(link.generation) == maker);
        let least = core
            .links
            .iter()
            .enumerate()
            .min_by_key(|(_, (_, busy))| *busy);
        let Some(at) = written.or_else(|| least.map(|(at, _)| at)) else {
            return Ok(None);
        };
        let wished = self.settings.connections;
        let (link, busy) = &mut core.links[at];
        let link = link.clone();
        if wished > 1 {
            *busy += 1;
            let is_busy = *busy > BUSY;
            if is_busy && core.links.len() < wished && core.limited_by.is_none() && !core.is_wishing
            {
                core.is_wishing = true;
                self.attention.notify_one();
            }
        }
        Ok(Some(link))
    }

    /// Returns whether several links have written unflushed parts of a range.
    pub(super) fn is_scattered(&self, range: &Range<u64>) -> bool {
        let core = self.core();
        core.links.len() > 1 && core.table.unflushed().has_several_makers(range)
    }

    /// Records that a request of this link has ended.
    pub(super) fn done(&self, link: &Link) {
        if self.settings.connections == 1 {
            return;
        }
        let mut core = self.core();
        let links = core.links.iter_mut();
        let of = |(other, _): &&mut (Arc<Link>, usize)| other.generation == link.generation;
        if let Some((_, busy)) = links.into_iter().find(of) {
            *busy = busy.saturating_sub(1);
        }
    }

    /// Takes a link that is dead out of use. Returns whether it was in use.
    pub(super) fn drop_link(&self, generation: u64) -> bool {
        let mut core = self.core();
        let before = core.links.len();
        core.links.retain(|(link, _)| link.generation != generation);
        core.links.len() != before
    }

    /// Puts a connection to use. Returns its link, or `None` if the disk has ended.
    pub(super) fn add_link(&self, generation: u64, connection: Connection) -> Option<Arc<Link>> {
        let link = Arc::new(Link {
            generation,
            connection,
        });
        {
            let mut core = self.core();
            if core.over.is_some() {
                return None;
            }
            core.links.push((link.clone(), 0));
        }
        self.linked.notify_waiters();
        Some(link)
    }

    /// Returns the number for the next link.
    pub(super) fn next_generation(&self) -> u64 {
        let mut core = self.core();
        core.generation += 1;
        core.generation
    }

    /// Returns the links that are ready.
    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        self.core()
            .links
            .iter()
            .map(|(link, _)| link.clone())
            .collect()
    }

    /// Returns whether another link is wished for, and forgets the wish.
    pub(super) fn take_wish(&self) -> bool {
        std::mem::take(&mut self.core().is_wishing)
    }

    /// Records why there are no further links.
    pub(super) fn limit(&self, reason: &'static str) {
        self.core().limited_by.get_or_insert(reason);
    }

    // Changes.

    /// Returns the bytes that a change writes, and what it makes of them. Of a part of a block the
    /// whole block is written, with what was read.
    pub(super) fn reach(
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
    pub(super) fn begin(self: &Arc<Self>, range: Range<u64>) -> Placed {
        let place = self.core().table.begin(range);
        Placed {
            hub: self.clone(),
            place,
        }
    }

    /// Waits until a change may be sent.
    pub(super) async fn turn(
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
                Turn::Held(_) if self.settings.fence.is_some() => fenced.await,
                Turn::Held(Hold { range, generation }) => {
                    return Err(Error::Held { range, generation });
                }
                Turn::Go | Turn::Wait => return Ok(()),
            }
        }
    }

    /// Records that a change is about to be sent over this link.
    pub(super) fn send(self: &Arc<Self>, generation: u64) -> Sending {
        *self.core().sent.entry(generation).or_default() += 1;
        Sending {
            hub: self.clone(),
            generation,
        }
    }

    /// Records a change that was acknowledged.
    pub(super) fn acknowledge(
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
    pub(super) fn is_full(&self) -> bool {
        let core = self.core();
        let unflushed = core.table.unflushed();
        match self.settings.journal {
            Some(limit) => unflushed.memory() > limit,
            None => unflushed.len() > MOST_UNFLUSHED,
        }
    }

    /// Records a change whose link was lost before the answer came.
    pub(super) fn lose(&self, range: &Range<u64>, content: &Content, generation: u64) {
        self.core().table.lose(range, content, generation);
    }

    /// Waits until no change is on its way over a link that is not in use any more. Each has ended
    /// then, or is a ghost.
    pub(super) async fn resolve(&self) {
        loop {
            let resolved = self.resolved.notified();
            {
                let core = self.core();
                let lives = |of: &u64| core.links.iter().any(|(link, _)| link.generation == *of);
                if core.sent.keys().all(lives) {
                    return;
                }
            }
            resolved.await;
        }
    }

    /// Records that the last link was lost, and perhaps the server. Returns what must be written
    /// again.
    pub(super) fn server_lost(&self) -> Vec<(Range<u64>, Content)> {
        self.core().table.server_lost()
    }

    /// Returns the mark of the ghosts that wait for a fence, if there are any.
    pub(super) fn unfenced(&self) -> Option<Mark> {
        self.core().table.unfenced()
    }

    /// Records that the ghosts up to this mark are fenced.
    pub(super) fn fence(&self, mark: Mark) {
        let mut core = self.core();
        if core.table.fence(mark) {
            let generation = mark.generation;
            core.listeners.tell(&Event::Fenced { generation });
        }
        drop(core);
        self.fenced.notify_waiters();
    }

    // Flushes.

    /// Waits until all changes have ended that were begun before this call.
    pub(super) async fn settle(&self) {
        let mark = self.core().table.begun();
        loop {
            let settled = self.settled.notified();
            if self.core().table.is_settled(mark) {
                return;
            }
            settled.await;
        }
    }

    /// Returns the mark of what is acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.core().table.acknowledged()
    }

    /// Records a flush that has succeeded on the server, and was sent at this mark.
    ///
    /// # Errors
    /// If what was acknowledged before may be lost.
    pub(super) fn flushed(&self, mark: u64) -> Result<()> {
        let mut core = self.core();
        core.table.flushed(mark);
        let lost = core.table.take_unsure();
        if let Some(failure) = &core.failure {
            return Err(Error::DurabilityUnknown(failure.clone().into()));
        }
        match lost.is_empty() {
            true => Ok(()),
            false => Err(Error::maybe_lost(lost)),
        }
    }

    /// Records a flush of the disk's own that has succeeded: what may be lost is left to be said.
    pub(super) fn flushed_early(&self, mark: u64) {
        self.core().table.flushed(mark);
    }

    /// Records a flush that failed on the server.
    pub(super) fn flush_failed(&self, failure: &RequestError) {
        let mut core = self.core();
        core.failure.get_or_insert_with(|| failure.clone());
    }

    /// Forgets that a flush has failed.
    pub(super) fn clear_flush_error(&self) {
        self.core().failure = None;
    }

    // The end.

    /// Ends the disk. The first cause stands.
    pub(super) fn end(&self, cause: Error, event: Option<&Event>) {
        let mut core = self.core();
        if core.over.is_none() {
            core.over = Some(cause);
        }
        if let Some(event) = event {
            core.listeners.tell(event);
        }
        core.listeners.end();
        let links = std::mem::take(&mut core.links);
        drop(core);
        drop(links);
        self.linked.notify_waiters();
        self.fenced.notify_waiters();
        self.attention.notify_one();
    }

    /// Returns why the disk has ended, if it has.
    pub(super) fn over(&self) -> Option<Error> {
        self.core().over.clone()
    }

    pub(super) fn tell(&self, event: &Event) {
        self.core().listeners.tell(event);
    }

    pub(super) fn listen(&self) -> super::Events {
        let mut core = self.core();
        let events = core.listeners.add();
        if core.over.is_some() {
            core.listeners.end();
        }
        events
    }

    pub(super) fn status(&self) -> Status {
        let core = self.core();
        let unflushed = core.table.unflushed();
        Status {
            links: core.links.len(),
            generation: core.generation,
            changes: core.table.changes(),
            held: core.table.held().map(|hold| hold.range).collect(),
            unflushed_bytes: unflushed.bytes(),
            journal_bytes: unflushed.memory(),
            maybe_lost: unflushed.unsure().collect(),
            limited_by: core.limited_by,
        }
    }
}

/// How many ranges are remembered as unflushed before the disk flushes by itself.
const MOST_UNFLUSHED: usize = 1 << 16;

/// A change in the order; dropping it ends the change.
#[derive(Debug)]
pub(super) struct Placed {
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
pub(super) struct Sending {
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
