//! The links of a disk: which one takes a request, and when another one is wished for.

use std::future::Future;
use std::ops::{Deref, Range};
use std::pin::pin;
use std::sync::Arc;

use futures::future::{Either, select};
use tokio::sync::watch;

use super::{Core, Hub};
use crate::connection::Connection;
use crate::disk::carry::is_shutdown;
use crate::disk::event::Event;
use crate::disk::state::Numbered;
use crate::error::{Error, Result};

/// One connection of a disk.
#[derive(Debug)]
pub(in crate::disk) struct Link {
    pub(in crate::disk) generation: u64,
    pub(in crate::disk) connection: Connection,
    /// Whether it is silent: then what can go over another link does.
    is_silent: watch::Sender<bool>,
}

impl Link {
    pub(in crate::disk) fn new(generation: u64, connection: Connection) -> Arc<Self> {
        Arc::new(Self {
            generation,
            connection,
            is_silent: watch::Sender::new(false),
        })
    }
}

impl Numbered for Arc<Link> {
    fn generation(&self) -> u64 {
        self.generation
    }
}

/// A link that a request uses, until this is dropped.
pub(in crate::disk) struct Lease<'a> {
    hub: &'a Hub,
    link: Arc<Link>,
    length: u64,
}

impl Deref for Lease<'_> {
    type Target = Arc<Link>;

    fn deref(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.hub.done(&self.link, self.length);
    }
}

impl Core {
    /// Tells that a link is lost, if it is, and nothing is on its way over it any more.
    pub(super) fn tell_if_lost(&mut self, generation: u64) {
        if let Some(at) = self.losing.iter().position(|(of, _)| *of == generation) {
            let (_, cause) = self.losing.remove(at);
            self.tell_lost(generation, cause);
        }
    }

    pub(super) fn tell_lost(&mut self, generation: u64, cause: Error) {
        let event = Event::Lost {
            generation,
            cause,
            ghosts: self.table.left_by(generation),
            unflushed: self.table.unflushed().bytes_of(generation),
        };
        self.listeners.tell(&event);
    }
}

impl Hub {
    /// Waits for a link: of those that are ready, the one that has written what is asked for and not
    /// flushed it, or else the one with
    /// the fewest bytes in flight.
    pub(in crate::disk) async fn link(&self, range: Option<&Range<u64>>) -> Result<Lease<'_>> {
        let length = range.map_or(0, |range| range.end - range.start);
        loop {
            let linked = self.linked.notified();
            if let Some(link) = self.try_link(range, length)? {
                return Ok(Lease {
                    hub: self,
                    link,
                    length,
                });
            }
            linked.await;
        }
    }

    fn try_link(&self, range: Option<&Range<u64>>, length: u64) -> Result<Option<Arc<Link>>> {
        let mut core = self.core();
        match &core.over {
            Some(error) => Err(error.clone()),
            None => Ok(self.pick(&mut core, range, length)),
        }
    }

    /// Returns the link for a request of so many bytes: the one that has written unflushed changes of
    /// `read`, or else the one with the fewest bytes in flight.
    pub(super) fn pick(
        &self,
        core: &mut Core,
        read: Option<&Range<u64>>,
        length: u64,
    ) -> Option<Arc<Link>> {
        let wished = self.settings.connections;
        if wished == 1 {
            return core.links.iter().next().cloned();
        }
        let maker = read.and_then(|range| core.table.unflushed().maker(range));
        let (link, is_busy) = core.links.pick(maker, length)?;
        let link = link.clone();
        if is_busy && core.links.len() < wished && core.limited_by.is_none() && !core.is_wishing {
            core.is_wishing = true;
            self.attention.notify_one();
        }
        Some(link)
    }

    /// Returns whether several links have written unflushed parts of a range, or one that is not in
    /// use.
    pub(in crate::disk) fn is_scattered(&self, range: &Range<u64>) -> bool {
        if self.settings.connections == 1 {
            return false;
        }
        let core = self.core();
        let unflushed = core.table.unflushed();
        let Some(maker) = unflushed.maker(range) else {
            return false;
        };
        !core.links.has(maker) || unflushed.has_several_makers(range)
    }

    /// Records that a request of so many bytes has ended on this link.
    pub(in crate::disk) fn done(&self, link: &Link, length: u64) {
        if self.settings.connections > 1 {
            self.core().links.release(link.generation, length);
        }
    }

    /// Takes a link out of use, because it is dead or about to be.
    pub(in crate::disk) fn drop_link(&self, generation: u64) {
        let mut core = self.core();
        if let Some(link) = core.links.remove(generation) {
            core.leaving.push(link);
        }
    }

    /// Records that a link has ended.
    pub(in crate::disk) fn end_link(&self, link: &Link) {
        self.drop_link(link.generation);
        if let Some(failure) = link.connection.flush_failure() {
            self.flush_failed(&failure);
        }
        let mut core = self.core();
        let before = core.leaving.len();
        core.leaving
            .retain(|other| other.generation != link.generation);
        // If the disk has ended meanwhile, it is counted already.
        if core.leaving.len() < before {
            core.counted = core.counted + link.connection.stats();
        }
    }

    /// Tells of a link that has ended, once its changes have: then it is known what is in doubt.
    pub(in crate::disk) fn lost(&self, generation: u64, cause: Error) {
        let mut core = self.core();
        core.losing.push((generation, cause));
        if !core.sent.contains_key(&generation) {
            core.tell_if_lost(generation);
        }
    }

    /// Takes a link out of use because it is silent. Its changes still wait for their answers; other
    /// requests go elsewhere.
    pub(in crate::disk) fn stall(&self, link: &Link) {
        self.drop_link(link.generation);
        link.is_silent.send_replace(true);
    }

    /// Waits for the answer to a request that can go over another link as well. Returns `None` if
    /// this one falls silent.
    pub(in crate::disk) async fn unless_stalled<T>(
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
    ///
    /// A request that was not sent because the link was silent says nothing of it: the link may be in
    /// use again when its caller learns that.
    pub(in crate::disk) fn leave(&self, link: &Link, error: &Error) {
        if link.connection.refuses() || is_shutdown(error) {
            self.drop_link(link.generation);
        }
        if is_shutdown(error) {
            self.core().left = Some(error.clone());
        }
        self.attention.notify_one();
    }

    /// Returns why a link was left that has not ended, and forgets it.
    pub(in crate::disk) fn take_left(&self) -> Option<Error> {
        self.core().left.take()
    }

    /// Puts a link to use. Returns whether the disk has not ended.
    pub(in crate::disk) fn add_link(&self, link: &Arc<Link>) -> bool {
        link.is_silent.send_replace(false);
        {
            let mut core = self.core();
            if core.over.is_some() {
                return false;
            }
            core.leaving
                .retain(|other| other.generation != link.generation);
            core.links.add(link.clone());
        }
        self.linked.notify_waiters();
        true
    }

    /// Returns the number for the next link.
    pub(in crate::disk) fn next_generation(&self) -> u64 {
        let mut core = self.core();
        core.generation += 1;
        core.generation
    }

    /// Returns whether a link is ready.
    pub(super) fn is_linked(&self) -> bool {
        !self.core().links.is_empty()
    }

    /// Returns the links that are ready.
    pub(in crate::disk) fn links(&self) -> Vec<Arc<Link>> {
        self.core().links.iter().cloned().collect()
    }

    /// Returns whether another link is wished for, and forgets the wish.
    pub(in crate::disk) fn take_wish(&self) -> bool {
        std::mem::take(&mut self.core().is_wishing)
    }

    /// Records why there are no further links, and forgets that one was wished for meanwhile.
    pub(in crate::disk) fn limit(&self, reason: &'static str) {
        let mut core = self.core();
        core.limited_by.get_or_insert(reason);
        core.is_wishing = false;
    }

    /// Forgets why there were no further links, since the next server may allow them.
    pub(in crate::disk) fn unlimit(&self) {
        self.core().limited_by = self.settings.limit(self.facts.export());
    }
}
