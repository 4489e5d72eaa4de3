//! The disk.

use std::fmt;
use std::future::Future;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;

use super::runtime::{Call, check_process, wait, was_forked};
use super::{Cursor, Items};
use crate::connection::Connector;
use crate::disk::{Disk as AsyncDisk, DiskBuilder};
use crate::error::{Error, Phase, Result};
use crate::export::Export;
use crate::extents::{Extents, JointExtents};
use crate::request::op::Operation;
use crate::request::{Client, Execute, Request};

/// An export that is read and written by ordinary calls, which return when they are done. It survives
/// the loss of its connections as a [`Disk`](AsyncDisk) does, which it is underneath.
///
/// It is a handle that is cheap to clone. Any number of threads can use it, or clones of it, at the
/// same time; they do not wait for each other. The disk has no position:
/// [`read_at`](Self::read_at) and [`write_at`](Self::write_at) take an offset, as those of
/// `std::os::unix::fs::FileExt` do. A [`Cursor`] is a file with a position.
///
/// Offsets and lengths are in bytes. Any range can be read and written, whatever the block size of
/// the export is; see [`unaligned`](Request::unaligned).
///
/// Dropping the last handle disconnects in the background and never waits. It does not flush, and if
/// the process ends at once, the server may not be told: call [`flush`](Self::flush) and
/// [`close`](Self::close). A server that was started by [`Connector::socket_activation`] is left running
/// then, see the [module](crate::blocking#processes).
///
/// # Errors
/// Those of the async requests. All calls can also fail with
/// [`InvalidUse::InRuntime`](crate::InvalidUse::InRuntime) and
/// [`InvalidUse::Forked`](crate::InvalidUse::Forked), where nothing is done: see the
/// [module](crate::blocking).
///
/// # Examples
/// ```
/// # use nbd_client::{Connector, testing};
/// # fn main() -> nbd_client::Result<()> {
/// use nbd_client::blocking::Disk;
///
/// # let server = testing::Server::new(testing::Export::new(1 << 20));
/// # let server = Connector::stream(move || { let s = server.connect(); async move { Ok(s) } });
/// let disk = Disk::open(server)?; // or a URI
/// std::thread::scope(|scope| {
///     for number in 0..4 {
///         let disk = &disk;
///         scope.spawn(move || disk.write_all_at(&[number; 4096], u64::from(number) * 4096));
///     }
/// });
/// let mut block = [0; 4096];
/// disk.read_exact_at(&mut block, 3 * 4096)?;
/// assert_eq!(block, [3; 4096]);
/// disk.flush()?;
/// disk.close()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the last handle closes the disk"]
pub struct Disk<C: Client = AsyncDisk> {
    shared: Arc<Shared<C>>,
    timeout: Option<Duration>,
}

/// What all handles own together.
struct Shared<C: Client> {
    client: C,
    export: Export,
}

impl<C: Client> Drop for Shared<C> {
    fn drop(&mut self) {
        if was_forked() {
            // The last handle of the client is never dropped.
            std::mem::forget(self.client.clone());
        }
    }
}

impl Disk {
    /// Opens the server and export that a URI names, a `SocketAddr`, an
    /// [`Endpoint`](crate::Endpoint), or a [`Connector`], with the default options of a
    /// [`Disk`](AsyncDisk). To get [extents](Self::extents), use [`open_with`](Self::open_with).
    ///
    /// # Errors
    /// If the first connection fails; and if the background thread cannot be started.
    pub fn open<T>(server: T) -> Result<Self>
    where
        T: TryInto<Connector, Error: Into<Error>>,
    {
        Self::open_with(AsyncDisk::builder(), server)
    }

    /// Opens a disk with these options, which say what becomes of calls when a connection is lost.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use nbd_client::blocking::Disk;
    /// use nbd_client::{Changes, Connection, Retry, context};
    ///
    /// let link = Connection::builder()
    ///     .meta_context(context::BASE_ALLOCATION)
    ///     .handshake_timeout(Duration::from_secs(5));
    /// let options = nbd_client::Disk::builder()
    ///     .link(link)
    ///     .changes(Changes::Repeat)
    ///     .retry(Retry::default().outage(Duration::from_secs(600)));
    /// let disk = Disk::open_with(options, "nbd://storage/vm-17")?;
    /// # Ok::<(), nbd_client::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`open`](Self::open). With connections in [`opt_mode`](crate::Builder::opt_mode) it fails,
    /// since there is no export then.
    pub fn open_with<T>(options: DiskBuilder, server: T) -> Result<Self>
    where
        T: TryInto<Connector, Error: Into<Error>>,
    {
        let call = Call {
            name: "Disk::open",
            twin: "Disk::open",
        };
        Self::new(wait(call, || options.open(server))?)
    }

    /// Waits until changes that were begun are answered, and disconnects. It does not flush: see
    /// [`Disk::close`](AsyncDisk::close). Other handles of the disk cannot be used after that.
    ///
    /// # Errors
    /// As [`Disk::close`](AsyncDisk::close). After a [`timeout`](Self::timeout), connections end at
    /// once.
    pub fn close(&self) -> Result<()> {
        let call = Call {
            name: "Disk::close",
            twin: "Disk::close",
        };
        wait(call, || async {
            match self.timeout {
                Some(limit) => self.client().close_within(limit).await,
                None => self.client().close().await,
            }
        })
    }
}

impl<C: Client> Disk<C> {
    /// Makes a disk of an async client, for code that an async program runs in
    /// `tokio::task::spawn_blocking`. The client stays usable. This call works in async code, too.
    ///
    /// The client keeps the runtime that it has. That runtime must be running whenever the disk is
    /// used: calls wait for ever over a connection that was made with `block_on` on a current-thread
    /// runtime, if nothing drives that runtime any more.
    ///
    /// ```
    /// # use nbd_client::{Connection, testing};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use nbd_client::blocking::Disk;
    ///
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// conn.write(510, b"\x55\xaa".as_slice()).await?;
    /// let client = conn.clone();
    /// let signature = tokio::task::spawn_blocking(move || {
    ///     let disk = Disk::new(client)?;
    ///     let mut sector = [0; 512];
    ///     disk.read_exact_at(&mut sector, 0)?;
    ///     Ok::<_, nbd_client::Error>([sector[510], sector[511]])
    /// });
    /// assert_eq!(signature.await??, [0x55, 0xaa]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the client is not ready: a connection that still negotiates has no export yet, even after
    /// [`opt_info`](crate::Connection::opt_info).
    pub fn new(client: C) -> Result<Self> {
        check_process()?;
        let export = client.exported()?;
        Ok(Self {
            shared: Arc::new(Shared { client, export }),
            timeout: None,
        })
    }

    /// Sets the timeout of each call over this handle, and over clones that are made of it later. By
    /// default there is no limit, and a call waits for as long as the disk
    /// [connects again](crate::Retry::outage). A change whose timeout has passed may still be
    /// carried out, and fails with [`Error::OutcomeUnknown`]; of a disk that was made of one
    /// connection, the timeout ends the connection, see [`Request::timeout`].
    ///
    /// A read or write of more than 32 MiB is made of several requests, and the timeout is that of
    /// each.
    ///
    /// ```
    /// # use nbd_client::{Connector, testing};
    /// # fn main() -> nbd_client::Result<()> {
    /// # use nbd_client::blocking::Disk;
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let server = Connector::stream(move || { let s = server.connect(); async move { Ok(s) } });
    /// use std::time::Duration;
    ///
    /// let disk = Disk::open(server)?.timeout(Duration::from_secs(30));
    /// disk.clone().timeout(Duration::from_secs(300)).flush()?;
    /// # Ok(())
    /// # }
    /// ```
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Returns what the server says about the export.
    #[must_use]
    pub fn export(&self) -> &Export {
        &self.shared.export
    }

    /// Returns the size of the export in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.export().size()
    }

    /// Returns what carries out the requests. Async code can use a clone of it at the same time.
    #[must_use]
    pub fn client(&self) -> &C {
        &self.shared.client
    }

    /// Returns a file over the export, with a position of its own. Nothing is sent before it is used.
    #[must_use]
    pub fn cursor(&self) -> Cursor<C> {
        Cursor::new(self.clone())
    }

    /// Returns the extents of a range in one metadata context, in order; `..` is the whole export.
    /// The context must have been asked for when the disk was [opened](Self::open_with).
    ///
    /// ```
    /// # use nbd_client::{Connector, testing};
    /// # fn main() -> nbd_client::Result<()> {
    /// # use nbd_client::blocking::Disk;
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let server = Connector::stream(move || { let s = server.connect(); async move { Ok(s) } });
    /// use nbd_client::{Connection, context};
    ///
    /// let link = Connection::builder().meta_context(context::BASE_ALLOCATION);
    /// let disk = Disk::open_with(nbd_client::Disk::builder().link(link), server)?;
    /// disk.write_all_at(&[1; 65536], 131_072)?;
    /// let mut data = 0;
    /// for extent in disk.extents(context::BASE_ALLOCATION, ..) {
    ///     let extent = extent?;
    ///     if !extent.is_hole() {
    ///         data += extent.length;
    ///     }
    /// }
    /// assert_eq!(data, 65536);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The last item is an error if the range is not inside the export or ends before it starts, the context was not
    /// negotiated, or a request fails.
    pub fn extents(
        &self,
        context: impl Into<String>,
        range: impl RangeBounds<u64>,
    ) -> Items<Extents<C>> {
        let mut extents = Extents::new(self.client().clone(), context, range);
        if let Some(timeout) = self.timeout {
            extents = extents.timeout(timeout);
        }
        self.items(extents)
    }

    /// Returns the extents of a range in all metadata contexts side by side, in order.
    ///
    /// # Errors
    /// As [`extents`](Self::extents).
    pub fn joint_extents(&self, range: impl RangeBounds<u64>) -> Items<JointExtents<C>> {
        let mut extents = JointExtents::new(self.client().clone(), range);
        if let Some(timeout) = self.timeout {
            extents = extents.timeout(timeout);
        }
        self.items(extents)
    }

    /// Returns an iterator over any stream of the async client, such as
    /// [`pieces`](AsyncDisk::pieces), [`allocation`](AsyncDisk::allocation) or
    /// [`dirty_extents`](AsyncDisk::dirty_extents). Its requests have the timeout of the stream.
    ///
    /// ```
    /// # use nbd_client::{Connector, testing};
    /// # fn main() -> nbd_client::Result<()> {
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let server = Connector::stream(move || { let s = server.connect(); async move { Ok(s) } });
    /// use nbd_client::blocking::Disk;
    ///
    /// let disk = Disk::open(server)?;
    /// let mut read = 0;
    /// for data in disk.items(disk.client().read_stream(..)) {
    ///     read += data?.len();
    /// }
    /// assert_eq!(read, 1 << 20);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The last item is an error if the stream ends with one.
    pub fn items<T, S>(&self, stream: S) -> Items<S>
    where
        S: Stream<Item = Result<T>> + Unpin,
    {
        Items::new(stream)
    }

    pub(super) const fn limit(&self) -> Option<Duration> {
        self.timeout
    }

    /// Waits for a request, with the timeout of this handle unless it has one of its own.
    pub(super) fn wait<O: Execute>(
        &self,
        call: Call,
        request: impl FnOnce() -> Request<O, C>,
    ) -> Result<<O as Operation>::Output> {
        wait(call, || {
            let request = request();
            match self.timeout {
                Some(timeout) if request.deadline().is_none() => request.timeout(timeout),
                _ => request,
            }
        })
    }

    /// Waits for something that is no request, with the timeout of this handle.
    pub(super) fn within<F: Future<Output = Result<()>>>(
        &self,
        call: Call,
        begin: impl FnOnce() -> F,
    ) -> Result<()> {
        wait(call, || async {
            let Some(limit) = self.timeout else {
                return begin().await;
            };
            let in_time = tokio::time::timeout(limit, begin()).await;
            in_time.unwrap_or_else(|_| Err(Error::timeout(Phase::Request, limit)))
        })
    }
}

impl<C: Client> Clone for Disk<C> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            timeout: self.timeout,
        }
    }
}

impl<C: Client> fmt::Debug for Disk<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("export", &self.export().name())
            .field("size", &self.size())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
