//! Connections that can be cut.

use std::net::Shutdown;
use std::os::unix::net::UnixStream as Socket;
use std::sync::{Arc, Mutex};

use nbd_client::Connector;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinHandle;

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

/// A TCP port that leads to a Unix socket; what goes through it can be cut.
pub(super) struct Proxy {
    port: u16,
    open: Arc<Mutex<Vec<JoinHandle<()>>>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn to(path: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let open: Arc<Mutex<Vec<JoinHandle<()>>>> = Arc::default();
        let (path, all) = (path.to_owned(), open.clone());
        let accepting = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let path = path.clone();
                let through = tokio::spawn(async move {
                    // The server may not be there.
                    if let Ok(mut server) = UnixStream::connect(&path).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
                all.lock().unwrap().push(through);
            }
        });
        Self {
            port,
            open,
            accepting,
        }
    }

    pub(super) fn connector(&self) -> Connector {
        Connector::tcp("127.0.0.1", self.port)
    }

    /// Cuts all connections.
    pub(super) fn cut(&self) {
        for through in self.open.lock().unwrap().drain(..) {
            through.abort();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}
