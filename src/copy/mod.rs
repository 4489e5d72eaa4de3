//! Copies of whole disks: sparse, parallel, resumable.

mod checkpoint;
mod cut;
mod engine;
mod feed;
mod file;
mod hash;
mod nbd;
mod open;
mod order;
mod place;
mod plan;
mod progress;
mod rate;
mod report;
mod run;
mod side;
mod state;
mod survey;
mod verify;
mod width;
mod work;
mod zeroes;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;
use std::time::Duration;

pub use checkpoint::Checkpoint;
pub use hash::{BlockHash, Digest};
pub use place::{Destination, Source};
pub use progress::{CopyPhase, CopyProgress, Progress};
pub use rate::RateLimit;
pub use report::Copied;

use crate::disk::Retry;
use crate::error::Result;

/// Copies a disk to another: begins with the defaults, and is awaited.
///
/// Each side is a [`Connection`](crate::Connection), a [`Disk`](crate::Disk), the address of a server
/// as text, [`Uri`](crate::Uri) or [`Connector`](crate::Connector), a file or block device, or a
/// stream; see [`Source`] and [`Destination`]. Where an address is given, the copy connects by
/// itself, and again when a connection is lost.
///
/// Success means that the destination has every byte of the source, and keeps it: it was flushed, and
/// a file was synced. Where the source is known to be zero, nothing is read; where the destination is
/// known to be zero, nothing is written.
///
/// ```
/// # use nbd_client::{Connection, testing};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nbd_client::Result<()> {
/// # let export = testing::Export::new(1 << 20);
/// # export.write(65536, vec![1; 4096]);
/// # let server = testing::Server::new(export);
/// # let conn = Connection::builder().meta_context("base:allocation").build();
/// # conn.connect_stream(server.connect()).await?;
/// # let directory = tempfile::tempdir().unwrap();
/// # let file = directory.path().join("disk.img");
/// use nbd_client::{Destination, copy};
///
/// # let address = conn;
/// // let address = "nbd://storage/vm-17";
/// let copied = copy(address, Destination::file(&file)).await?;
/// println!("{} bytes of data, {} of zeroes", copied.data, copied.zeroes);
/// # assert_eq!(copied.data, 4096);
/// # assert_eq!(std::fs::metadata(&file).unwrap().len(), 1 << 20);
/// # Ok(())
/// # }
/// ```
///
/// # What is done about faults
///
/// A server that is lost is connected to again, if the side is a disk or an address; then what was in
/// flight is repeated, and what may be lost with the server is copied again before the end. If the
/// source cannot say where it is zero, that part is read. A read that fails ends the copy, unless it
/// is to [`salvage`](Copying::salvage) what it can.
///
/// # Errors
///
/// [`Error::Copy`](crate::Error::Copy), which names the side, the offset and how much was copied.
///
/// # Cancel safety
///
/// Dropping the future stops the copy at its next step; the destination is incomplete. With
/// [`cancel_on`](Copying::cancel_on) it ends in order, with a last [checkpoint](Copying::checkpoints).
pub fn copy(source: impl Into<Source>, destination: impl Into<Destination>) -> Copying {
    let progress = progress::Publisher::default();
    Copying {
        source: source.into(),
        destination: destination.into(),
        settings: Settings::default(),
        checkpoint: None,
        keep: None,
        cancel: None,
        progress,
    }
}

/// The longest delay before connecting again, unless the caller has set it.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// How to copy.
#[derive(Clone, Debug)]
struct Settings {
    request_size: Option<u64>,
    requests: usize,
    connections: usize,
    memory: u64,
    asks_extents: bool,
    sparse: Option<u64>,
    is_allocated: bool,
    is_zero: bool,
    flushes: bool,
    only: Option<String>,
    salvages: bool,
    verifies: bool,
    retry: Retry,
    stall: Option<Duration>,
    rate: Option<RateLimit>,
    hash: Option<BlockHash>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            request_size: None,
            requests: 16,
            connections: 4,
            memory: 64 << 20,
            asks_extents: true,
            sparse: Some(4096),
            is_allocated: false,
            is_zero: false,
            flushes: true,
            only: None,
            salvages: false,
            verifies: false,
            retry: Retry::default().most(LONGEST_DELAY),
            stall: None,
            rate: None,
            hash: None,
        }
    }
}

/// Keeps a checkpoint.
type Keep = Box<dyn FnMut(&Checkpoint) -> io::Result<()> + Send>;

/// Ends when the copy is to be cancelled.
type Cancel = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A copy that has not begun: set it up, then await it. See [`copy()`].
#[must_use = "nothing is copied until it is awaited"]
pub struct Copying {
    source: Source,
    destination: Destination,
    settings: Settings,
    checkpoint: Option<Checkpoint>,
    keep: Option<Keep>,
    cancel: Option<Cancel>,
    progress: progress::Publisher,
}

impl Copying {
    /// Sets the length of a request in bytes, by default 256 KiB, and 1 MiB once answers take long: if
    /// none comes within 15 ms, or later ones take 50 ms. It is at least the preferred block size of
    /// both sides, and at most what both take.
    pub fn request_size(mut self, bytes: usize) -> Self {
        self.settings.request_size = Some(bytes.max(1) as u64);
        self
    }

    /// Sets how many requests are in flight for each connection, by default 16: no common server
    /// works on more.
    pub fn requests(mut self, most: usize) -> Self {
        self.settings.requests = most.max(1);
        self
    }

    /// Sets how many connections are made at most to a server that is given as an address, by default
    /// 4; as long as answers do not take long, there are no more than processors. The server must allow it, see [`DiskBuilder::connections`](crate::DiskBuilder::connections).
    pub fn connections(mut self, most: usize) -> Self {
        self.settings.connections = most.max(1);
        self
    }

    /// Sets how many bytes of data are held at a time, by default 64 MiB; at least one request.
    pub const fn memory(mut self, bytes: u64) -> Self {
        self.settings.memory = bytes;
        self
    }

    /// Sets whether the source is asked where it is zero, by default yes. Without it everything is
    /// read, which helps where a server gives wrong or very slow answers.
    pub const fn extents(mut self, ask: bool) -> Self {
        self.settings.asks_extents = ask;
        self
    }

    /// Sets the length in bytes of the blocks that are looked at whether they are zero, by default
    /// 4096, and at least the preferred block size of the destination. With `None`, data is written as
    /// it was read.
    pub fn sparse(mut self, block: impl Into<Option<u64>>) -> Self {
        self.settings.sparse = block.into().filter(|block| *block > 0);
        self
    }

    /// Sets whether the destination is to have room for all bytes, zeroes too; by default its zeroes
    /// take no room where it can do that.
    pub const fn allocated(mut self, allocated: bool) -> Self {
        self.settings.is_allocated = allocated;
        self
    }

    /// Says that the destination is zero now, so that zeroes need not be written. If that is not true,
    /// the result is wrong.
    pub const fn destination_is_zero(mut self, is_zero: bool) -> Self {
        self.settings.is_zero = is_zero;
        self
    }

    /// Sets whether the destination is flushed, and synced if it is a file; by default yes. Without it,
    /// success does not mean that the copy survives a loss of power or of the server.
    pub const fn flush(mut self, flush: bool) -> Self {
        self.settings.flushes = flush;
        self
    }

    /// Copies only what is dirty in a metadata context of the source, such as
    /// [`qemu:dirty-bitmap:NAME`](crate::context::qemu_dirty_bitmap), and leaves the rest of the
    /// destination as it is, but for the rest of a block of the destination that is dirty in part. What
    /// is dirty and zero is written as zeroes.
    ///
    /// A source that is a connection or a disk must have negotiated the context.
    pub fn only(mut self, context: impl Into<String>) -> Self {
        self.settings.only = Some(context.into());
        self
    }

    /// Sets whether parts of the source that cannot be read become zeroes in the destination, by
    /// default no. [`Copied::salvaged`] lists them.
    pub const fn salvage(mut self, salvage: bool) -> Self {
        self.settings.salvages = salvage;
        self
    }

    /// Sets whether both sides are read again at the end and compared, by default no. Where the source
    /// says that it is zero, only the destination is read.
    pub const fn verify(mut self, verify: bool) -> Self {
        self.settings.verifies = verify;
        self
    }

    /// Hashes what is copied; [`Copied::hash`] has the result. It needs the whole disk: a copy that
    /// [goes on](Self::resume), or copies [only](Self::only) a part, has none.
    pub fn hash(mut self, hash: BlockHash) -> Self {
        self.settings.hash = Some(hash);
        self
    }

    /// Sets when to connect again to a server that is given as an address. The default is that of
    /// [`Retry`], but with delays of at most one second: a server that is never up for long has to be
    /// found in time to flush what it was sent. A server that is silent is not lost, see
    /// [`stall_timeout`](Self::stall_timeout).
    pub fn retry(mut self, retry: Retry) -> Self {
        self.settings.retry = retry;
        self
    }

    /// Sets how long a server that is given as an address may be silent while it owes replies, by
    /// default as long as it likes, since zeroing a large range may take minutes. After that it is
    /// connected to again, as if it were lost, and [`retry`](Self::retry) says when to give up. See
    /// [`Builder::stall_timeout`](crate::Builder::stall_timeout).
    pub const fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.settings.stall = Some(timeout);
        self
    }

    /// Limits the rate at which data is read.
    pub fn rate(mut self, limit: &RateLimit) -> Self {
        self.settings.rate = Some(limit.clone());
        self
    }

    /// Goes on with a copy that was interrupted: what the checkpoint says is kept is not copied again.
    ///
    /// Sizes must be as they were, and a few places that were copied, as data or as zeroes, are read on
    /// both sides and compared. The source must not have been written since: nothing else can tell.
    /// [`Checkpoint`] has an example that goes on in another process.
    pub fn resume(mut self, checkpoint: Checkpoint) -> Self {
        self.checkpoint = Some(checkpoint);
        self
    }

    /// Calls `keep` with what is durable so far: every 30 seconds, every 4 GiB, and at the end, whether
    /// the copy succeeds, fails or is [cancelled](Self::cancel_on), unless nothing more became durable
    /// since the last time. An error of `keep` ends the copy. It
    /// should be quick; it may write a small file. For another process, write the checkpoint with the
    /// feature `serde` to a new file, and rename that, as the example of [`Checkpoint`] does.
    ///
    /// ```
    /// # use nbd_client::{Connection, testing};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let source = Connection::new();
    /// # source.connect_stream(server.connect()).await?;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let disk = directory.path().join("disk.img");
    /// use std::sync::{Arc, Mutex};
    /// use nbd_client::{Destination, copy};
    ///
    /// let last = Arc::new(Mutex::new(None));
    /// let keeper = last.clone();
    /// let copying = copy(&source, Destination::file(&disk)).checkpoints(move |checkpoint| {
    ///     *keeper.lock().unwrap() = Some(checkpoint.clone());
    ///     Ok(())
    /// });
    /// copying.await?;
    /// let last = last.lock().unwrap().take();
    /// assert_eq!(last.unwrap().done(), 1 << 20);
    /// # Ok(())
    /// # }
    /// ```
    pub fn checkpoints(
        mut self,
        keep: impl FnMut(&Checkpoint) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.keep = Some(Box::new(keep));
        self
    }

    /// Ends the copy when a future ends, such as that of a signal, with
    /// [`CopyFault::Cancelled`](crate::CopyFault::Cancelled). What is in flight is finished before, unless
    /// that takes longer than 10 s. If [checkpoints](Self::checkpoints) are kept, it is flushed, and a last
    /// one is kept.
    pub fn cancel_on(mut self, cancel: impl Future<Output = ()> + Send + 'static) -> Self {
        self.cancel = Some(Box::pin(cancel));
        self
    }

    /// Returns how far the copy is, now and later.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.subscribe()
    }
}

impl IntoFuture for Copying {
    type Output = Result<Copied>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(run::run(self))
    }
}

impl fmt::Debug for Copying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copying")
            .field("source", &self.source)
            .field("destination", &self.destination)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
