//! Streams that do less than they are asked to: that hold back what is written until they are
//! flushed, as those of TLS do, or that are interrupted.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use nbd_client::Connection;
use nbd_client::testing::{Export, Server};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// Takes everything, and passes it on only when it is flushed for the second time.
struct Hesitant {
    inner: DuplexStream,
    held: Vec<u8>,
    asked: bool,
}

impl AsyncRead for Hesitant {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Hesitant {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.held.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.held.is_empty() {
            this.asked = !this.asked;
            if this.asked {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let written = Pin::new(&mut this.inner).poll_write(cx, &this.held);
            assert!(matches!(written, Poll::Ready(Ok(n)) if n == this.held.len()));
            this.held.clear();
        }
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_stream_holds_back_is_flushed_however_long_that_takes() {
    let server = Server::new(Export::new(1 << 20));
    let stream = Hesitant {
        inner: server.connect(),
        held: Vec::new(),
        asked: false,
    };
    let conn = Connection::new();
    conn.connect_stream(stream).await.unwrap();
    conn.write(0, vec![7; 4096])
        .timeout(Duration::from_secs(1))
        .await
        .unwrap();
    let data = conn.read(4095, 2).timeout(Duration::from_secs(1)).await;
    assert_eq!(&data.unwrap()[..], [7, 0]);
    conn.disconnect().await.unwrap();
}

/// Once told to, fails every other time as if by a signal.
struct Interrupted {
    inner: DuplexStream,
    on: Arc<AtomicBool>,
    now: bool,
}

impl Interrupted {
    fn check(&mut self) -> io::Result<()> {
        self.now = !self.now && self.on.load(Ordering::Relaxed);
        match self.now {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    }
}

impl AsyncRead for Interrupted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Interrupted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn k28_a_signal_that_comes_in_between_is_no_failure() {
    let server = Server::new(Export::new(1 << 20));
    let on = Arc::new(AtomicBool::new(false));
    let stream = Interrupted {
        inner: server.connect(),
        on: on.clone(),
        now: false,
    };
    let conn = Connection::new();
    conn.connect_stream(stream).await.unwrap();
    on.store(true, Ordering::Relaxed);
    conn.write(0, vec![7; 100_000]).await.unwrap();
    let data = conn.read(0, 100_000).await.unwrap();
    assert!(data.iter().all(|&byte| byte == 7));
    conn.disconnect().await.unwrap();
}
