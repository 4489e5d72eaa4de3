//! Servers behind Unix sockets.

use std::path::{Path, PathBuf};

use super::Connecting;
use crate::connection::Connection;
use crate::driver::Address;
use crate::error::Result;
use crate::transport::unix;
use crate::uri::Endpoint;

/// Connecting to a Unix socket. Not on Windows.
impl Connection {
    /// Begins to connect to a Unix socket.
    ///
    /// A path that begins with a NUL byte is an abstract name, on Linux. A server whose backlog is
    /// full is tried again until the deadline.
    ///
    /// # Errors
    /// If the handle is not new, there is no runtime, or the path cannot be that of a socket.
    pub fn aio_connect_unix(&self, path: impl AsRef<Path>) -> Result<Connecting> {
        self.prepare()?;
        let path = path.as_ref().to_owned();
        unix::check(&path)?;
        self.shared().begin()?;
        let endpoint = Endpoint::Unix { path: path.clone() };
        self.set_address(Address::Endpoint(endpoint));
        Ok(self.start_unix(path))
    }

    /// Connects to a Unix socket; see [`aio_connect_unix`](Self::aio_connect_unix).
    ///
    /// # Errors
    /// As there, and if the connection or the handshake fails.
    pub async fn connect_unix(&self, path: impl AsRef<Path>) -> Result<()> {
        let connecting = self.aio_connect_unix(path)?;
        connecting.await
    }

    pub(super) fn start_unix(&self, path: PathBuf) -> Connecting {
        self.start(async move {
            let stream = unix::connect(&path).await?;
            Ok(Box::new(stream) as _)
        })
    }
}
