//! The handle on one connection, and the states it goes through.

mod builder;
#[cfg(unix)]
mod child;
mod connect;
mod facts;
mod opt;

use std::fmt;
use std::sync::Arc;

pub use builder::Builder;
pub use connect::{Connecting, Connector, IntoSocket};

use crate::driver::{Link, Shared};
use crate::error::{Error, InvalidRequest, Result};
use crate::state::State;
use crate::wire::MAX_STRING;

/// A handle on one NBD connection: cheap to clone, usable from any task and thread.
///
/// A connection is *created*, then connected exactly once by one of the `connect_*` calls, used
/// for any number of requests at a time, and ends in one of three ways:
///
/// * [`disconnect`](Self::disconnect) waits for what is in flight, then says goodbye;
/// * dropping the last handle says goodbye without waiting, in the background;
/// * the server or the network ends it, and every request gets the same cause.
///
/// Requests that are awaited keep the connection alive.
///
/// Programs that are started meanwhile get no descriptor of it. A process that was forked, and
/// executes nothing, has the socket as well, but no thread that could use it: it must leave the
/// connections of its parent alone, dropping them included.
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
#[derive(Clone)]
#[must_use = "dropping the last handle closes the connection"]
pub struct Connection(Arc<Handle>);

/// What all handles own together: dropping it abandons the connection.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

const _: () = {
    const fn is_handle<T: Clone + Send + Sync + 'static>() {}
    is_handle::<Connection>();
};

impl Connection {
    /// A new connection with default options, not connected yet.
    pub fn new() -> Self {
        Builder::default().build()
    }

    /// A builder for a connection with other options.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn from_shared(shared: Shared) -> Self {
        Self(Arc::new(Handle(Arc::new(shared))))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }

    /// The transmission phase, or an error that says why there is none.
    pub(crate) fn link(&self) -> Result<&Link> {
        let shared = self.shared();
        match shared.link() {
            Some(link) => Ok(link),
            None => Err(self.not("ready")),
        }
    }

    /// The error of a call in the wrong state: the cause if the connection has ended.
    fn not(&self, needed: &'static str) -> Error {
        match self.shared().ended() {
            Some(error) => error.clone(),
            None => Error::state(self.state(), needed),
        }
    }

    /// Where the connection stands. Lock-free; may have changed by the time it is looked at.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared().state()
    }

    /// Whether it is not connected yet: the connect calls are allowed.
    #[must_use]
    pub fn is_created(&self) -> bool {
        self.state() == State::Created
    }

    /// Whether it is being connected, or running an option in option mode. Once this is false
    /// it may be ready, negotiating, or ended.
    #[must_use]
    pub fn is_connecting(&self) -> bool {
        self.state() == State::Connecting
    }

    /// Whether, in option mode, an option can be sent.
    #[must_use]
    pub fn is_negotiating(&self) -> bool {
        self.state() == State::Negotiating
    }

    /// Whether the handshake is done and commands are accepted, be there any in flight or not.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state() == State::Ready
    }

    /// Whether it is ready and at least one request is in flight.
    #[must_use]
    pub fn is_processing(&self) -> bool {
        self.is_ready() && self.in_flight() > 0
    }

    /// Whether it has ended in an orderly way: by this side, or by a server that owed nothing.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state() == State::Closed
    }

    /// Whether it has ended by a failure.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state() == State::Dead
    }

    /// How many requests are not answered yet, those whose callers gave up included. Zero unless
    /// ready.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared().link().map_or(0, |link| link.in_flight())
    }

    /// Whether the server has acknowledged changes (writes, trims, zeroes) that are not known to be
    /// durable: they were sent without `fua`, and no flush has succeeded that covers them, or one
    /// has failed that should have. It stays known after the connection has ended.
    ///
    /// A connection that ends in this state says so in its error, see
    /// [`Error::has_unflushed_writes`]. That includes the cause that [`closed`](Self::closed) gives
    /// after [`disconnect`](Self::disconnect), which itself succeeds if this side ended the
    /// connection: not to flush is your choice.
    #[must_use]
    pub fn has_unflushed_writes(&self) -> bool {
        self.shared()
            .link()
            .is_some_and(|link| link.has_unflushed())
    }

    /// Lets flushes succeed again after one has failed.
    ///
    /// A server may drop what it could not write when a flush fails, and then have nothing to
    /// complain about at the next. So from the first failure on, flushes of this connection are
    /// still sent, but where the server says that one succeeded, its caller gets
    /// [`Error::DurabilityUnknown`], whichever task it is. With this call you say that you know, and
    /// have written again, or given up, what was acknowledged before the flush that failed.
    ///
    /// It has no effect if no flush has failed, or if nothing was at stake when it did.
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
        if let Some(link) = self.shared().link() {
            link.clear_flush_error();
        }
    }

    /// Waits until commands are accepted.
    ///
    /// On a connection that nobody connects, or that stays in option mode, this waits until
    /// somebody goes on with it.
    ///
    /// # Errors
    /// The cause, if the connection has ended or ends before that.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn ready(&self) -> Result<()> {
        let is_there = |state: &State| matches!(state, State::Ready | State::Closed | State::Dead);
        match self.shared().reach(is_there).await {
            State::Ready => Ok(()),
            _ => Err(self.not("ready")),
        }
    }

    /// Waits until the connection has ended, and says why.
    ///
    /// The future holds a handle: it does not resolve because all others are dropped. On a
    /// connection that was never connected it waits for ever.
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
        self.shared().reach(is_over).await;
        self.not("closed")
    }

    /// Checks names before anything is connected.
    pub(crate) fn check_names(&self) -> Result<()> {
        let export_options = self.shared().lock_export_options();
        check_string("export name", &export_options.export_name)?;
        export_options
            .contexts
            .iter()
            .try_for_each(|name| check_string("metadata context", name))
    }
}

/// P-001: strings that are sent contain no NUL and have at most 4096 bytes.
pub(crate) fn check_string(what: &'static str, string: &str) -> Result<()> {
    if string.contains('\0') {
        return Err(Error::argument(what, "it contains a NUL character"));
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
