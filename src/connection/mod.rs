//! The handle of one connection.

mod builder;
#[cfg(unix)]
mod child;
mod connect;
mod facts;
mod opt;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use builder::Builder;
pub use connect::{Connecting, Connector, IntoSocket};
#[cfg(unix)]
pub use connect::{IntoCommand, IntoProgram};

use crate::driver::{Inner, Transmission};
use crate::error::{Error, InvalidRequest, RequestError, Result};
use crate::state::State;
use crate::wire::MAX_STRING;

/// A handle of one NBD connection: cheap to clone, and usable from any task and thread.
///
/// A connection is *created*, then connected exactly once by one of the `connect_*` calls, used
/// for any number of requests at a time, and ends in one of three ways:
///
/// * [`disconnect`](Self::disconnect) waits for requests in flight, and then disconnects;
/// * dropping the last handle disconnects without waiting, in the background;
/// * the server or the network ends the connection, and every request gets the same cause.
///
/// Requests that are awaited keep the connection alive.
///
/// Programs that are started meanwhile inherit no descriptor of the connection. After `fork` without
/// `exec`, the child must neither use nor drop its parent's connections: it shares the socket but has
/// no thread to drive it.
///
/// # Examples
/// Four tasks share a connection:
/// ```
/// # use nbd_client::{Connection, testing};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = testing::Server::new(testing::Export::new(1 << 20));
/// let conn = Connection::new();
/// conn.connect_stream(server.connect()).await?;
///
/// let mut tasks = tokio::task::JoinSet::new();
/// for task in 0..4u8 {
///     let conn = conn.clone();
///     tasks.spawn(async move {
///         let offset = u64::from(task) * 65536;
///         conn.write(offset, vec![task; 4096]).await?;
///         conn.read(offset, 4096).await
///     });
/// }
/// while let Some(data) = tasks.join_next().await {
///     println!("{} bytes of {}", data??.len(), conn.size()?);
/// }
/// conn.flush().await?;
/// conn.disconnect().await?;
/// # Ok(())
/// # }
/// ```
#[doc(alias = "nbd_close")]
#[doc(alias = "nbd_handle")]
#[derive(Clone)]
#[must_use = "dropping the last handle closes the connection"]
pub struct Connection(Arc<Handle>);

/// The value that all handles own together. Dropping it ends the connection in the background.
struct Handle(Arc<Inner>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.detach();
    }
}

const _: () = {
    const fn is_handle<T: Clone + Send + Sync + 'static>() {}
    is_handle::<Connection>();
};

impl Connection {
    /// Creates a connection with default options, which is not connected yet.
    #[doc(alias = "nbd_create")]
    pub fn new() -> Self {
        Builder::default().build()
    }

    /// Returns a builder for a connection with other options.
    #[doc(alias = "nbd_create")]
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn from_shared(inner: Inner) -> Self {
        Self(Arc::new(Handle(Arc::new(inner))))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0.0
    }

    /// Returns the transmission phase, or an error that says why the connection is not in it.
    pub(crate) fn transmission(&self) -> Result<&Arc<Transmission>> {
        let inner = self.inner();
        match inner.transmission() {
            Some(transmission) => Ok(transmission),
            None => Err(self.not("ready")),
        }
    }

    /// Returns the error of a call in the wrong state: the cause if the connection has ended.
    fn not(&self, needed: &'static str) -> Error {
        match self.inner().ended() {
            Some(error) => error.clone(),
            None => Error::state(self.state(), needed),
        }
    }

    /// Returns the state of the connection. It is lock-free, and may be out of date at once.
    #[doc(alias = "nbd_connection_state")]
    #[must_use]
    pub fn state(&self) -> State {
        self.inner().state()
    }

    /// Returns whether the connection is new, so that the connect calls are allowed.
    #[doc(alias = "nbd_aio_is_created")]
    #[must_use]
    pub fn is_created(&self) -> bool {
        self.state() == State::Created
    }

    /// Returns whether the connection is being connected, or runs an option in option mode. After
    /// that it is ready, negotiating, or ended.
    #[doc(alias = "nbd_aio_is_connecting")]
    #[must_use]
    pub fn is_connecting(&self) -> bool {
        self.state() == State::Connecting
    }

    /// Returns whether an option can be sent, in option mode.
    #[doc(alias = "nbd_aio_is_negotiating")]
    #[must_use]
    pub fn is_negotiating(&self) -> bool {
        self.state() == State::Negotiating
    }

    /// Returns whether the handshake is done and commands are accepted, regardless of how many are
    /// in flight.
    #[doc(alias = "nbd_aio_is_ready")]
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state() == State::Ready
    }

    /// Returns whether the connection is ready and at least one request is in flight.
    #[doc(alias = "nbd_aio_is_processing")]
    #[must_use]
    pub fn is_processing(&self) -> bool {
        self.is_ready() && self.in_flight() > 0
    }

    /// Returns whether the connection has ended in an orderly way: by this side, or by a server that
    /// owed nothing.
    #[doc(alias = "nbd_aio_is_closed")]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state() == State::Closed
    }

    /// Returns whether the connection has ended by a failure.
    #[doc(alias = "nbd_aio_is_dead")]
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state() == State::Dead
    }

    /// Returns the number of unanswered requests, including those whose futures were dropped. It is
    /// zero unless the connection is ready.
    #[doc(alias = "nbd_aio_in_flight")]
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inner()
            .transmission()
            .map_or(0, |transmission| transmission.in_flight())
    }

    /// Returns whether acknowledged changes (writes, trims, zeroes) may not be durable: they were
    /// sent without `fua`, and no flush that covers them has succeeded, or one has failed. This
    /// stays known after the connection has ended.
    ///
    /// The error that ends the connection says so, too, see [`Error::has_unflushed_writes`]. This
    /// includes the cause that [`closed`](Self::closed) returns after
    /// [`disconnect`](Self::disconnect), although `disconnect` itself succeeds: it is up to the
    /// program to flush before.
    #[must_use]
    pub fn has_unflushed_writes(&self) -> bool {
        self.inner()
            .transmission()
            .is_some_and(|transmission| transmission.has_unflushed())
    }

    /// Lets flushes succeed again after one has failed.
    ///
    /// When a flush fails, a server may drop what it could not write, and report success at the next
    /// flush. From the first failure on, flushes of this connection are therefore still sent, but
    /// if the server reports success, the caller gets [`Error::DurabilityUnknown`], in every task.
    /// Call this after you have written again, or given up, what was acknowledged before the flush
    /// that failed.
    ///
    /// It has no effect if no flush has failed, or if there was nothing to flush when it failed.
    ///
    /// ```
    /// # use nbd_client::{Connection, Error, testing, wire::{Command, Errno}};
    /// # use std::sync::atomic::{AtomicBool, Ordering};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # static FAILED: AtomicBool = AtomicBool::new(false);
    /// # let server = testing::Server::builder()
    /// #     .export("", testing::Export::new(1 << 20))
    /// #     .fail_with(|head| {
    /// #         let fails = head.command == Command::FLUSH && !FAILED.swap(true, Ordering::SeqCst);
    /// #         fails.then(|| (Errno::EIO, String::new()))
    /// #     })
    /// #     .build();
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// conn.write(0, "data").await?;
    /// assert!(conn.flush().await.is_err()); // EIO
    /// assert!(matches!(conn.flush().await, Err(Error::DurabilityUnknown(_))));
    ///
    /// conn.write(0, "data").await?; // once more
    /// conn.clear_flush_error();
    /// conn.flush().await?;
    /// assert!(!conn.has_unflushed_writes());
    /// # Ok(())
    /// # }
    /// ```
    pub fn clear_flush_error(&self) {
        if let Some(transmission) = self.inner().transmission() {
            transmission.clear_flush_error();
        }
    }

    /// Returns the flush that has failed first, unless that is
    /// [forgiven](Self::clear_flush_error).
    pub(crate) fn flush_failure(&self) -> Option<RequestError> {
        self.inner().transmission()?.flush_failure()
    }

    /// Disconnects without waiting for requests in flight, but still takes their answers, until the
    /// server closes the connection or `patience` is over.
    pub(crate) fn leave(&self, patience: Duration) {
        if let Some(transmission) = self.inner().transmission() {
            transmission.leave(patience);
        }
    }

    /// Returns whether the server has closed the connection by itself after [`leave`](Self::leave):
    /// it had read `DISC`, and all requests before it.
    pub(crate) fn was_drained(&self) -> bool {
        let transmission = self.inner().transmission();
        transmission.is_some_and(|transmission| transmission.was_drained())
    }

    /// Returns whether no request is taken any more.
    pub(crate) fn refuses(&self) -> bool {
        let transmission = self.inner().transmission();
        transmission.is_none_or(|transmission| transmission.refusal(false).is_some())
    }

    /// Fails the requests of which nothing has been sent, with [`Error::Closed`].
    pub(crate) fn discard_unsent(&self) {
        if let Some(transmission) = self.inner().transmission() {
            transmission.discard_unsent();
        }
    }

    /// Lets requests be sent again after [`discard_unsent`](Self::discard_unsent).
    pub(crate) fn keep_unsent(&self) {
        if let Some(transmission) = self.inner().transmission() {
            transmission.keep_unsent();
        }
    }

    /// Waits until commands are accepted.
    ///
    /// On a connection that is not connected, or that stays in option mode, this waits until a call
    /// connects it or enters the export.
    ///
    /// # Errors
    /// The cause, if the connection has ended or ends before.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn ready(&self) -> Result<()> {
        let is_there = |state: &State| matches!(state, State::Ready | State::Closed | State::Dead);
        match self.inner().reach(is_there).await {
            State::Ready => Ok(()),
            _ => Err(self.not("ready")),
        }
    }

    /// Waits until the connection has ended, and returns the cause.
    ///
    /// The future holds a handle, so dropping all others does not end the connection. On a
    /// connection that is never connected, this waits for ever.
    ///
    /// ```
    /// # use nbd_client::{Connection, ErrorKind, testing};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// # let watch = conn.clone();
    /// let watcher = tokio::spawn(async move { watch.closed().await });
    /// conn.disconnect().await?;
    /// let cause = watcher.await.unwrap();
    /// assert_eq!(cause.kind(), ErrorKind::Closed); // by this side
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn closed(&self) -> Error {
        let is_over = |state: &State| matches!(state, State::Closed | State::Dead);
        self.inner().reach(is_over).await;
        self.not("closed")
    }

    /// Checks the names of the export and of the contexts before connecting.
    pub(crate) fn check_names(&self) -> Result<()> {
        let export_options = self.inner().lock_export_options();
        check_string("export name", &export_options.export_name)?;
        export_options
            .contexts
            .iter()
            .try_for_each(|name| check_string("metadata context", name))
    }
}

/// Checks a string before it is sent (P-001: it has no NUL and at most 4096 bytes).
pub(crate) fn check_string(what: &'static str, string: &str) -> Result<()> {
    if string.contains('\0') {
        return Err(InvalidRequest::ContainsNul { what }.into());
    }
    if string.len() > MAX_STRING {
        return Err(InvalidRequest::TooLongString {
            what,
            length: string.len(),
        }
        .into());
    }
    Ok(())
}

impl Default for Connection {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("state", &self.state())
            .field("export_name", &self.export_name())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
