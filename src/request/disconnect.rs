//! The orderly end of a connection.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use crate::connection::{Connection, State};
use crate::error::{Error, Phase, Result};

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
}

impl Disconnect {
    pub(super) const fn new(connection: Connection) -> Self {
        Self {
            connection,
            timeout: None,
        }
    }

    /// Waits this long for what is in flight, and for the server; then ends the connection
    /// anyway, with an error. By default what is in flight has no limit; the server has the
    /// [`shutdown_timeout`](crate::Builder::shutdown_timeout) after it.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(self) -> Result<()> {
        let shared = self.connection.shared();
        match self.connection.state() {
            state @ State::Created => return Err(Error::state(state, "connected")),
            State::Dead => return Err(self.connection.closed().await),
            State::Ready => {}
            State::Closed => {
                shared.finished.cancelled().await;
                return Ok(());
            }
            State::Negotiating | State::Connecting => {
                shared.abandon();
                shared.finished.cancelled().await;
                return Ok(());
            }
        }
        let link = self.connection.link()?;
        link.close();
        let finished = shared.finished.cancelled();
        if let Some(timeout) = self.timeout {
            if tokio::time::timeout(timeout, finished).await.is_err() {
                let error = Error::timeout(Phase::Shutdown);
                link.fail(&error);
                return Err(error);
            }
        } else {
            finished.await;
        }
        match self.connection.state() {
            State::Dead => Err(self.connection.closed().await),
            _ => Ok(()),
        }
    }
}

impl IntoFuture for Disconnect {
    type Output = Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
