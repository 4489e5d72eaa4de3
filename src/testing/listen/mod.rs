//! Serving on sockets.

#[cfg(unix)]
mod unix;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::task::{AbortHandle, JoinSet};

use super::server::Server;

/// A server that listens for as long as this guard lives.
///
/// When it is dropped, listening stops, its connections are closed, and a Unix socket is removed
/// from the file system.
///
/// # Examples
/// ```
/// use nbd_client::testing::{Export, Server};
///
/// # tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap().block_on(async {
/// let server = Server::new(Export::new(1 << 20));
/// let listening = server.listen_tcp("127.0.0.1:0").await?;
/// assert!(listening.uri().starts_with("nbd://127.0.0.1:"));
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
#[must_use = "listening stops when this is dropped"]
pub struct Listening<A> {
    address: A,
    /// A file to remove at the end.
    socket: Option<PathBuf>,
    task: AbortHandle,
}

impl Listening<SocketAddr> {
    /// The address, with the port that was chosen.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The NBD URI of the default export.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("nbd://{}", self.address)
    }
}

impl<A> Drop for Listening<A> {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(socket) = &self.socket {
            // Another process may have removed the socket already.
            let _ = std::fs::remove_file(socket);
        }
    }
}

impl<A: fmt::Debug> fmt::Debug for Listening<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Listens on a TCP address; port 0 chooses a free one.
    ///
    /// # Errors
    /// If the address cannot be bound.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub async fn listen_tcp(
        &self,
        address: impl ToSocketAddrs,
    ) -> io::Result<Listening<SocketAddr>> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let task = self.accept(move |cx| {
            let (stream, _) = ready!(listener.poll_accept(cx))?;
            // P-004: TCP sends small messages at once.
            stream.set_nodelay(true)?;
            Poll::Ready(Ok(stream))
        });
        Ok(Listening {
            address,
            socket: None,
            task,
        })
    }

    /// Serves whatever `poll` accepts, until the task is aborted.
    fn accept<S>(
        &self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<S>> + Send + 'static,
    ) -> AbortHandle
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let this = self.clone();
        let accepting = tokio::spawn(async move {
            // When this task ends, the set is dropped, which ends its connections.
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = poll_fn(&mut poll) => match accepted {
                        Ok(stream) => {
                            let this = this.clone();
                            // The client sees how its connection ends.
                            connections.spawn(async move { this.serve(stream).await });
                        }
                        // The client may have closed the connection again, or there is no free
                        // descriptor.
                        Err(_) => tokio::task::yield_now().await,
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        accepting.abort_handle()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpStream;

    use crate::testing::Export;

    use super::*;

    pub(super) async fn greeting(mut stream: impl AsyncRead + Unpin) -> [u8; 8] {
        let mut magic = [0; 8];
        stream.read_exact(&mut magic).await.unwrap();
        magic
    }

    #[tokio::test]
    async fn a_tcp_port_is_served_until_its_guard_is_dropped() {
        let server = Server::new(Export::new(0));
        let listening = server.listen_tcp("127.0.0.1:0").await.unwrap();
        let address = listening.local_addr();
        for _ in 0..2 {
            let stream = TcpStream::connect(address).await.unwrap();
            assert_eq!(&greeting(stream).await, b"NBDMAGIC");
        }
        drop(listening);
        server.connected(0).await;
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
