//! Commands as builders, which send when they are awaited.

mod bounds;
mod check;
mod chunks;
mod client;
mod commands;
mod disconnect;
mod execute;
mod flight;
mod health;
pub mod op;
mod pending;
mod range;
mod split;
mod unaligned;
mod zeroes;

use std::fmt;
use std::future::IntoFuture;
use std::time::Duration;

pub(crate) use bounds::{Bounds, bounds, resolve};
pub use chunks::Chunks;
pub use client::Client;
pub(crate) use client::sealed;
#[cfg(feature = "blocking")]
pub(crate) use client::trim;
pub(crate) use client::{Started, block_status, flush, read, write, write_zeroes};
pub use disconnect::Disconnect;
pub(crate) use execute::{Effect, Execute};
pub(crate) use health::ping;
use op::{Operation, Read, ReadInto, Status, Trim, Write, WriteZeroes};
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
    pub(crate) fn new(client: &C, operation: O, offset: u64, length: u64) -> Self {
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
    /// default the limit is [`request_timeout`](crate::Builder::request_timeout), and without that
    /// there is none; `Duration::MAX` lifts it.
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

    /// What carries the request out.
    pub(crate) const fn client(&self) -> &C {
        &self.client
    }

    /// The time within which it must be answered, counted from the first poll.
    pub(crate) const fn deadline(&self) -> Option<Duration> {
        self.timeout
    }

    /// Offset and length.
    pub(crate) const fn range(&self) -> (u64, u64) {
        (self.range.offset, self.range.length)
    }

    /// Whether the range need not consist of whole blocks.
    pub(crate) const fn is_unaligned(&self) -> bool {
        self.unaligned
    }

    /// Operation, offset, length and flags.
    pub(crate) fn into_parts(self) -> (O, u64, u64, CommandFlags) {
        let Range { offset, length } = self.range;
        (self.operation, offset, length, self.flags)
    }

    /// Makes a request of what another one consisted of.
    pub(crate) fn from_parts(
        client: &C,
        operation: O,
        offset: u64,
        length: u64,
        flags: CommandFlags,
        unaligned: bool,
    ) -> Self {
        let mut request = Self::new(client, operation, offset, length);
        (request.flags, request.unaligned) = (flags, unaligned);
        request
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
    #[doc(alias = "LIBNBD_CMD_FLAG_DF")]
    pub fn dont_fragment(self) -> Self {
        self.flag(CommandFlags::DF)
    }
}

impl<C: Client> Request<ReadInto, C> {
    pub(crate) fn into_buffer(client: &C, offset: u64, buffer: bytes::BytesMut) -> Self {
        let length = match buffer.is_empty() {
            true => buffer.capacity(),
            false => buffer.len(),
        };
        Self::new(client, ReadInto(buffer), offset, length as u64)
    }

    /// Asks for the data in one chunk (`DF`). The server may refuse with `EOVERFLOW` what is
    /// longer than 64 KiB.
    #[doc(alias = "LIBNBD_CMD_FLAG_DF")]
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
            #[doc(alias = "LIBNBD_CMD_FLAG_FUA")]
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
    #[doc(alias = "LIBNBD_CMD_FLAG_NO_HOLE")]
    pub fn no_hole(self) -> Self {
        self.flag(CommandFlags::NO_HOLE)
    }

    /// Asks the server to fail with `ENOTSUP` if zeroing is not faster than writing (`FAST_ZERO`).
    /// If the request is sent as several messages, each waits for the one before it, so that a
    /// refusal of the first one leaves the data unchanged.
    #[doc(alias = "LIBNBD_CMD_FLAG_FAST_ZERO")]
    pub fn fast_zero(self) -> Self {
        self.flag(CommandFlags::FAST_ZERO)
    }

    /// Writes zeroes as data where the server does not offer
    /// [`write_zeroes`](crate::Export::can_zero); with [`fast_zero`](Self::fast_zero), also where it
    /// does not offer that, or refuses with `ENOTSUP`.
    ///
    /// The zeroes are sent in messages of at most 256 KiB, a few at a time, which all share one buffer.
    /// Like other requests that are sent as several messages, one that fails may have been carried
    /// out in part.
    ///
    /// # Examples
    /// ```
    /// # use nbd_client::{Connection, testing, wire::TransmissionFlags};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// let disk = testing::Export::new(1 << 20).flags(TransmissionFlags::HAS_FLAGS);
    /// # let server = testing::Server::new(disk);
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// assert!(!conn.export()?.can_zero());
    /// conn.write(0, vec![1; 1 << 20]).await?;
    /// conn.write_zeroes(4096, 65536).or_write().await?;
    /// assert_eq!(&conn.read(4096, 65536).await?[..], vec![0; 65536]);
    /// # Ok(())
    /// # }
    /// ```
    pub const fn or_write(mut self) -> Self {
        self.operation.or_write = true;
        self
    }
}

impl<C: Client> Request<Status, C> {
    /// Asks for one extent for each context (`REQ_ONE`), which ends inside the range. This is slow
    /// for walking through an export.
    #[doc(alias = "LIBNBD_CMD_FLAG_REQ_ONE")]
    pub fn req_one(self) -> Self {
        self.flag(CommandFlags::REQ_ONE)
    }

    /// Asks for these contexts only. This needs extended headers and
    /// [`can_block_status_payload`](crate::Export::can_block_status_payload).
    #[doc(alias = "nbd_block_status_filter")]
    #[doc(alias = "nbd_aio_block_status_filter")]
    pub fn contexts<I>(mut self, contexts: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.operation.filter = Some(contexts.into_iter().map(Into::into).collect());
        self
    }
}

impl<O: Execute, C: Client> Request<O, C> {
    /// Queues the request now, and returns the future of its answer, which can be awaited later.
    ///
    /// Without this, a request is queued when its future is polled for the first time. If there is
    /// no room among the requests in flight, the request waits in line, and is sent when it is its
    /// turn; nobody need poll for that. A [`timeout`](Self::timeout) counts from this call on, and is
    /// noticed when the future is polled.
    ///
    /// A request that is sent as several messages begins now, but all messages after the first ones
    /// are sent only while the future is polled.
    ///
    /// # Errors
    /// The future has them, including those of requests that fail a check.
    ///
    /// # Cancel safety
    /// Dropping the future gives the request up, as for any other [`Pending`]: what still waits in
    /// line is not sent.
    ///
    /// # Examples
    /// ```
    /// # use nbd_client::{Connection, testing};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// // The next block is on its way while this one is worked on.
    /// let mut next = conn.read(0, 4096).submit();
    /// for block in 1..=8 {
    ///     let data = next.await?;
    ///     next = conn.read(block * 4096, 4096).submit();
    ///     assert_eq!(data.len(), 4096);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "nbd_aio_pread")]
    #[must_use = "the request is given up when the future is dropped"]
    pub fn submit(self) -> Started<O, C> {
        C::submit(self)
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
