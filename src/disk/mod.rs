//! One export over any number of connections, which survives the loss of each.

mod backoff;
mod builder;
mod carry;
mod connect;
mod event;
mod fence;
mod hub;
mod journal;
mod keeper;
mod policy;
#[cfg(all(test, shuttle))]
mod races;
mod replacing;
mod same;
mod state;
mod streams;
mod watch;

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

pub use builder::DiskBuilder;
pub use carry::Pending as DiskPending;
pub use event::{Event, Events, Status};
pub use fence::Fence;
use hub::Hub;
pub use policy::{Changes, Retry};
use tokio::time::Instant;

use crate::connection::Connector;
use crate::driver::timer;
use crate::error::{Error, Phase, Result};
use crate::export::Export;
use crate::extents::{Extents, JointExtents};
use crate::request::{Chunks, Client, Request, op};
use crate::stats::Stats;

/// One export over any number of connections, which survives the loss of each without undoing newer
/// data.
///
/// A disk has the commands of a [`Connection`](crate::Connection). When a connection is lost, the
/// disk connects again: reads wait and are repeated; a change whose answer never came is reported or
/// repeated, as [`Changes`] says. A change that the server may still carry out late is never
/// overtaken: until a [`Fence`] proves that it is over, only the same bytes may be written there
/// ([`Error::Held`]). Without a [fence](DiskBuilder::fence) that is for ever, unless
/// [`assume_fenced`](Self::assume_fenced) ends it. A server that is silent is left only with a
/// [`stall_timeout`](crate::Builder::stall_timeout) of its [links](DiskBuilder::link).
///
/// A handle is cheap to clone. Dropping the last one disconnects in the background;
/// [`close`](Self::close) waits.
///
/// # What it promises, and on what condition
///
/// * A change that succeeded is not undone by an older one, as long as this disk is the only one
///   that writes there.
/// * A [`flush`](Self::flush) that succeeds covers all changes that were begun before it. If some of
///   them may have been lost with a connection, it fails once with [`Error::DurabilityUnknown`] and
///   their ranges; with a [journal](DiskBuilder::journal) they are written again first, but for bytes of
///   which a later change is in doubt.
/// * Two changes of the same bytes are carried out one after the other, in the order in which they
///   were first polled.
///
/// # Examples
/// ```
/// # use nbd_client::{Connector, testing};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nbd_client::Result<()> {
/// use nbd_client::Disk;
///
/// # let server = testing::Server::new(testing::Export::new(1 << 20));
/// # let other = server.clone();
/// # let connector = Connector::stream(move || { let s = server.connect(); async move { Ok(s) } });
/// # /*
/// let disk = Disk::open("nbd://storage/vm-17").await?;
/// # */
/// # let disk = Disk::open(connector).await?;
/// disk.write(0, "before").await?;
/// disk.flush().await?;
/// # other.hang_up();
/// // The server is restarted here.
/// assert_eq!(&disk.read(0, 6).await?[..], b"before");
/// disk.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "dropping the last handle closes the disk"]
pub struct Disk(Arc<Handle>);

struct Handle(Arc<Hub>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.leaving.notify_one();
    }
}

impl Disk {
    fn new(hub: Arc<Hub>) -> Self {
        Self(Arc::new(Handle(hub)))
    }

    fn hub(&self) -> &Arc<Hub> {
        &self.0.0
    }

    /// Opens a disk with default options: one connection, a minute to come back after a loss, and
    /// changes whose outcome is unknown are reported.
    ///
    /// # Errors
    /// If the first connection fails.
    pub async fn open<T>(server: T) -> Result<Self>
    where
        T: TryInto<Connector, Error: Into<Error>>,
    {
        Self::builder().open(server).await
    }

    /// Returns a builder for a disk with other options.
    pub fn builder() -> DiskBuilder {
        DiskBuilder::default()
    }

    /// Returns what was learnt about the export from the first connection. It holds for all.
    #[must_use]
    pub fn export(&self) -> Export {
        self.hub().facts.export().clone()
    }

    /// Returns the size of the export in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.hub().facts.export().size()
    }

    /// Returns the events from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        self.hub().listen()
    }

    /// Returns what the disk is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        self.hub().status()
    }

    /// Returns the counts of what was sent and received over all connections since the disk was
    /// opened, lost ones included. A request that was sent again counts again.
    ///
    /// When the disk has ended, what comes later over its connections is not counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.hub().stats()
    }

    /// Waits until all changes are answered that were begun before, without a flush; see
    /// [`Connection::settled`](crate::Connection::settled).
    ///
    /// # Errors
    /// None at present.
    pub async fn settled(&self) -> Result<()> {
        Client::settle(self).await
    }

    /// Proves that the server answers, see [`Connection::ping`](crate::Connection::ping).
    ///
    /// # Errors
    /// If the disk has ended.
    pub async fn ping(&self) -> Result<()> {
        crate::request::ping(self).await
    }

    /// Says that no change of the connections that are lost now can be carried out any more: the
    /// caller knows it. If he is wrong, newer data can be undone.
    pub fn assume_fenced(&self) {
        self.hub().assume_fenced();
    }

    /// Forgets that a flush has failed, see
    /// [`Connection::clear_flush_error`](crate::Connection::clear_flush_error).
    pub fn clear_flush_error(&self) {
        self.hub().clear_flush_error();
    }

    /// Returns why the disk has ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<Error> {
        self.hub().over()
    }

    /// Ends the disk: waits until what was begun is answered, for at most the
    /// [close timeout](DiskBuilder::close_timeout), and disconnects. It does not flush.
    ///
    /// # Errors
    /// If the disk had ended before, the reason; if requests were not answered in time,
    /// [`Error::Timeout`]; [`Error::DurabilityUnknown`], if changes may be lost and no flush has said so,
    /// or are not flushed and there is no connection; or that a connection could not be ended in
    /// order.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the disk as it is, until the last handle is dropped.
    pub async fn close(&self) -> Result<()> {
        self.close_within(self.hub().settings.close_timeout).await
    }

    /// Ends the disk within `limit`, however long its own [close
    /// timeout](DiskBuilder::close_timeout) is.
    pub(crate) async fn close_within(&self, limit: Duration) -> Result<()> {
        let hub = self.hub();
        if let Some(error) = hub.over() {
            return match error {
                Error::Closed(_) => Ok(()),
                error => Err(error),
            };
        }
        let begin = Instant::now();
        let settled = timer::until(timer::after(limit), hub.settle()).await;
        let (links, lost) = (hub.links(), hub.lost_for_good());
        hub.close(limit, |link| {
            links.iter().all(|used| used.generation != link.generation)
        });
        let mut result = settled.ok_or_else(|| Error::timeout(Phase::Shutdown, limit));
        if !lost.is_empty() {
            result = result.and_then(|()| Err(Error::maybe_lost(lost).at(&hub.site)));
        }
        // The first one may have started the server.
        for link in links.into_iter().rev() {
            // Reads in flight are waited for, too, but no longer than that.
            let disconnect = link.connection.disconnect().timeout(limit);
            result = result.and(disconnect.since(begin).await);
        }
        result
    }
}

/// Commands. They are those of [`Connection`](crate::Connection), where they are documented; what is
/// different is said here. Offsets and lengths are in bytes.
impl Disk {
    /// Reads, as [`Connection::read`](crate::Connection::read).
    pub fn read(&self, offset: u64, length: usize) -> Request<op::Read, Self> {
        Request::new(self, op::Read, offset, length as u64)
    }

    /// Reads into a buffer, as [`Connection::read_into`](crate::Connection::read_into). If the
    /// connection is lost meanwhile, another buffer is returned.
    pub fn read_into(&self, offset: u64, buffer: BytesMut) -> Request<op::ReadInto, Self> {
        Request::into_buffer(self, offset, buffer)
    }

    /// Reads data and holes, as
    /// [`Connection::read_structured`](crate::Connection::read_structured). All pieces come from one
    /// connection, and are returned when the last one has come.
    pub fn read_structured(&self, offset: u64, length: usize) -> Chunks<Self> {
        Chunks::new(self.clone(), offset, length as u64)
    }

    /// Writes, as [`Connection::write`](crate::Connection::write). The data is kept until the write
    /// is answered.
    pub fn write(&self, offset: u64, data: impl Into<Bytes>) -> Request<op::Write, Self> {
        let data = data.into();
        let length = data.len() as u64;
        Request::new(self, op::Write(data), offset, length)
    }

    /// Flushes what was begun before, over whatever connection, as
    /// [`Connection::flush`](crate::Connection::flush).
    pub fn flush(&self) -> Request<op::Flush, Self> {
        Request::new(self, op::Flush, 0, 0)
    }

    /// Discards content, as [`Connection::trim`](crate::Connection::trim).
    pub fn trim(&self, offset: u64, length: u64) -> Request<op::Trim, Self> {
        Request::new(self, op::Trim, offset, length)
    }

    /// Writes zeroes, as [`Connection::write_zeroes`](crate::Connection::write_zeroes).
    pub fn write_zeroes(&self, offset: u64, length: u64) -> Request<op::WriteZeroes, Self> {
        crate::request::write_zeroes(self, offset, length)
    }

    /// Announces reads, as [`Connection::cache`](crate::Connection::cache).
    pub fn cache(&self, offset: u64, length: u64) -> Request<op::Cache, Self> {
        Request::new(self, op::Cache, offset, length)
    }

    /// Asks for extents, as [`Connection::block_status`](crate::Connection::block_status).
    pub fn block_status(&self, offset: u64, length: u64) -> Request<op::Status, Self> {
        crate::request::block_status(self, offset, length)
    }

    /// Returns the extents of a range in one metadata context, as
    /// [`Connection::extents`](crate::Connection::extents).
    pub fn extents(
        &self,
        context: impl Into<String>,
        range: impl RangeBounds<u64>,
    ) -> Extents<Self> {
        Extents::new(self.clone(), context, range)
    }

    /// Returns the extents of a range in all metadata contexts, as
    /// [`Connection::joint_extents`](crate::Connection::joint_extents).
    pub fn joint_extents(&self, range: impl RangeBounds<u64>) -> JointExtents<Self> {
        JointExtents::new(self.clone(), range)
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
