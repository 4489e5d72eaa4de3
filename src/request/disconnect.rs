//! The orderly end of a connection.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use crate::connection::Connection;
use crate::error::{Error, Phase, Result};
use crate::runtime::check_time;
use crate::state::State;
use crate::timer::{after, until};

/// The end of a connection, not begun yet: await it.
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
            State::Dead => return Err(self.connection.closed().await),
            State::Ready => self.connection.link()?.close(),
            State::Negotiating | State::Connecting => shared.abandon(),
            State::Closed => {}
        }
        if self.abandons {
            if let Some(link) = shared.link() {
                link.drop_unsent();
            }
        }
        let finished = shared.finished.cancelled();
        if let Some(timeout) = self.timeout {
            if until(after(timeout), finished).await.is_none() {
                return Err(self.give_up().await);
            }
        } else {
            finished.await;
        }
        match self.connection.state() {
            State::Dead => Err(self.connection.closed().await),
            _ => Ok(()),
        }
    }

    /// Ends the connection whatever is still to be done. A server process is seen to later.
    async fn give_up(&self) -> Error {
        let mut error = Error::timeout(Phase::Shutdown);
        if let Ok(link) = self.connection.link() {
            error = link.fail(error);
        }
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
