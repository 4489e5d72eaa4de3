//! Streams that hold back what is written until they are flushed, as those of TLS do.

use std::io;
use std::pin::Pin;
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
