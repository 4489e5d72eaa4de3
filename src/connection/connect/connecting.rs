//! The futures of connect calls.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::driver::Inner;
use crate::error::Result;
use crate::state::State;

/// An attempt to connect.
///
/// It resolves when the handshake is done, or in option mode when options can be sent, or with the
/// error that ended the attempt. Meanwhile any task can look at the state of the connection.
///
/// # Cancel safety
///
/// The attempt goes on if this is dropped. Drop the last [`Connection`](crate::Connection) to stop
/// it.
///
/// # Examples
/// ```
/// # use nbd_client::{Connection, testing};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nbd_client::Result<()> {
/// # let server = testing::Server::new(testing::Export::new(1 << 20));
/// let conn = Connection::new();
/// let connecting = conn.aio_connect_stream(server.connect())?; // returns at once
/// assert!(conn.is_connecting()); // on any clone, from any task
/// connecting.await?;
/// assert!(conn.is_ready());
/// # Ok(())
/// # }
/// ```
#[must_use = "await this, or watch the state of the connection"]
pub struct Connecting(Pin<Box<dyn Future<Output = Result<()>> + Send + Sync>>);

impl Connecting {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self(Box::pin(async move {
            let state = inner.reach(|state| *state != State::Connecting).await;
            match (state, inner.ended()) {
                (_, Some(error)) => Err(error.clone()),
                _ => Ok(()),
            }
        }))
    }
}

impl Future for Connecting {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Connecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connecting").finish_non_exhaustive()
    }
}
