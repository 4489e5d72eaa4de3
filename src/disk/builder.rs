//! The options of a disk.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::Disk;
use super::connect;
use super::fence::Fence;
use super::hub::Hub;
use super::keeper::Keeper;
use super::policy::{Changes, Retry};
use super::same::Facts;
use crate::connection::{Builder, Connection, Connector};
use crate::error::{Error, Result};
use crate::export::Export;

/// The options of a [`Disk`].
///
/// ```
/// # use nbd_client::{Connector, testing};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nbd_client::Result<()> {
/// use nbd_client::{Changes, Connection, Disk};
///
/// # let server = testing::Server::new(testing::Export::new(1 << 20));
/// # let connector = Connector::stream(move || { let s = server.connect(); async move { Ok(s) } });
/// let disk = Disk::builder()
///     .changes(Changes::Repeat) // hide lost connections from writers
///     .journal(64 << 20) // and restarts of the server
///     .link(Connection::builder().meta_context("base:allocation"))
///     .open(connector) // "nbd://storage/vm-17"
///     .await?;
/// disk.write(0, "boot").await?;
/// disk.flush().await?;
/// disk.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it opens a disk"]
pub struct DiskBuilder {
    settings: Settings,
}

/// What a disk is to do.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) link: Builder,
    pub(super) connections: usize,
    pub(super) retry: Retry,
    pub(super) retry_first: bool,
    pub(super) changes: Changes,
    pub(super) journal: Option<u64>,
    pub(super) fence: Option<Fence>,
    pub(super) point_in_time: bool,
    pub(super) identify: Option<Identify>,
    pub(super) close_timeout: Duration,
    pub(super) drain: Duration,
    pub(super) may_grow: bool,
    /// The deadline of requests that have none of their own.
    pub(super) request_timeout: Option<Duration>,
    /// How long a link may be silent before it is drained.
    pub(super) stall: Option<Duration>,
    /// Whether each link would have a server of its own.
    pub(super) is_private: bool,
}

pub(super) type Identify = Arc<dyn Fn(Connection) -> Identifying + Send + Sync>;
type Identifying = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

impl Default for Settings {
    fn default() -> Self {
        Self {
            link: Connection::builder(),
            connections: 1,
            retry: Retry::default(),
            retry_first: false,
            changes: Changes::default(),
            journal: None,
            fence: None,
            point_in_time: false,
            identify: None,
            close_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            may_grow: false,
            request_timeout: None,
            stall: None,
            is_private: false,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("connections", &self.connections)
            .field("retry", &self.retry)
            .field("changes", &self.changes)
            .field("journal", &self.journal)
            .field("fence", &self.fence)
            .field("point_in_time", &self.point_in_time)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Takes what the disk does itself out of the options of its links: its requests have their
    /// deadlines whatever link they are on, and a link that is silent is drained.
    fn divide(&mut self) {
        self.request_timeout = self.link.take_request_timeout();
        let stall = self.link.stall_limit();
        self.stall = stall.filter(|_| self.drain > Duration::ZERO);
        if let Some(stall) = self.stall {
            let both = stall.saturating_add(self.drain);
            self.link = self.link.clone().stall_timeout(both);
        }
    }

    /// Returns the time that a request has, by its own timeout or by default.
    pub(super) fn deadline(&self, own: Option<Duration>) -> Option<Duration> {
        own.or(self.request_timeout)
            .filter(|timeout| *timeout != Duration::MAX)
    }

    /// Returns why there can be only one link, if there is a reason (P1).
    pub(super) fn limit(&self, export: &Export) -> Option<&'static str> {
        if self.connections == 1 || self.changes == Changes::Refuse {
            return None;
        }
        if self.is_private {
            return Some("each connection would run a server of its own");
        }
        (!export.can_multi_conn()).then_some(
            "the server does not offer MULTI_CONN, so a flush on one connection may not cover changes \
             made over another",
        )
    }
}

impl DiskBuilder {
    /// Sets how many connections there may be at a time, at least 1. The default is 1. They are
    /// opened when more than 16 requests wait on each, one at a time; fewer are no error.
    ///
    /// More than one needs a server that offers
    /// [`can_multi_conn`](crate::Export::can_multi_conn), or [`Changes::Refuse`];
    /// [`limited_by`](crate::Status::limited_by) says what stands in the way.
    pub fn connections(mut self, most: usize) -> Self {
        self.settings.connections = most.max(1);
        self
    }

    /// Sets when to connect again.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.settings.retry = retry;
        self
    }

    /// Sets whether to wait for a server that is not up yet, too: by default a first connection that
    /// fails is an error at once.
    pub fn retry_first(mut self, retry: bool) -> Self {
        self.settings.retry_first = retry;
        self
    }

    /// Sets what becomes of changes whose connection was lost before the answer. The default is
    /// [`Changes::Report`].
    pub fn changes(mut self, changes: Changes) -> Self {
        self.settings.changes = changes;
        self
    }

    /// Keeps the content of changes until they are flushed, and writes it again after a restart of
    /// the server, so that a flush then means what it says. When it has half of `bytes`, the disk
    /// flushes by itself. It never has more than `bytes`: the content of a change for which there is no
    /// room is not kept, and as without a journal, the next flush says what
    /// [may be lost](crate::Error::DurabilityUnknown). A part of a larger buffer keeps all of the buffer.
    pub fn journal(mut self, bytes: u64) -> Self {
        self.settings.journal = Some(bytes);
        self
    }

    /// Sets what proves that a lost connection is over. The default is nothing: changes of other
    /// content than one whose outcome is unknown fail then with
    /// [`Error::Held`].
    pub fn fence(mut self, fence: Fence) -> Self {
        self.settings.fence = Some(fence);
        self
    }

    /// Says that the export is the state of a disk at one time. Then the disk ends with its last
    /// connection, unless [`identify`](Self::identify) says that another one shows the same state.
    pub fn point_in_time(mut self, is_snapshot: bool) -> Self {
        self.settings.point_in_time = is_snapshot;
        self
    }

    /// Asks `identify` about each connection but the first. An error of it ends the disk, or, beside
    /// connections that are in use, this connection is not used. If it is that the connection was lost,
    /// the next one is asked.
    pub fn identify<F, R>(mut self, identify: F) -> Self
    where
        F: Fn(Connection) -> R + Send + Sync + 'static,
        R: Future<Output = Result<()>> + Send + 'static,
    {
        self.settings.identify = Some(Arc::new(move |connection| Box::pin(identify(connection))));
        self
    }

    /// Sets for how long a connection is still listened to that has been silent for its
    /// [`stall_timeout`](crate::Builder::stall_timeout), before it is given up, and for how
    /// long changes are waited for that a server has not answered when it shuts down. The default is
    /// 10 s; of silence it matters only if there is a stall timeout, see [`link`](Self::link).
    ///
    /// Meanwhile nothing more is sent over it, and requests that change nothing go over another
    /// connection. Changes wait for their answers: those that come are no longer in doubt, which is
    /// sound whatever the server. A connection that speaks again is used again, if there are not enough
    /// others. If it was the only one, a new one is put to use when its changes are answered or it is
    /// given up.
    pub fn drain(mut self, period: Duration) -> Self {
        self.settings.drain = period;
        self
    }

    /// Sets whether the export of a later connection may be larger than it was at first. The disk keeps
    /// the size that it had. By default another size ends the disk, see
    /// [`Error::ExportChanged`]; a smaller one always does.
    pub fn may_grow(mut self, may_grow: bool) -> Self {
        self.settings.may_grow = may_grow;
        self
    }

    /// Sets the options of each connection.
    ///
    /// A [`request_timeout`](crate::Builder::request_timeout) holds for the requests of the disk, over
    /// whatever connections. With a [`stall_timeout`](crate::Builder::stall_timeout), the disk leaves
    /// a server that is silent, see [`drain`](Self::drain).
    pub fn link(mut self, builder: Builder) -> Self {
        self.settings.link = builder;
        self
    }

    /// Sets how long [`Disk::close`] waits for requests in flight, and how long a disk whose last handle
    /// was dropped waits for its changes in flight in the background. The default is 30 s.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.settings.close_timeout = timeout;
        self
    }

    /// Connects, and returns the disk when it can be used.
    ///
    /// # Errors
    /// If the first connection fails; with [`retry_first`](Self::retry_first), if there is none
    /// within the longest [outage](Retry::outage).
    ///
    /// # Cancel safety
    /// Dropping the future stops the attempt.
    pub async fn open<T>(self, server: T) -> Result<Disk>
    where
        T: TryInto<Connector, Error: Into<Error>>,
    {
        let connector = server.try_into().map_err(Into::into)?;
        let mut settings = self.settings;
        settings.divide();
        settings.is_private = connector.is_private();
        let first = match settings.retry_first {
            true => connect::first(&settings, &connector).await?,
            false => settings.link.connect(connector.clone()).await?,
        };
        let facts = Facts::new(first.export()?, first.is_tls());
        let hub = Arc::new(Hub::new(settings, facts, first));
        let keeper = Keeper::new(hub.clone(), connector);
        hub.spawn(keeper.run());
        Ok(Disk::new(hub))
    }
}
