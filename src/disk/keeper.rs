//! The task of a disk: notices lost links, connects again, and waits for fences.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::OptionFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;
use tracing::debug;

use super::builder::Settings;
use super::carry;
use super::event::Event;
use super::hub::{Hub, Link};
use super::policy::Retry;
use super::same::Facts;
use super::state::{Content, Mark};
use crate::connection::{Connection, Connector};
use crate::error::{Delivery, Error, Result};
use crate::wire::OptionReplyType;

/// A connection that lived less than this does not set the delay back.
const SHORT: Duration = Duration::from_secs(5);
/// The deadline of the handshake of a link that is not the only one: a server at its limit may take
/// the connection and never speak.
const FURTHER: Duration = Duration::from_secs(10);

type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The task of a disk.
pub(super) struct Keeper {
    hub: Arc<Hub>,
    connector: Connector,
    /// The end of each link.
    ends: FuturesUnordered<Task<(Arc<Link>, Error)>>,
    /// A connection on its way.
    opening: Option<Task<Result<Connection>>>,
    fencing: Option<Task<Option<Mark>>>,
    flushing: Option<Task<()>>,
    backoff: Backoff,
}

impl Keeper {
    pub(super) fn new(hub: Arc<Hub>, connector: Connector) -> Self {
        let backoff = Backoff::new(hub.settings.retry);
        let keeper = Self {
            hub,
            connector,
            ends: FuturesUnordered::new(),
            opening: None,
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
                () = hub.leaving.notified() => hub.end(Error::closed(), None),
                Some((link, cause)) = self.ends.next() => self.lost(&link, cause),
                Some(opened) = OptionFuture::from(self.opening.as_mut()) => {
                    self.opening = None;
                    self.opened(opened).await;
                }
                Some(fenced) = OptionFuture::from(self.fencing.as_mut()) => {
                    self.fencing = None;
                    if let Some(mark) = fenced {
                        hub.fence(mark);
                        self.fence();
                    }
                }
                Some(()) = OptionFuture::from(self.flushing.as_mut()) => self.flushing = None,
                () = hub.attention.notified() => self.attend(),
            }
        }
    }

    fn watch(&self, link: &Arc<Link>) {
        let link = link.clone();
        let end = async move {
            let cause = link.connection.closed().await;
            (link, cause)
        };
        self.ends.push(Box::pin(end));
    }

    /// A link has ended.
    fn lost(&mut self, link: &Link, cause: Error) {
        let generation = link.generation;
        self.hub.end_link(link);
        debug!(generation, error = %cause, "a link is lost");
        self.hub.tell(&Event::Lost {
            generation,
            cause: cause.clone(),
        });
        let settings = &self.hub.settings;
        let is_over = settings.point_in_time && settings.identify.is_none();
        if self.hub.links().is_empty() {
            if is_final(&cause) || is_over {
                return self.give_up(cause);
            }
            self.backoff.lost();
            self.retry(cause);
        }
        self.fence();
    }

    fn give_up(&self, cause: Error) {
        let event = Event::GaveUp {
            cause: cause.clone(),
        };
        self.hub.end(cause, Some(&event));
    }

    /// Connects again, after a delay.
    fn retry(&mut self, cause: Error) {
        let Some((attempt, delay)) = self.backoff.next() else {
            return self.give_up(cause);
        };
        self.hub.tell(&Event::Retrying {
            attempt,
            delay,
            cause: cause.clone(),
        });
        let builder = self.hub.settings.link.clone();
        let (connector, end) = (self.connector.clone(), self.backoff.end());
        self.opening = Some(Box::pin(async move {
            tokio::time::sleep(delay).await;
            let connecting = builder.connect(connector);
            match tokio::time::timeout_at(end, connecting).await {
                Ok(result) => result,
                // There is no time left, and the last cause says why.
                Err(_) => Err(cause),
            }
        }));
    }

    /// A link is dead, another one is wished for, or the journal is full.
    fn attend(&mut self) {
        if self.hub.is_full() && self.flushing.is_none() {
            let hub = self.hub.clone();
            self.flushing = Some(Box::pin(async move { carry::flush_early(&hub).await }));
        }
        let links = self.hub.links().len();
        let wishes = self.hub.take_wish();
        if wishes && links > 0 && links < self.hub.settings.connections && self.opening.is_none() {
            let builder = self.hub.settings.link.clone().handshake_timeout(FURTHER);
            let connector = self.connector.clone();
            self.opening = Some(Box::pin(async move { builder.connect(connector).await }));
        }
    }

    /// A connection was made, or not.
    async fn opened(&mut self, opened: Result<Connection>) {
        let is_further = !self.hub.links().is_empty();
        let result = match opened {
            Ok(connection) => self.enter(connection, is_further).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => {}
            Err(error) if self.hub.links().is_empty() => match error {
                Error::ExportChanged { .. } => {
                    let event = Event::ExportChanged {
                        cause: error.clone(),
                    };
                    self.hub.tell(&event);
                    self.give_up(error);
                }
                error if is_final(&error) => self.give_up(error),
                error => self.retry(error),
            },
            Err(error) => {
                debug!(%error, "no further link");
                self.hub
                    .limit("the server did not take a further connection");
            }
        }
    }

    /// Checks a new connection, writes again what may be lost, and puts it to use.
    async fn enter(&mut self, connection: Connection, is_further: bool) -> Result<()> {
        let now = Facts::new(connection.export()?, connection.is_tls());
        self.hub.facts.check(&now)?;
        if let Some(identify) = &self.hub.settings.identify {
            identify(connection.clone()).await?;
        }
        let generation = self.hub.next_generation();
        if !is_further {
            // Every change of the lost links has ended, or is a ghost.
            self.hub.resolve().await;
            let again = self.hub.server_lost();
            write_again(&self.hub, &connection, generation, again).await?;
        }
        let Some(link) = self.hub.add_link(generation, connection) else {
            return Ok(());
        };
        self.watch(&link);
        self.hub.tell(&Event::Connected { generation });
        if let Some(outage) = self.backoff.recovered() {
            self.hub.tell(&Event::Recovered { outage });
        }
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
            let mark = hub.unfenced()?;
            fence.wait(mark.generation).await;
            Some(mark)
        }));
    }
}

/// Writes the content of the journal before anything else is sent.
async fn write_again(
    hub: &Hub,
    connection: &Connection,
    generation: u64,
    again: Vec<(Range<u64>, Content)>,
) -> Result<()> {
    /// How many writes are in flight at a time.
    const AHEAD: usize = 8;
    let write = async |(range, content): (Range<u64>, Content)| {
        let result = match &content {
            Content::Data(data) => {
                connection
                    .write(range.start, data.clone())
                    .unaligned()
                    .await
            }
            Content::Zeroes => {
                let length = range.end - range.start;
                connection
                    .write_zeroes(range.start, length)
                    .unaligned()
                    .await
            }
            Content::Unknown => Ok(()),
        };
        match &result {
            Ok(()) => hub.acknowledge(&range, &content, generation, false),
            Err(error) if error.delivery() == Delivery::MaybeSent => {
                let (covers, effect) = hub.reach(&range, &content, true);
                hub.lose(&covers, &effect, generation);
            }
            Err(_) => {}
        }
        result
    };
    let mut writes = futures::stream::iter(again)
        .map(write)
        .buffer_unordered(AHEAD);
    let mut first = Ok(());
    // All of them end, so that each that was sent and not answered is known.
    while let Some(result) = writes.next().await {
        first = first.and(result);
    }
    first
}

/// Whoever waits for the disk must not wait for a keeper that is gone: with its runtime, or by a panic
/// of a caller's closure.
impl Drop for Keeper {
    fn drop(&mut self) {
        if self.hub.over().is_none() {
            self.hub.end(Error::closed(), None);
        }
    }
}

/// Whether connecting again is no use.
fn is_final(error: &Error) -> bool {
    match error {
        Error::Protocol(..)
        | Error::Invalid(_)
        | Error::InvalidUse(_)
        | Error::MissingContext(_) => true,
        Error::Tls(error, _) => !error.is_retryable(),
        Error::Refused(refusal) => refusal.reply() != OptionReplyType::ERR_SHUTDOWN,
        _ => false,
    }
}

/// Connects for the first time, as often as it takes.
pub(super) async fn first(settings: &Settings, connector: &Connector) -> Result<Connection> {
    let mut backoff = Backoff::new(settings.retry);
    backoff.lost();
    loop {
        let error = match settings.link.connect(connector.clone()).await {
            Err(error) if !is_final(&error) => error,
            result => return result,
        };
        match backoff.next() {
            Some((_, delay)) => tokio::time::sleep(delay).await,
            None => return Err(error),
        }
    }
}

/// The delays between attempts.
#[derive(Debug)]
struct Backoff {
    retry: Retry,
    attempt: u32,
    /// When the last link was lost.
    since: Option<Instant>,
    /// When the last connection was made.
    connected: Instant,
}

impl Backoff {
    fn new(retry: Retry) -> Self {
        Self {
            retry,
            attempt: 0,
            since: None,
            connected: Instant::now(),
        }
    }

    /// The last link was lost.
    fn lost(&mut self) {
        if self.connected.elapsed() >= SHORT {
            self.attempt = 0;
        }
        self.since.get_or_insert_with(Instant::now);
    }

    /// A connection was made. Returns how long there was none.
    fn recovered(&mut self) -> Option<Duration> {
        self.connected = Instant::now();
        self.since.take().map(|since| since.elapsed())
    }

    /// When to give up.
    fn end(&self) -> Instant {
        let since = self.since.unwrap_or_else(Instant::now);
        crate::driver::timer::since(since, self.retry.outage)
    }

    /// Returns the number of the next attempt and the delay before it, unless it is time to give up.
    fn next(&mut self) -> Option<(u32, Duration)> {
        if self.attempt >= self.retry.attempts {
            return None;
        }
        self.attempt += 1;
        let delay = self.retry.bound(self.attempt).mul_f64(random());
        (Instant::now() + delay < self.end()).then_some((self.attempt, delay))
    }
}

/// Returns a random number from 0 to 1, so that clients of one server do not come back all at once.
fn random() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(0_u8) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}
