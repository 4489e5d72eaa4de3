//! Connections to a Unix socket that can be cut.

use std::io::Result;
use std::net::Shutdown;
use std::os::unix::net::UnixStream as Socket;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use nbd_client::Connector;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// The way to a server, which counts what is sent.
#[derive(Clone)]
pub(super) struct Wire {
    path: String,
    sent: Arc<AtomicU64>,
    open: Arc<Mutex<Vec<Socket>>>,
}

impl Wire {
    pub(super) fn to(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            sent: Arc::default(),
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
                let stream = UnixStream::from_std(socket)?;
                let sent = wire.sent.clone();
                Ok(Counted { stream, sent })
            }
        })
    }

    /// How many bytes were handed to the system for the server.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Cuts all connections.
    pub(super) fn cut(&self) {
        for socket in self.open.lock().unwrap().drain(..) {
            // The other side may have closed it already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

struct Counted {
    stream: UnixStream,
    sent: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, data))?;
        self.sent.fetch_add(count as u64, Ordering::SeqCst);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
