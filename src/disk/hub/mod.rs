//! What the handles of a disk, its requests and its keeper have in common.

mod changes;
mod flushes;
#[cfg(all(test, not(shuttle), feature = "test-util"))]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, PoisonError};

use futures::future::{Either, select};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

pub(super) use changes::Placed;

use super::builder::Settings;
use super::carry::{Carried, is_shutdown};
use super::event::{Event, Listeners, Status};
use super::same::Facts;
use super::state::{Place, Table};
use crate::connection::Connection;
use crate::driver::sync::{self, Mutex, MutexGuard};
use crate::error::{Error, RequestError, Result};
use crate::stats::Stats;

/// How many requests a link works on before another link is wished for: servers work on no more at
/// a time.
const BUSY: usize = 16;

/// One connection of a disk.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) generation: u64,
    pub(super) connection: Connection,
    /// Whether it is silent: then what can go over another link does.
    is_silent: watch::Sender<bool>,
}

impl Link {
    pub(super) fn new(generation: u64, connection: Connection) -> Arc<Self> {
        Arc::new(Self {
            generation,
            connection,
            is_silent: watch::Sender::new(false),
        })
    }
}

/// The state of a disk, and those who wait for it to change.
#[derive(Debug)]
pub(super) struct Hub {
    core: Mutex<Core>,
    pub(super) settings: Settings,
    pub(super) facts: Facts,
    runtime: Handle,
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
    /// The links that are out of use and have not ended.
    leaving: Vec<Arc<Link>>,
    /// What was counted on links that have ended.
    counted: Stats,
    /// The links that left ghosts which no fence was asked about.
    haunted: Vec<Arc<Link>>,
    /// How many changes were sent over each link and have not ended.
    sent: BTreeMap<u64, usize>,
    /// What carries each change that has not ended, unless it was handed over to a task.
    carried: HashMap<Place, Arc<dyn Carried>>,
    generation: u64,
    is_wishing: bool,
    /// Why a link was left that has not ended.
    left: Option<Error>,
    over: Option<Error>,
    failure: Option<RequestError>,
    listeners: Listeners,
    limited_by: Option<&'static str>,
}

impl Hub {
    pub(super) fn new(settings: Settings, facts: Facts, first: Connection) -> Self {
        let link = Link::new(1, first);
        let core = Core {
            table: Table::new(settings.journal.is_some()),
            links: vec![(link, 0)],
            leaving: Vec::new(),
            counted: Stats::default(),
            haunted: Vec::new(),
            sent: BTreeMap::new(),
            carried: HashMap::new(),
            generation: 1,
            is_wishing: false,
            left: None,
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

    /// Runs something in the background, on the runtime of the disk.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        sync::spawn(&self.runtime, task);
    }

    /// Waits for a link: of those that are ready, the one that has written what is asked for and not
    /// flushed it, or else the least busy one.
    pub(super) async fn link(&self, range: Option<&Range<u64>>) -> Result<Arc<Link>> {
        if let Some(link) = self.try_link(range)? {
            return Ok(link);
        }
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
        match &core.over {
            Some(error) => Err(error.clone()),
            None => Ok(self.pick(&mut core, range)),
        }
    }

    fn pick(&self, core: &mut Core, range: Option<&Range<u64>>) -> Option<Arc<Link>> {
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
        let at = written.or_else(|| least.map(|(at, _)| at))?;
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
        Some(link)
    }

    /// Returns whether several links have written unflushed parts of a range, or one that is not in
    /// use.
    pub(super) fn is_scattered(&self, range: &Range<u64>) -> bool {
        if self.settings.connections == 1 {
            return false;
        }
        let core = self.core();
        let unflushed = core.table.unflushed();
        let Some(maker) = unflushed.maker(range) else {
            return false;
        };
        let is_used = core.links.iter().any(|(link, _)| link.generation == maker);
        !is_used || unflushed.has_several_makers(range)
    }

    /// Records that a request of this link has ended.
    pub(super) fn done(&self, link: &Link) {
        if self.settings.connections == 1 {
            return;
        }
        self.release(&mut self.core(), link);
    }

    fn release(&self, core: &mut Core, link: &Link) {
        let links = core.links.iter_mut();
        let of = |(other, _): &&mut (Arc<Link>, usize)| other.generation == link.generation;
        if let Some((_, busy)) = links.into_iter().find(of) {
            *busy = busy.saturating_sub(1);
        }
    }

    /// Takes a link out of use, because it is dead or about to be.
    pub(super) fn drop_link(&self, generation: u64) {
        let mut core = self.core();
        let is_it = |(link, _): &(Arc<Link>, usize)| link.generation == generation;
        if let Some(at) = core.links.iter().position(is_it) {
            let (link, _) = core.links.remove(at);
            core.leaving.push(link);
        }
    }

    /// Records that a link has ended.
    pub(super) fn end_link(&self, link: &Link) {
        self.drop_link(link.generation);
        let mut core = self.core();
        let before = core.leaving.len();
        core.leaving
            .retain(|other| other.generation != link.generation);
        // If the disk has ended meanwhile, it is counted already.
        if core.leaving.len() < before {
            core.counted = core.counted + link.connection.stats();
        }
    }

    /// Returns what was counted on all links so far.
    pub(super) fn stats(&self) -> Stats {
        let (counted, links) = {
            let core = self.core();
            let links = core.links.iter().map(|(link, _)| link);
            let links: Vec<_> = links.chain(&core.leaving).cloned().collect();
            (core.counted, links)
        };
        let links = links.iter().map(|link| link.connection.stats());
        links.fold(counted, std::ops::Add::add)
    }

    /// Takes a link out of use because it is silent. Its changes still wait for their answers; other
    /// requests go elsewhere.
    pub(super) fn stall(&self, link: &Link) {
        self.drop_link(link.generation);
        link.is_silent.send_replace(true);
    }

    /// Waits for the answer to a request that can go over another link as well. Returns `None` if
    /// this one falls silent.
    pub(super) async fn unless_stalled<T>(
        &self,
        link: &Link,
        answer: impl Future<Output = T> + Unpin,
    ) -> Option<T> {
        if self.settings.stall.is_none() {
            return Some(answer.await);
        }
        let mut silence = link.is_silent.subscribe();
        let silent = pin!(silence.wait_for(|is_silent| *is_silent));
        match select(answer, silent).await {
            Either::Left((answer, _)) => Some(answer),
            Either::Right(_) => None,
        }
    }

    /// Takes a link out of use at once, because of the error of a request; its keeper does the rest.
    pub(super) fn leave(&self, link: &Link, error: &Error) {
        self.drop_link(link.generation);
        if is_shutdown(error) {
            self.core().left = Some(error.clone());
        }
        self.attention.notify_one();
    }

    /// Returns why a link was left that has not ended, and forgets it.
    pub(super) fn take_left(&self) -> Option<Error> {
        self.core().left.take()
    }

    /// Puts a link to use. Returns whether the disk has not ended.
    pub(super) fn add_link(&self, link: &Arc<Link>) -> bool {
        link.is_silent.send_replace(false);
        {
            let mut core = self.core();
            if core.over.is_some() {
                return false;
            }
            core.leaving
                .retain(|other| other.generation != link.generation);
            core.links.push((link.clone(), 0));
        }
        self.linked.notify_waiters();
        true
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

    /// Forgets why there were no further links, since the next server may allow them.
    pub(super) fn unlimit(&self) {
        self.core().limited_by = self.settings.limit(self.facts.export());
    }

    /// Ends the disk. The first cause stands; it says whether acknowledged changes were not flushed.
    pub(super) fn end(&self, cause: Error, event: Option<&Event>) {
        let mut core = self.core();
        if core.over.is_none() {
            let unflushed = core.table.unflushed().bytes() > 0;
            core.over = Some(cause.with_unflushed(unflushed));
        }
        if let Some(event) = event {
            core.listeners.tell(event);
        }
        core.listeners.end();
        let links = std::mem::take(&mut core.links);
        let leaving = std::mem::take(&mut core.leaving);
        let ended = links.iter().map(|(link, _)| link).chain(&leaving);
        let counted = ended.map(|link| link.connection.stats());
        core.counted = counted.fold(core.counted, std::ops::Add::add);
        drop(core);
        drop((links, leaving));
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
