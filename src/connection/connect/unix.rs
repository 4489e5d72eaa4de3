//! Servers behind Unix sockets.

use std::path::Path;

use super::Connecting;
use crate::connection::Connection;
use crate::error::Result;
use crate::uri::Endpoint;

/// Connecting to a Unix socket. Not on Windows.
impl Connection {
    /// Begins to connect to a Unix socket.
    ///
    /// On Linux, a path that begins with a NUL byte is an abstract name. If the backlog of the
    /// server is full, connecting is tried again until the deadline.
    ///
    /// # Errors
    /// If the handle is not new, there is no runtime, or the path cannot be that of a socket.
    #[doc(alias = "nbd_aio_connect_unix")]
    pub fn aio_connect_unix(&self, path: impl AsRef<Path>) -> Result<Connecting> {
        let path = path.as_ref().to_owned();
        self.aio_connect_endpoint(Endpoint::Unix { path })
    }

    /// Connects to a Unix socket; see [`aio_connect_unix`](Self::aio_connect_unix).
    ///
    /// # Errors
    /// As there, and if the connection or the handshake fails.
    #[doc(alias = "nbd_connect_unix")]
    pub async fn connect_unix(&self, path: impl AsRef<Path>) -> Result<()> {
        let connecting = self.aio_connect_unix(path)?;
        connecting.await
    }
}
