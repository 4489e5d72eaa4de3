//! Commands as builders, which send when they are awaited.

mod bounds;
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
mod unaligned;

use std::fmt;
use std::future::IntoFuture;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

pub(crate) use bounds::{Bounds, bounds, resolve};
pub use chunks::Chunks;
pub use client::Client;
pub(crate) use client::{Started, block_status, read};
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
/// Each command has the flags that the protocol documents for it. For combinators that need a future,
/// such as `join_all`, call [`into_future`](IntoFuture::into_future), which returns a [`Pending`].
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
    /// Whether the range need not consist of whole blocks.
    unaligned: bool,
    timeout: Option<Duration>,
}

impl<O: Operation, C: Client> Request<O, C> {
    fn new(client: &C, operation: O, offset: u64, length: u64) -> Self {
        Self {
            client: client.clone(),
            operation,
            range: Range { offset, length },
            flags: CommandFlags::empty(),
            unaligned: false,
            timeout: None,
        }
    }

    /// Fails the request if it is not answered within `timeout`, counted from the first poll. By
    /// default there is no limit.
    ///
    /// If the request was sent, this ends the connection: the server may still carry the request
    /// out, and nothing else says when it is safe to go on. If the request was still waiting for
    /// room, it fails alone, and nothing was sent.
    ///
    /// To stop waiting and keep the connection, drop the future instead, for instance with
    /// `tokio::time::timeout`.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Adds any flags, for tests of servers. Flags that are not documented for the command are
    /// refused unless [`Strict::FLAGS`](crate::Strict::FLAGS) is off.
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

/// Implements `fua` for commands that change data.
macro_rules! fua {
    ($($operation:ty),*) => {$(
        impl<C: Client> Request<$operation, C> {
            /// Asks the server to answer only when the change is durable (`FUA`). If the server does
            /// not [offer](crate::Export::can_fua) this, the request is refused, unless
            /// [`emulate_fua`](crate::Builder::emulate_fua) is on.
            pub fn fua(self) -> Self {
                self.flag(CommandFlags::FUA)
            }
        }
    )*};
}

fua!(Write, Trim, WriteZeroes);

/// Implements `unaligned` for reads.
macro_rules! unaligned_read {
    ($($operation:ty),*) => {$(
        impl<C: Client> Request<$operation, C> {
            /// Reads any range: the request is made for the whole blocks around it, and the data is
            /// cut.
            ///
            /// Without this, offset and length must be multiples of the server's
            /// [minimum block size](crate::BlockSize::minimum). It costs nothing where they are.
            pub const fn unaligned(mut self) -> Self {
                self.unaligned = true;
                self
            }
        }
    )*};
}

unaligned_read!(Read, ReadInto);

/// Implements `unaligned` for changes.
macro_rules! unaligned_change {
    ($($operation:ty),*) => {$(
        impl<C: Client> Request<$operation, C> {
            /// Changes any range: of a block that the range covers in part, the whole block is read,
            /// changed, and written.
            ///
            /// Without this, offset and length must be multiples of the server's
            /// [minimum block size](crate::BlockSize::minimum). It costs nothing where they are.
            ///
            /// Between the read and the answer to the write, no other change of that block by this
            /// connection is under way, whichever handle or task makes it: changes of the block wait
            /// for each other, so none is lost. Whoever changes the block over another connection
            /// must be kept away by other means; a change of theirs can be undone.
            ///
            /// If the future is dropped before a block is written, that block is not written. From
            /// then on, it is written, as other changes are, and later changes of it wait.
            ///
            /// # Errors
            /// A failure of the server is [`Error::Request`](crate::Error::Request) of the command
            /// that failed, which may be the read. Like other requests that are sent as several
            /// messages, a change that fails may have been carried out in part.
            ///
            /// # Examples
            /// ```
            /// # use nbd_client::{Connection, testing};
            /// # #[tokio::main(flavor = "current_thread")]
            /// # async fn main() -> nbd_client::Result<()> {
            /// let disk = testing::Export::new(1 << 20).block_sizes(4096, 4096, 1 << 20);
            /// # let server = testing::Server::new(disk);
            /// # let conn = Connection::new();
            /// # conn.connect_stream(server.connect()).await?;
            /// assert!(conn.write(1000, "hello").await.is_err());
            ///
            /// // Two neighbours at once, in one block:
            /// let hello = conn.write(1000, "hello").unaligned();
            /// let world = conn.write(1005, " world").unaligned();
            /// tokio::try_join!(hello, world)?;
            /// conn.write_zeroes(1002, 2).unaligned().await?;
            /// assert_eq!(&conn.read(1000, 11).unaligned().await?[..], b"he\0\0o world");
            /// # Ok(())
            /// # }
            /// ```
            pub const fn unaligned(mut self) -> Self {
                self.unaligned = true;
                self
            }
        }
    )*};
}

unaligned_change!(Write, WriteZeroes);

impl<C: Client> Request<WriteZeroes, C> {
    /// Asks the server to allocate the zeroes rather than leave a hole (`NO_HOLE`).
    pub fn no_hole(self) -> Self {
        self.flag(CommandFlags::NO_HOLE)
    }

    /// Asks the server to fail with `ENOTSUP` if zeroing is not faster than writing (`FAST_ZERO`).
    /// If the request is sent as several messages, each waits for the one before it, so that a
    /// refusal of the first one leaves the data unchanged.
    pub fn fast_zero(self) -> Self {
        self.flag(CommandFlags::FAST_ZERO)
    }
}

impl<C: Client> Request<Status, C> {
    /// Asks for one extent for each context (`REQ_ONE`), which ends inside the range. This is slow
    /// for walking through an export.
    pub fn req_one(self) -> Self {
        self.flag(CommandFlags::REQ_ONE)
    }

    /// Asks for these contexts only. This needs extended headers and
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

/// Logs a message that passed the checks, in the span of the task that awaits it. Without a
/// subscriber that wants it, this costs one comparison.
fn trace(command: Command, range: Range, flags: CommandFlags) {
    let Range { offset, length } = range;
    tracing::trace!(%command, offset, length, ?flags, "request");
}

/// Commands. Offsets and lengths are in bytes.
///
/// Each call makes a request, which is sent when it is awaited. Requests of one connection are
/// answered in any order: a request that must see the effect of another one must be made after the
/// answer to that one (section "Ordering of messages and writes" of the protocol; the commands are
/// described in "Request types"). At most [`max_in_flight`](crate::Builder::max_in_flight) requests
/// are sent at a time; further ones wait their turn. A request that is longer than one message can
/// be is sent as several messages, a few at a time. If one message fails, the request fails, and
/// the rest is not sent.
///
/// Each request is checked before anything is sent: the range must lie inside the export and be
/// aligned to its minimum block size, unless the request is [`unaligned`](Request::unaligned), and
/// the server must offer the command and its flags. A request for an empty range that passes the
/// checks succeeds at once, and nothing is sent; its offset is at most the size of the export, and
/// need not be aligned. Only a block status of an empty range is refused, since it would have no
/// answer. A request that fails a check fails with [`Error::Invalid`](crate::Error::Invalid). A
/// failure on the server is [`Error::Request`](crate::Error::Request). Both leave the connection
/// usable, and so does the error of a flush after
/// [an earlier one has failed](Self::clear_flush_error). Every other error ends the connection.
///
/// # Cancel safety
///
/// All requests are cancel safe: see [`Pending`].
impl Connection {
    /// Reads `length` bytes at `offset` (`NBD_CMD_READ`).
    ///
    /// Reads longer than [`max_payload`](crate::Export::max_payload) are sent as several messages.
    /// Success means that the server supplied every byte of exactly this range. There are no short
    /// reads.
    ///
    /// The server decides how large an export is. A read of more than
    /// [`Limits::read`](crate::Limits::read), by default 1 GiB, is therefore refused, and so is a
    /// read for which there is no memory. Read in parts, or [into](Self::read_into) a buffer of your
    /// own.
    ///
    /// Some servers close the connection when they cannot read a disk: see
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

    /// Reads into a buffer without another allocation, and returns the filled buffer.
    ///
    /// The number of bytes to read is the length of the buffer, or its capacity if it is empty. If
    /// the read fails, the buffer is dropped.
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

    /// Reads `length` bytes at `offset`, and returns data and holes as they arrive.
    ///
    /// The length is at most [`max_payload`](crate::Export::max_payload): this read is never split.
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
    /// Writes longer than [`max_payload`](crate::Export::max_payload) are sent as several messages;
    /// if such a write fails, any part of it may have been written. Success does not mean that the
    /// data is durable: see [`flush`](Self::flush) and `fua`.
    ///
    /// `Bytes`, `Vec<u8>`, `&'static [u8]` and `&'static str` are not copied.
    #[doc(alias = "pwrite")]
    pub fn write(&self, offset: u64, data: impl Into<Bytes>) -> Request<Write> {
        let data = data.into();
        let length = data.len() as u64;
        Request::new(self, Write(data), offset, length)
    }

    /// Makes earlier writes, trims and zeroes durable (`NBD_CMD_FLUSH`).
    ///
    /// In the protocol, a flush covers only changes that were answered before it was sent. This
    /// request therefore first waits until all changes are answered that were begun on this
    /// connection before it was first polled: by any task, including changes that wait for room or
    /// were abandoned by their callers. Later changes do not wait for it, and it does not wait for
    /// them. A change that fails does not prevent the flush; its own caller gets the error. If a
    /// change is sent as several messages, the flush waits for the messages that were made before
    /// it; a flush that begins after the change has succeeded covers all of the change.
    ///
    /// If an earlier flush of this connection has failed, this one fails with
    /// [`Error::DurabilityUnknown`](crate::Error::DurabilityUnknown) even if the server reports
    /// success, until [`clear_flush_error`](Self::clear_flush_error) is called.
    ///
    /// Changes made over other connections are covered only if the server
    /// [says so](crate::Export::can_multi_conn) and they were answered before this call.
    pub fn flush(&self) -> Request<Flush> {
        Request::new(self, Flush, 0, 0)
    }

    /// Discards `length` bytes at `offset` (`NBD_CMD_TRIM`). Their content is undefined until they
    /// are written again. Long requests are split as those of [`write_zeroes`](Self::write_zeroes)
    /// are.
    #[doc(alias = "discard")]
    pub fn trim(&self, offset: u64, length: u64) -> Request<Trim> {
        Request::new(self, Trim, offset, length)
    }

    /// Writes `length` zeroes at `offset` without sending them (`NBD_CMD_WRITE_ZEROES`). The server
    /// may leave a hole, unless `no_hole` is set.
    ///
    /// Without [extended headers](crate::Protocol::extended_headers), a request of 4 GiB or more is
    /// sent as several messages; if such a request fails, any part of it may have been zeroed.
    #[doc(alias = "zero")]
    pub fn write_zeroes(&self, offset: u64, length: u64) -> Request<WriteZeroes> {
        Request::new(self, WriteZeroes, offset, length)
    }

    /// Tells the server that `length` bytes at `offset` will be read soon (`NBD_CMD_CACHE`).
    ///
    /// A request longer than 32 MiB, or than the server's [maximum](crate::BlockSize::maximum) if
    /// that is less, is sent as several messages.
    #[doc(alias = "prefetch")]
    pub fn cache(&self, offset: u64, length: u64) -> Request<Cache> {
        Request::new(self, Cache, offset, length)
    }

    /// Asks for the extents of `length` bytes at `offset` in each negotiated metadata context
    /// (`NBD_CMD_BLOCK_STATUS`).
    ///
    /// The answer may cover less than the range, and a different part of it in each context. The
    /// last extent may end after the range, but not after the end of the export. Extents that take
    /// more memory than their share of
    /// [`max_in_flight_bytes`](crate::Builder::max_in_flight_bytes) are cut off. To get all extents
    /// of a range, use [`extents`](Self::extents).
    #[doc(alias = "block_status_64")]
    #[doc(alias = "extents")]
    pub fn block_status(&self, offset: u64, length: u64) -> Request<Status> {
        block_status(self, offset, length)
    }

    /// Ends the connection: waits until requests in flight are answered, sends `NBD_CMD_DISC`, and
    /// waits until the server has closed the connection, too, and has exited if this connection
    /// runs it. In option mode it aborts the negotiation.
    ///
    /// It does not flush: call [`flush`](Self::flush) before.
    /// [`has_unflushed_writes`](Self::has_unflushed_writes) says whether a flush is missing.
    ///
    /// From the first poll on, no further requests are taken. Disconnecting twice is no error. If
    /// the server has gone before, that is an error, see [`Disconnect`].
    #[doc(alias = "shutdown")]
    pub fn disconnect(&self) -> Disconnect {
        Disconnect::new(self.clone())
    }
}
