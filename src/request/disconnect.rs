//! The orderly end of a connection.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use crate::connection::Connection;
use crate::driver::runtime::check_time;
use crate::driver::timer::{after, until};
use crate::error::{Error, Phase, Result};
use crate::state::State;

/// The end of a connection, not begun yet: await it.
///
/// It succeeds if this side ended the connection: with this call, an earlier one, or
/// [`opt_abort`](Connection::opt_abort); and, if the server runs as a child process, once that has
/// exited, or the [`shutdown_timeout`](crate::Builder::shutdown_timeout) is over.
///
/// # Errors
/// The cause, as [`closed`](Connection::closed) gives it, if the connection had ended in any other
/// way before the server could be told, or ends while requests are in flight. That includes a server
/// that closed it when it owed nothing: it may have gone with what was not flushed, which
/// [`Error::has_unflushed_writes`] tells. A child process that dies of a signal, other than those
/// that end it after its connection, is such a cause, too.
///
/// [`Error::Timeout`] if the [`timeout`](Self::timeout) passes, and [`Error::Invalid`] on a
/// connection that was never connected.
///
/// # Cancel safety
///
/// Once polled, the connection ends whether or not this is dropped.
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct Disconnect {
    connection: Connection,
    timeout: Option<Duration>,
    abandons: bool,
}

impl Disconnect {
    pub(super) const fn new(connection: Connection) -> Self {
        Self {
            connection,
            timeout: None,
            abandons: false,
        }
    }

    /// Waits this long for what is in flight, and for the server; then ends the connection
    /// anyway, with an error. By default what is in flight has no limit; the server has the
    /// [`shutdown_timeout`](crate::Builder::shutdown_timeout) after it.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Gives up the requests of which nothing has been sent yet: they fail with
    /// [`Error::Closed`] and [`Delivery::NotSent`](crate::Delivery::NotSent). Those that were sent,
    /// at least in part, are still waited for.
    #[doc(alias = "LIBNBD_SHUTDOWN_ABANDON_PENDING")]
    pub const fn abandon(mut self) -> Self {
        self.abandons = true;
        self
    }

    async fn run(self) -> Result<()> {
        if self.timeout.is_some() {
            check_time("timeouts must be awaited inside one")?;
        }
        let shared = self.connection.shared();
        match self.connection.state() {
            state @ State::Created => return Err(Error::state(state, "connected")),
            State::Dead | State::Closed => {}
            State::Ready => self.connection.link()?.close(),
            State::Negotiating | State::Connecting => shared.abandon(),
        }
        if self.abandons {
            if let Some(link) = shared.link() {
                link.drop_unsent();
            }
        }
        let Some(timeout) = self.timeout else {
            return self.ended().await;
        };
        match until(after(timeout), self.ended()).await {
            Some(result) => result,
            None => Err(self.give_up().await),
        }
    }

    /// Waits until the connection has ended; and if this side has ended it, for the server
    /// process, too.
    async fn ended(&self) -> Result<()> {
        let cause = self.connection.closed().await;
        let was_told = match &cause {
            Error::Closed(_) => true,
            // It said that it is shutting down, and so goodbye was said to it.
            Error::Disconnected(lost, _) => {
                lost.phase() == Phase::Shutdown && self.connection.is_closed()
            }
            _ => false,
        };
        if !was_told {
            return Err(cause);
        }
        self.connection.shared().finished.cancelled().await;
        Ok(())
    }

    /// Ends the connection whatever is still to be done. A server process is seen to later.
    async fn give_up(&self) -> Error {
        let mut error = Error::timeout(Phase::Shutdown);
        let shared = self.connection.shared();
        if let Some(link) = shared.link() {
            error = link.fail(error);
        }
        shared.given_up.cancel();
        self.connection.closed().await;
        error
    }
}

impl IntoFuture for Disconnect {
    type Output = Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
