//! Commands as builders that send when they are awaited.

mod check;
mod chunks;
mod client;
mod disconnect;
mod execute;
mod flight;
pub mod op;
mod pending;
mod range;
mod split;

use std::fmt;
use std::future::IntoFuture;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

pub use chunks::Chunks;
pub use client::Client;
pub(crate) use client::{Started, block_status};
pub use disconnect::Disconnect;
use execute::Execute;
use op::{Cache, Flush, Operation, Read, ReadInto, Status, Trim, Write, WriteZeroes};
pub use pending::Pending;
use range::Range;

use crate::connection::Connection;
use crate::error::Result;
use crate::wire::{Command, CommandFlags};

/// A request that is not sent yet: add flags, then await it.
///
/// A flag exists only where it fits the command. For combinators that need a future, such as
/// `join_all`, call [`into_future`](IntoFuture::into_future), which gives a [`Pending`].
///
/// # Examples
/// ```
/// # use nbd_client::{Connection, testing};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nbd_client::Result<()> {
/// # let server = testing::Server::new(testing::Export::new(1 << 20));
/// # let conn = Connection::new();
/// # conn.connect_stream(server.connect()).await?;
/// use std::future::IntoFuture;
/// use std::time::Duration;
///
/// let write = conn.write(4096, vec![1; 512]).fua(); // nothing is sent yet
/// write.timeout(Duration::from_secs(10)).await?;
///
/// // Side by side:
/// let (block, ()) = tokio::try_join!(conn.read(4096, 512), conn.write_zeroes(0, 4096))?;
/// assert_eq!(&block[..], [1; 512]);
///
/// let blocks = (0..8).map(|i| conn.read(i * 4096, 4096).into_future());
/// let blocks = futures::future::try_join_all(blocks).await?;
/// assert_eq!(blocks.len(), 8);
/// # Ok(())
/// # }
/// ```
#[must_use = "a request is sent only when it is awaited"]
pub struct Request<O: Operation, C = Connection> {
    client: C,
    operation: O,
    range: Range,
    flags: CommandFlags,
    timeout: Option<Duration>,
}

impl<O: Operation, C: Client> Request<O, C> {
    fn new(client: &C, operation: O, offset: u64, length: u64) -> Self {
        Self {
            client: client.clone(),
            operation,
            range: Range { offset, length },
            flags: CommandFlags::empty(),
            timeout: None,
        }
    }

    /// Gives the answer this long, counted from the first poll.
    ///
    /// If it takes longer and the request was sent, the connection is ended: the server may still
    /// carry the request out, and nothing else says when it is safe to go on. If it was still
    /// waiting for room, it fails alone, and nothing was sent. By default there is no limit.
    ///
    /// To stop waiting and keep the connection, drop the future instead, for instance with
    /// `tokio::time::timeout`.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Adds any flags, also such as do not fit the command: for tests of servers. Those that are
    /// not documented for it are refused unless [`Strict::FLAGS`](crate::Strict::FLAGS) is off.
    pub fn flags(self, flags: CommandFlags) -> Self {
        self.flag(flags)
    }

    fn flag(mut self, flag: CommandFlags) -> Self {
        self.flags |= flag;
        self
    }
}

impl<C: Client> Request<Read, C> {
    /// Asks for the data in one chunk (`DF`). The server may refuse with `EOVERFLOW` what is
    /// longer than 64 KiB.
    pub fn dont_fragment(self) -> Self {
        self.flag(CommandFlags::DF)
    }
}

impl<C: Client> Request<ReadInto, C> {
    /// Asks for the data in one chunk (`DF`). The server may refuse with `EOVERFLOW` what is
    /// longer than 64 KiB.
    pub fn dont_fragment(self) -> Self {
        self.flag(CommandFlags::DF)
    }
}

/// Gives commands that change data their `fua` flag.
macro_rules! fua {
    ($($operation:ty),*) => {$(
        impl<C: Client> Request<$operation, C> {
            /// Asks for an answer only when the change is durable (`FUA`). Where the server
            /// does not [offer](crate::Export::can_fua) that, the request is refused, unless
            /// [`emulate_fua`](crate::Builder::emulate_fua) is on.
            pub fn fua(self) -> Self {
                self.flag(CommandFlags::FUA)
            }
        }
    )*};
}

fua!(Write, Trim, WriteZeroes);

impl<C: Client> Request<WriteZeroes, C> {
    /// Asks for the zeroes to be allocated rather than left as a hole (`NO_HOLE`).
    pub fn no_hole(self) -> Self {
        self.flag(CommandFlags::NO_HOLE)
    }

    /// Asks for failure with `ENOTSUP` if this is no faster than writing (`FAST_ZERO`). Of several
    /// messages each waits for the one before it: a refusal of the first leaves all as it was.
    pub fn fast_zero(self) -> Self {
        self.flag(CommandFlags::FAST_ZERO)
    }
}

impl<C: Client> Request<Status, C> {
    /// Asks for one extent for each context (`REQ_ONE`), which then ends inside the range. For
    /// walking through an export this is slow.
    pub fn req_one(self) -> Self {
        self.flag(CommandFlags::REQ_ONE)
    }

    /// Asks for these contexts only; needs extended headers and
    /// [`can_block_status_payload`](crate::Export::can_block_status_payload).
    pub fn contexts<I>(mut self, contexts: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.operation.filter = Some(contexts.into_iter().map(Into::into).collect());
        self
    }
}

impl<O: Execute, C: Client> IntoFuture for Request<O, C> {
    type Output = Result<O::Output>;
    type IntoFuture = Started<O, C>;

    fn into_future(self) -> Self::IntoFuture {
        C::start(self)
    }
}

impl<O: Execute, C> fmt::Debug for Request<O, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("command", &O::COMMAND)
            .field("range", &self.range)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

/// Logs a message that passed the checks, in the span of whoever awaits it. Without a subscriber
/// that wants it, this is one comparison.
fn trace(command: Command, range: Range, flags: CommandFlags) {
    let Range { offset, length } = range;
    tracing::trace!(%command, offset, length, ?flags, "request");
}

/// Commands. Offsets and lengths are in bytes.
///
/// Each call makes a request that is sent when it is awaited. Requests of one connection are
/// answered in any order: one that must see the effect of another waits for it (section
/// "Ordering of messages and writes" of the protocol; the commands are those of its section
/// "Request types"). At most [`max_in_flight`](crate::Builder::max_in_flight) requests are sent at
/// a time; further ones wait their turn. A request that is longer than one message can be is sent
/// as several, a few at a time; if one fails, the request does, and the rest is not sent.
///
/// Before anything is sent, each request is checked: the range must lie inside the export and be
/// aligned to its minimum block size, the command and its flags must be offered, and its length
/// must not be zero. Such a request fails with [`Error::Invalid`](crate::Error::Invalid).
/// A failure on the server is [`Error::Request`](crate::Error::Request). Both leave the
/// connection usable, and so does what a flush says after
/// [an earlier one has failed](Self::clear_flush_error); any other error is the end of it.
///
/// # Cancel safety
///
/// All of them: see [`Pending`].
impl Connection {
    /// Reads `length` bytes at `offset` (`NBD_CMD_READ`).
    ///
    /// Reads longer than [`max_payload`](crate::Export::max_payload) are sent as several. Success
    /// means that the server supplied every byte of exactly this range. There are no short reads.
    ///
    /// The size of an export is what the server says: a read of more than
    /// [`Limits::read`](crate::Limits::read), by default 1 GiB, is refused, and so is one for
    /// which there is no memory. Read in parts, or [into](Self::read_into) a buffer of your own.
    ///
    /// Some servers hang up when they cannot read a disk: see
    /// [`dont_fragment_reads`](crate::Builder::dont_fragment_reads).
    ///
    /// ```
    /// # use nbd_client::{Connection, testing};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// let sector = conn.read(512, 512).await?;
    /// assert_eq!(&sector[..], [0; 512]);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "pread")]
    pub fn read(&self, offset: u64, length: usize) -> Request<Read> {
        Request::new(self, Read, offset, length as u64)
    }

    /// Reads into a buffer, which is given back filled, without another allocation.
    ///
    /// As many bytes are read as the buffer is long, or, if it is empty, as it has capacity for.
    /// On failure the buffer is gone.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # use nbd_client::{Connection, testing};
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// let mut buffer = bytes::BytesMut::with_capacity(4096);
    /// for block in 0..4 {
    ///     buffer = conn.read_into(block * 4096, buffer).await?;
    ///     assert_eq!(buffer.len(), 4096);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "pread")]
    pub fn read_into(&self, offset: u64, buffer: BytesMut) -> Request<ReadInto> {
        let length = if buffer.is_empty() {
            buffer.capacity()
        } else {
            buffer.len()
        };
        Request::new(self, ReadInto(buffer), offset, length as u64)
    }

    /// Reads `length` bytes at `offset`, handing over data and holes as they arrive.
    ///
    /// At most [`max_payload`](crate::Export::max_payload) bytes: this read is never split.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # use nbd_client::{Chunk, Connection, testing};
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// use futures::TryStreamExt;
    ///
    /// let mut chunks = conn.read_structured(0, 65536);
    /// while let Some(chunk) = chunks.try_next().await? {
    ///     match chunk {
    ///         Chunk::Data { offset, data } => println!("{} bytes at {offset}", data.len()),
    ///         Chunk::Hole { offset, length } => println!("{length} zeroes at {offset}"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "pread_structured")]
    pub fn read_structured(&self, offset: u64, length: usize) -> Chunks {
        Chunks::new(self.clone(), offset, length as u64)
    }

    /// Writes `data` at `offset` (`NBD_CMD_WRITE`).
    ///
    /// Writes longer than [`max_payload`](crate::Export::max_payload) are sent as several; if
    /// such a write fails, any part of it may have been written. Success does not mean that the
    /// data is durable: see [`flush`](Self::flush) and `fua`.
    ///
    /// `Bytes`, `Vec<u8>`, `&'static [u8]` and `&'static str` are taken over without a copy.
    #[doc(alias = "pwrite")]
    pub fn write(&self, offset: u64, data: impl Into<Bytes>) -> Request<Write> {
        let data = data.into();
        let length = data.len() as u64;
        Request::new(self, Write(data), offset, length)
    }

    /// Makes durable what was written, trimmed and zeroed before (`NBD_CMD_FLUSH`).
    ///
    /// The protocol has a flush cover only what was answered before it was sent. So this one first
    /// waits until all changes are answered that were begun on this connection before it was first
    /// polled: by whatever task, waiting for room, or abandoned by their callers. Changes that
    /// come later pass it, and it does not wait for them. A change that fails does not keep the
    /// flush from being sent; whoever began it is told. Of a change that is sent as several
    /// messages, the flush waits for those messages that have been made by then; a flush that
    /// begins after the change has succeeded covers all of it.
    ///
    /// If an earlier flush of this connection has failed, this one fails with
    /// [`Error::DurabilityUnknown`](crate::Error::DurabilityUnknown) even if the server says that
    /// it succeeded, until [`clear_flush_error`](Self::clear_flush_error) is called.
    ///
    /// Changes made over other connections are covered only if the server
    /// [says so](crate::Export::can_multi_conn), and if they were answered before this was called.
    pub fn flush(&self) -> Request<Flush> {
        Request::new(self, Flush, 0, 0)
    }

    /// Discards `length` bytes at `offset` (`NBD_CMD_TRIM`). Their content is undefined until
    /// they are written again. A long one is split as [`write_zeroes`](Self::write_zeroes) is.
    #[doc(alias = "discard")]
    pub fn trim(&self, offset: u64, length: u64) -> Request<Trim> {
        Request::new(self, Trim, offset, length)
    }

    /// Writes `length` zeroes at `offset` without sending them (`NBD_CMD_WRITE_ZEROES`). The
    /// server may leave a hole, unless told `no_hole`.
    ///
    /// Without [extended headers](crate::Protocol::extended_headers), what is longer than 4 GiB − 1
    /// is sent as several messages; if such a request fails, any part of it may have been done.
    #[doc(alias = "zero")]
    pub fn write_zeroes(&self, offset: u64, length: u64) -> Request<WriteZeroes> {
        Request::new(self, WriteZeroes, offset, length)
    }

    /// Tells the server that `length` bytes at `offset` will be read soon (`NBD_CMD_CACHE`).
    ///
    /// What is longer than 32 MiB, or than the server's
    /// [maximum](crate::BlockSize::maximum) if that is less, is sent as several messages.
    #[doc(alias = "prefetch")]
    pub fn cache(&self, offset: u64, length: u64) -> Request<Cache> {
        Request::new(self, Cache, offset, length)
    }

    /// Asks for the extents of `length` bytes at `offset` in each metadata context that was
    /// negotiated (`NBD_CMD_BLOCK_STATUS`).
    ///
    /// The answer may cover less than was asked for, and in each context another part; the last
    /// extent may go beyond, but not past the end of the export. What takes more memory than its
    /// share of [`max_in_flight_bytes`](crate::Builder::max_in_flight_bytes) is cut off. See
    /// [`extents`](Self::extents) for all of a longer range.
    #[doc(alias = "block_status_64")]
    #[doc(alias = "extents")]
    pub fn block_status(&self, offset: u64, length: u64) -> Request<Status> {
        block_status(self, offset, length)
    }

    /// Ends the connection: waits until what is in flight is answered, says goodbye
    /// (`NBD_CMD_DISC`), and waits until the server has closed too and, if this connection runs
    /// it, has exited. In option mode it aborts the negotiation. It does not flush: do that
    /// before. Whether it was necessary shows in
    /// [`has_unflushed_writes`](Self::has_unflushed_writes).
    ///
    /// From the first poll on no further requests are taken. Doing it twice is no error; that the
    /// server has gone before is one, see [`Disconnect`].
    #[doc(alias = "shutdown")]
    pub fn disconnect(&self) -> Disconnect {
        Disconnect::new(self.clone())
    }
}
