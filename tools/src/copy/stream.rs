//! A pipe or the like that is read or written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much of a stream is read or written at a time, in bytes.
const SIZE: usize = 1 << 20;

/// A stream that takes bytes for written when the system has taken them. A file of Tokio does so before:
/// its next write fails in place of the one that the system refused.
pub(crate) struct Stream {
    file: File,
    /// How many bytes are on their way to the system.
    begun: usize,
}

impl Stream {
    pub(crate) fn new(mut file: File) -> Self {
        file.set_max_buf_size(SIZE);
        Self { file, begun: 0 }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.begun == 0 {
            self.begun = ready!(Pin::new(&mut self.file).poll_write(cx, data))?;
        }
        let ended = ready!(Pin::new(&mut self.file).poll_flush(cx));
        let written = std::mem::take(&mut self.begun);
        Poll::Ready(ended.map(|()| written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_shutdown(cx)
    }
}
