//! What the handles of a disk, its requests and its keeper have in common.

mod carriers;
mod changes;
mod flushes;
mod links;
#[cfg(all(test, not(shuttle), feature = "test-util"))]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use carriers::Carriers;
pub(super) use changes::Placed;
use flushes::Flushes;
pub(super) use links::Link;

use super::builder::Settings;
use super::event::{Event, Listeners, Status};
use super::same::Facts;
use super::state::{Links, Table};
use crate::connection::Connection;
use crate::driver::sync::{self, Mutex, MutexGuard};
use crate::error::{Delivery, Error, FailedRequest, RequestError, Site};
use crate::stats::Stats;

/// The state of a disk, and those who wait for it to change.
#[derive(Debug)]
pub(super) struct Hub {
    core: Mutex<Core>,
    pub(super) settings: Settings,
    pub(super) facts: Facts,
    /// What errors say of the server and its export.
    pub(super) site: Arc<Site>,
    runtime: Handle,
    /// Links have come, or the disk has ended.
    linked: Notify,
    /// A change has ended.
    settled: Notify,
    /// A change over a link has ended, whatever became of it.
    resolved: Notify,
    /// A flush over a link has ended.
    flush_ended: Notify,
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
    /// The links that are ready.
    links: Links<Arc<Link>>,
    /// The links that are out of use and have not ended.
    leaving: Vec<Arc<Link>>,
    /// What was counted on links that have ended.
    counted: Stats,
    /// The links that left ghosts which no fence was asked about.
    haunted: Vec<Arc<Link>>,
    /// How many changes were sent over each link and have not ended.
    sent: BTreeMap<u64, usize>,
    carried: Carriers,
    flushes: Flushes,
    generation: u64,
    is_wishing: bool,
    /// The links that have ended, and of which the changes have not: they are told of when they have.
    losing: Vec<(u64, Error)>,
    /// Why a link was left that has not ended.
    left: Option<Error>,
    over: Option<Error>,
    failure: Option<RequestError>,
    listeners: Listeners,
    limited_by: Option<&'static str>,
}

/// The state, locked. Listeners to events are woken when it is released, since a waker may call back:
/// the fields are dropped in this order.
struct Guard<'a> {
    core: MutexGuard<'a, Core>,
    woken: Woken,
}

impl Deref for Guard<'_> {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut Core {
        &mut self.core
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.woken.0 = self.core.listeners.take_woken();
    }
}

/// Wakes them when it is dropped.
#[derive(Default)]
struct Woken(Vec<Waker>);

impl Drop for Woken {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

impl Core {
    /// Returns the links that are ready, and those that are out of use and have not ended.
    fn all_links(&self) -> Vec<Arc<Link>> {
        self.links.iter().chain(&self.leaving).cloned().collect()
    }
}

impl Hub {
    pub(super) fn new(settings: Settings, facts: Facts, first: Connection) -> Self {
        let site = first.inner().site();
        let mut links = Links::default();
        links.add(Link::new(1, first));
        let core = Core {
            table: Table::new(settings.journal),
            links,
            leaving: Vec::new(),
            counted: Stats::default(),
            haunted: Vec::new(),
            sent: BTreeMap::new(),
            carried: Carriers::default(),
            flushes: Flushes::default(),
            generation: 1,
            is_wishing: false,
            losing: Vec::new(),
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
            site,
            runtime: Handle::current(),
            linked: Notify::new(),
            settled: Notify::new(),
            resolved: Notify::new(),
            flush_ended: Notify::new(),
            fenced: Notify::new(),
            attention: Notify::new(),
            leaving: Notify::new(),
        }
    }

    /// Locks the state, for a few statements.
    fn core(&self) -> Guard<'_> {
        let core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let woken = Woken::default();
        Guard { core, woken }
    }

    /// Runs something in the background, on the runtime of the disk.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        sync::spawn(&self.runtime, task);
    }

    /// Returns what was counted on all links so far.
    pub(super) fn stats(&self) -> Stats {
        let (counted, links) = {
            let core = self.core();
            (core.counted, core.all_links())
        };
        let links = links.iter().map(|link| link.connection.stats());
        links.fold(counted, std::ops::Add::add)
    }

    /// Ends the disk. The first cause stands; it says whether acknowledged changes were not flushed.
    pub(super) fn end(&self, cause: Error, event: Option<&Event>) {
        let mut core = self.core();
        if core.over.is_none() {
            let unflushed = core.table.unflushed().len() > 0;
            core.over = Some(cause.with_unflushed(unflushed));
        }
        for (generation, cause) in std::mem::take(&mut core.losing) {
            core.tell_lost(generation, cause);
        }
        if let Some(event) = event {
            core.listeners.tell(event);
        }
        core.listeners.end();
        let links = std::mem::take(&mut core.links);
        let leaving = std::mem::take(&mut core.leaving);
        let ended = links.iter().chain(&leaving);
        let counted = ended.map(|link| link.connection.stats());
        core.counted = counted.fold(core.counted, std::ops::Add::add);
        drop(core);
        drop((links, leaving));
        self.linked.notify_waiters();
        self.fenced.notify_waiters();
        self.attention.notify_one();
    }

    /// Ends the disk, because nobody wants it any more. A link that owes an answer, perhaps to the task
    /// that carries a change, is given `limit` for that if `is_left` says so.
    pub(super) fn close(&self, limit: Duration, is_left: impl Fn(&Link) -> bool) {
        let links = self.core().all_links();
        self.end(Error::closed(), None);
        for link in links {
            if link.connection.in_flight() > 0 && is_left(&link) {
                self.part(&link, limit);
            }
        }
    }

    /// Ends a link in the background, in order if it can be within `limit`.
    pub(super) fn part(&self, link: &Link, limit: Duration) {
        let end = link.connection.disconnect();
        let end = end.timeout(limit).into_future();
        self.spawn(async move { drop(end.await) });
    }

    /// Ends the disk, because it cannot go on.
    pub(super) fn give_up(&self, cause: Error) {
        let event = Event::GaveUp {
            cause: cause.clone(),
        };
        self.end(cause, Some(&event));
    }

    /// Waits until the disk has ended.
    pub(super) async fn until_over(&self) {
        loop {
            let linked = self.linked.notified();
            if self.over().is_some() {
                return;
            }
            linked.await;
        }
    }

    /// Returns why the disk has ended, if it has.
    pub(super) fn over(&self) -> Option<Error> {
        self.core().over.clone()
    }

    /// The error of a change whose time was over before it was sent.
    pub(super) fn unsent(&self, limit: Duration, request: FailedRequest) -> Error {
        let error = Error::overdue(limit, request).unsent();
        match self.links().is_empty() {
            true => error.without_link(),
            false => error,
        }
    }

    /// The error of a request that changes nothing, and was not answered in time over any link.
    pub(super) fn overdue(&self, limit: Duration, request: FailedRequest) -> Error {
        self.unsent(limit, request).delivered(Delivery::MaybeSent)
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
        let links = self.core().all_links();
        let in_flight = links.iter().map(|link| link.connection.in_flight());
        let in_flight = in_flight.sum();
        let core = self.core();
        let unflushed = core.table.unflushed();
        Status {
            in_flight,
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
