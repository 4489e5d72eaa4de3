//! Commands as builders, which send when they are awaited.

mod bounds;
mod check;
mod chunks;
mod client;
mod commands;
mod disconnect;
mod execute;
mod flags;
mod flight;
mod health;
mod hold;
pub mod op;
mod pending;
mod range;
mod split;
mod unaligned;
mod zeroes;

use std::fmt;
use std::future::IntoFuture;
use std::time::Duration;

pub(crate) use bounds::{Bounds, bounds, in_order, resolve};
pub use chunks::Chunks;
pub use client::Client;
pub(crate) use client::sealed;
pub(crate) use client::{Started, block_status, flush, read, write, write_zeroes};
#[cfg(feature = "blocking")]
pub(crate) use client::{cache, trim};
pub use disconnect::Disconnect;
pub(crate) use execute::{Effect, Execute};
pub(crate) use health::ping;
use op::Operation;
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
