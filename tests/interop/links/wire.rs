//! Connections to a Unix socket that can be cut.

use std::net::Shutdown;
use std::os::unix::net::UnixStream as Socket;
use std::sync::{Arc, Mutex};

use nbd_client::Connector;
use tokio::net::UnixStream;

/// The way to a server.
#[derive(Clone)]
pub(super) struct Wire {
    path: String,
    open: Arc<Mutex<Vec<Socket>>>,
}

impl Wire {
    pub(super) fn to(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            open: Arc::default(),
        }
    }

    pub(super) fn connector(&self) -> Connector {
        let wire = self.clone();
        Connector::stream(move || {
            let wire = wire.clone();
            async move {
                let stream = UnixStream::connect(&wire.path).await?;
                let socket = stream.into_std()?;
                wire.open.lock().unwrap().push(socket.try_clone()?);
                UnixStream::from_std(socket)
            }
        })
    }

    /// Cuts all connections.
    pub(super) fn cut(&self) {
        for socket in self.open.lock().unwrap().drain(..) {
            // The other side may have closed it already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
