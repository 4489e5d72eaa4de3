//! A stream with TLS that never ends in silence.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::ByteStream;

/// A stream with TLS. Dropping it sends `close_notify`, if that was not tried before and there is
/// room: the server can tell that nothing was cut off (P-030, P-106).
pub(crate) struct Goodbye {
    stream: Box<dyn ByteStream>,
    is_said: bool,
}

impl Goodbye {
    pub(crate) fn new(stream: Box<dyn ByteStream>) -> Self {
        Self {
            stream,
            is_said: false,
        }
    }
}

impl Drop for Goodbye {
    fn drop(&mut self) {
        // A stream that has just panicked may panic again, which would abort the process.
        if !self.is_said && !std::thread::panicking() {
            let mut cx = Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut self.stream).poll_shutdown(&mut cx);
        }
    }
}

impl AsyncRead for Goodbye {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Goodbye {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_said = true;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
