//! Disconnecting.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

use crate::connection::Connection;
use crate::driver::LEAVE;
use crate::driver::runtime::check_time;
use crate::driver::timer::{after, until};
use crate::error::{Error, Phase, Result};
use crate::state::State;

/// The end of a connection, which begins when this is awaited.
///
/// It succeeds if this side ended the connection: with this call, an earlier one, or
/// [`opt_abort`](Connection::opt_abort). If the server runs as a child process, it succeeds once the
/// process has exited, or the [`shutdown_timeout`](crate::Builder::shutdown_timeout) is over.
///
/// # Errors
/// The cause that [`closed`](Connection::closed) returns, if the connection ended in another way
/// before the server could be told, or ends while requests are in flight. This includes a server
/// that closed the connection when it owed nothing: it may have lost what was not flushed, and
/// [`Error::has_unflushed_writes`] says whether there was anything. It also includes a child process
/// that dies of a signal, other than those that end it after its connection.
///
/// [`Error::Timeout`] if the [`timeout`](Self::timeout) passes, and [`Error::Invalid`] on a
/// connection that was never connected.
///
/// # Cancel safety
///
/// Once this was polled, the connection ends even if this is dropped.
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct Disconnect {
    connection: Connection,
    timeout: Option<Duration>,
    /// When the timeout began, unless it begins with the first poll.
    since: Option<Instant>,
    abandons: bool,
}

impl Disconnect {
    pub(super) const fn new(connection: Connection) -> Self {
        Self {
            connection,
            timeout: None,
            since: None,
            abandons: false,
        }
    }

    /// Waits at most `timeout` for requests in flight and for the server, and then ends the
    /// connection with an error. By default, requests in flight have no limit, and after them the
    /// server has the [`shutdown_timeout`](crate::Builder::shutdown_timeout).
    ///
    /// This holds even if the runtime that the connection was made on does not run, as a runtime of
    /// one thread between two calls of `block_on`. The socket is then closed when it runs again.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Counts the timeout, which errors name, from an earlier time.
    pub(crate) const fn since(mut self, begin: Instant) -> Self {
        self.since = Some(begin);
        self
    }

    /// Fails the requests of which nothing has been sent, with [`Error::Closed`] and
    /// [`Delivery::NotSent`](crate::Delivery::NotSent). Requests that were sent, at least in part,
    /// are waited for. Of a request that is sent as several messages, those that were not sent are
    /// given up, and it fails.
    #[doc(alias = "LIBNBD_SHUTDOWN_ABANDON_PENDING")]
    pub const fn abandon(mut self) -> Self {
        self.abandons = true;
        self
    }

    async fn run(self) -> Result<()> {
        if self.timeout.is_some() {
            check_time("a timeout requires a Tokio runtime")?;
        }
        let inner = self.connection.inner();
        match self.connection.state() {
            state @ State::Created => return Err(Error::state(state, "connected")),
            State::Dead | State::Closed => {}
            State::Ready => self.connection.transmission()?.close(),
            State::Negotiating | State::Connecting => inner.detach(),
        }
        if self.abandons {
            if let Some(transmission) = inner.transmission() {
                transmission.discard_unsent();
            }
        }
        let Some(timeout) = self.timeout else {
            return self.ended().await;
        };
        let passed = self.since.map_or(Duration::ZERO, |begin| begin.elapsed());
        let rest = timeout.saturating_sub(passed);
        match until(after(rest), self.ended()).await {
            Some(result) => result,
            None => Err(self.give_up(timeout).await),
        }
    }

    /// Waits until the connection has ended, and if this side has ended it, until the server process
    /// has exited, too.
    async fn ended(&self) -> Result<()> {
        let cause = self.connection.closed().await;
        let was_told = match &cause {
            Error::Closed(_) => true,
            // The server said that it is shutting down, and DISC was sent.
            Error::Disconnected(lost, _) => {
                lost.phase() == Phase::Shutdown && self.connection.is_closed()
            }
            _ => false,
        };
        if !was_told {
            return Err(cause);
        }
        self.connection.inner().finished.cancelled().await;
        Ok(())
    }

    /// Ends the connection at once. The server process, if any, is ended in the background, and so is
    /// the connection if its runtime does not run.
    async fn give_up(&self, timeout: Duration) -> Error {
        let inner = self.connection.inner();
        let mut error = Error::timeout(Phase::Shutdown, timeout).at(&inner.site());
        if let Some(transmission) = inner.transmission() {
            error = transmission.fail(error);
        }
        inner.given_up.cancel();
        until(after(LEAVE), self.connection.closed()).await;
        error
    }
}

impl IntoFuture for Disconnect {
    type Output = Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<()>> + Send + Sync>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
