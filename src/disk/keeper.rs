//! The task of a disk: notices lost links, connects again, and waits for fences.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures::future::OptionFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::backoff::Backoff;
use super::carry;
use super::connect::{self, is_final};
use super::event::Event;
use super::fence::Fence;
use super::hub::{Hub, Link};
use super::journal::write_again;
use super::replacing::Replacing;
use super::state::Mark;
use super::watch::{self, Turn};
use crate::connection::{Connection, Connector};
use crate::error::{Error, Phase, Result};

/// What a fence has proven: up to which mark, but for the links of these generations.
type Fenced = (Mark, Vec<u64>);

type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The task of a disk.
pub(super) struct Keeper {
    hub: Arc<Hub>,
    connector: Connector,
    /// What becomes of each link.
    watches: FuturesUnordered<Task<(Arc<Link>, Turn)>>,
    /// Links that are silent.
    stalled: Vec<Arc<Link>>,
    /// A connection on its way.
    opening: Option<Task<Result<Connection>>>,
    /// Whether that is one beside others.
    is_further: bool,
    replacing: Replacing,
    fencing: Option<Task<Option<Fenced>>>,
    flushing: Option<Task<()>>,
    backoff: Backoff,
}

impl Keeper {
    pub(super) fn new(hub: Arc<Hub>, connector: Connector) -> Self {
        let backoff = Backoff::new(hub.settings.retry, Instant::now());
        let keeper = Self {
            hub,
            connector,
            watches: FuturesUnordered::new(),
            stalled: Vec::new(),
            opening: None,
            is_further: false,
            replacing: Replacing::new(),
            fencing: None,
            flushing: None,
            backoff,
        };
        keeper
            .hub
            .links()
            .iter()
            .for_each(|link| keeper.watch(link));
        keeper
    }

    /// Keeps the disk connected until it is over.
    pub(super) async fn run(mut self) {
        let hub = self.hub.clone();
        while hub.over().is_none() {
            tokio::select! {
                () = hub.leaving.notified() => hub.close(hub.settings.close_timeout, |_| true),
                Some((link, turn)) = self.watches.next() => match turn {
                    Turn::Ended(cause) => self.lost(&link, cause),
                    Turn::Silent(heard) => self.silent(link, heard),
                    Turn::Heard => self.heard(&link),
                },
                Some(opened) = OptionFuture::from(self.opening.as_mut()) => {
                    self.opening = None;
                    self.opened(opened).await;
                }
                Some(fenced) = OptionFuture::from(self.fencing.as_mut()) => {
                    self.fencing = None;
                    if let Some((mark, lasting)) = fenced {
                        hub.fence(mark, &lasting);
                        self.fence();
                    }
                }
                Some(()) = OptionFuture::from(self.flushing.as_mut()) => self.flushing = None,
                () = self.replacing.again() => self.replace(),
                () = hub.attention.notified() => self.attend(),
            }
        }
    }

    fn watch(&self, link: &Arc<Link>) {
        let (link, limit) = (link.clone(), self.hub.settings.stall);
        self.watches
            .push(Box::pin(watch::until_silent(link, limit)));
    }

    /// A link has ended.
    fn lost(&mut self, link: &Link, cause: Error) {
        let generation = link.generation;
        self.hub.end_link(link);
        // What becomes of its changes does not depend on who polls.
        self.hub.hand_over(None);
        self.stalled.retain(|other| other.generation != generation);
        debug!(generation, error = %cause, "a link is lost");
        self.hub.lost(generation, cause.clone());
        match self.hub.links().len() {
            0 => self.alone(cause),
            _ => self.replace(),
        }
        self.fence();
    }

    /// No link is in use.
    fn alone(&mut self, cause: Error) {
        let settings = &self.hub.settings;
        let is_over = settings.point_in_time && settings.identify.is_none();
        if is_final(&cause, &settings.retry) || is_over {
            return self.hub.give_up(cause);
        }
        self.backoff.lost(Instant::now());
        self.replacing.start_again();
        if self.opening.is_none() || self.is_further {
            self.retry(cause);
        }
    }

    /// Makes another link in place of one that is lost, beside those in use.
    fn replace(&mut self) {
        if self.replacing.is_due(self.hub.links().len()) && self.opening.is_none() {
            self.open_further();
        }
    }

    fn open_further(&mut self) {
        let (hub, connector) = (self.hub.clone(), self.connector.clone());
        let further = async move { connect::further(&hub, connector).await };
        self.is_further = true;
        self.opening = Some(Box::pin(further));
    }

    /// A further connection could not be made.
    fn refused(&mut self, cause: Error) {
        debug!(error = %cause, "no further link");
        let why = match &cause {
            // A later wish may be granted.
            Error::Timeout(Phase::Stall, _) => None,
            Error::ExportChanged { .. } => Some("a further connection leads to another export"),
            _ => Some("the server did not take a further connection"),
        };
        let links = self.hub.links().len();
        if !self.replacing.refused(links, &self.hub.settings.retry) {
            why.into_iter().for_each(|why| self.hub.limit(why));
        }
        self.hub.tell(&Event::Limited { cause });
    }

    /// A link is silent: others are used, and it is listened to for a while.
    fn silent(&mut self, link: Arc<Link>, heard: u64) {
        let (hub, generation) = (self.hub.clone(), link.generation);
        debug!(generation, "a link is silent");
        hub.stall(&link);
        hub.tell(&Event::Stalled { generation });
        link.connection.discard_unsent();
        let settings = &hub.settings;
        let is_drained_close = |fence: &Fence| fence.is_drained_close();
        if settings.fence.as_ref().is_some_and(is_drained_close) {
            link.connection.leave(settings.drain);
            self.watches.push(Box::pin(watch::until_silent(link, None)));
        } else {
            let watch = watch::until_heard(link.clone(), heard);
            self.watches.push(Box::pin(watch));
            self.stalled.push(link);
        }
        // A snapshot is nowhere else.
        let is_elsewhere = !settings.point_in_time || settings.identify.is_some();
        if hub.links().is_empty() && is_elsewhere {
            let limit = settings.stall.unwrap_or_default();
            self.alone(Error::timeout(Phase::Stall, limit));
        }
    }

    /// A link that was silent speaks again.
    fn heard(&mut self, link: &Arc<Link>) {
        let before = self.stalled.len();
        self.stalled
            .retain(|other| other.generation != link.generation);
        let (is_given_up, links) = (self.stalled.len() == before, self.hub.links().len());
        // The server may be shutting down: then it ends the link.
        let refuses = link.connection.refuses();
        if refuses || is_given_up || links >= self.hub.settings.connections {
            let watch = watch::until_silent(link.clone(), None);
            self.watches.push(Box::pin(watch));
            if !refuses {
                self.hub.part(link, self.hub.settings.drain);
            }
            return;
        }
        if links == 0 {
            self.opening = None;
        }
        // What comes from now on is not to be failed for the silence.
        link.connection.keep_unsent();
        self.used(link);
    }

    /// Puts a link to use.
    fn used(&mut self, link: &Arc<Link>) {
        if !self.hub.add_link(link) {
            return;
        }
        self.watch(link);
        self.replacing.used(self.hub.links().len());
        let generation = link.generation;
        self.hub.tell(&Event::Connected { generation });
        if let Some(outage) = self.backoff.recovered(Instant::now()) {
            self.hub.tell(&Event::Recovered { outage });
        }
        // Several may have been lost at once.
        self.replace();
    }

    /// Connects again, after a delay.
    fn retry(&mut self, cause: Error) {
        let Some((attempt, delay)) = self.backoff.next(Instant::now()) else {
            return self
                .hub
                .give_up(cause.after_attempts(self.backoff.attempts(Instant::now())));
        };
        self.hub.tell(&Event::Retrying {
            attempt,
            delay,
            cause: cause.clone(),
        });
        let (hub, end) = (self.hub.clone(), self.backoff.end(Instant::now()));
        let (connector, silent) = (self.connector.clone(), self.stalled.clone());
        self.is_further = false;
        self.opening = Some(Box::pin(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let connecting = connect::again(&hub, connector);
            let Ok(opened) = tokio::time::timeout_at(end, connecting).await else {
                // There is no time left, and the last cause says why.
                return Err(cause);
            };
            if opened.is_ok() && !silent.is_empty() {
                watch::until_used(&hub, silent).await;
            }
            opened
        }));
    }

    /// A link is dead, another one is wished for, or the journal is full.
    fn attend(&mut self) {
        if self.hub.is_full() && self.flushing.is_none() {
            let hub = self.hub.clone();
            self.flushing = Some(Box::pin(async move { carry::flush_early(&hub).await }));
        }
        let links = self.hub.links().len();
        if let (Some(cause), 0) = (self.hub.take_left(), links) {
            self.alone(cause);
        }
        let wishes = self.hub.take_wish();
        if wishes && links > 0 && links < self.hub.settings.connections && self.opening.is_none() {
            self.open_further();
        }
    }

    /// A connection was made, or not.
    async fn opened(&mut self, opened: Result<Connection>) {
        let hub = self.hub.clone();
        // A further connection leads to the server of the links that were in use, even if they are lost
        // by now.
        let is_alone = hub.links().is_empty();
        if opened.is_ok() && is_alone && !hub.is_resolved() {
            // What is on its way over other links may still be answered.
            self.opening = Some(Box::pin(async move {
                let drain = hub.settings.drain;
                if timeout(drain, hub.resolve()).await.is_err() {
                    hub.leave_unresolved();
                    hub.resolve().await;
                }
                opened
            }));
            return;
        }
        let result = match opened {
            Ok(connection) => self.enter(connection, is_alone).await,
            Err(error) => Err(error),
        };
        if result.is_err() {
            // What was written again may have left ghosts.
            self.fence();
        }
        match result {
            Ok(()) => {}
            Err(error) if hub.links().is_empty() => match error {
                Error::ExportChanged { .. } => {
                    let event = Event::ExportChanged {
                        cause: error.clone(),
                    };
                    hub.tell(&event);
                    self.hub.give_up(error);
                }
                error if is_final(&error, &hub.settings.retry) => self.hub.give_up(error),
                error => self.retry(error),
            },
            Err(error) => self.refused(error),
        }
    }

    /// Puts a new connection to use. If no other one was in use, what may be lost is written again
    /// before.
    async fn enter(&mut self, connection: Connection, is_alone: bool) -> Result<()> {
        let hub = self.hub.clone();
        let link = Link::new(hub.next_generation(), connection);
        if is_alone {
            // They owe nothing that is of use any more.
            let stalled = std::mem::take(&mut self.stalled);
            let drain = hub.settings.drain;
            stalled.iter().for_each(|old| hub.part(old, drain));
            hub.unlimit();
            let again = hub.server_lost();
            let mut writing = pin!(write_again(&hub, &link, again));
            tokio::select! {
                biased;
                written = &mut writing => written?,
                () = hub.leaving.notified() => hub.close(hub.settings.close_timeout, |_| true),
                () = hub.until_over() => {}
                () = tokio::time::sleep_until(self.backoff.end(Instant::now())) => {
                    // Then each write that is not answered is known as a ghost.
                    link.connection.leave(Duration::ZERO);
                    writing.await?;
                }
            }
        }
        self.used(&link);
        Ok(())
    }

    /// Waits for a fence, if there is something to fence.
    fn fence(&mut self) {
        let (Some(fence), None) = (&self.hub.settings.fence, &self.fencing) else {
            return;
        };
        let (fence, hub) = (fence.clone(), self.hub.clone());
        self.fencing = Some(Box::pin(async move {
            // Every change of the lost links has ended, or is a ghost.
            hub.resolve().await;
            let (mark, links) = hub.unfenced()?;
            let lasting = fence.wait(mark.generation, &links).await;
            Some((mark, lasting))
        }));
    }
}

/// Whoever waits for the disk must not wait for a keeper that is gone: with its runtime, or by a panic
/// of a caller's closure.
impl Drop for Keeper {
    fn drop(&mut self) {
        if self.hub.over().is_none() {
            let why = match std::thread::panicking() {
                true => "the task of the disk panicked, or a closure that it was given",
                false => "the Tokio runtime was shut down",
            };
            let error = std::io::Error::other(why);
            self.hub.give_up(Error::io(Phase::Request, error));
        }
    }
}
