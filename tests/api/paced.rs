//! Streams that are cut into pieces, drip, or stop.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How a stream stops.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// It ends.
    End,
    /// It is reset.
    Reset,
    /// It stays silent.
    Stall,
}

/// A stream that reads at most so many bytes at a time, pauses, and stops after so many in all.
pub(crate) struct Paced<S> {
    inner: S,
    step: usize,
    left: usize,
    stop: Stop,
    /// Where to make pauses.
    cuts: Vec<usize>,
    read: usize,
}

impl<S> Paced<S> {
    /// It stops after `left` bytes.
    pub(crate) const fn stopping_after(inner: S, left: usize, stop: Stop) -> Self {
        Self {
            inner,
            step: usize::MAX,
            left,
            stop,
            cuts: Vec::new(),
            read: 0,
        }
    }

    /// At most `step` bytes come at a time.
    pub(crate) fn dripping(inner: S, step: usize) -> Self {
        Self {
            step,
            ..Self::stopping_after(inner, usize::MAX, Stop::End)
        }
    }

    /// No read reaches across the bytes at `cuts`.
    pub(crate) fn split_at(inner: S, cuts: impl Into<Vec<usize>>) -> Self {
        Self {
            cuts: cuts.into(),
            ..Self::stopping_after(inner, usize::MAX, Stop::End)
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut most = this.step.min(this.left).min(buf.remaining());
        for cut in this.cuts.iter().filter(|&&cut| cut > this.read) {
            most = most.min(cut - this.read);
        }
        if this.left == 0 {
            return match this.stop {
                Stop::End => Poll::Ready(Ok(())),
                Stop::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Stop::Stall => Poll::Pending,
            };
        }
        let mut scratch = vec![0; most.min(64 << 10)];
        let mut part = ReadBuf::new(&mut scratch);
        std::task::ready!(Pin::new(&mut this.inner).poll_read(cx, &mut part))?;
        let count = part.filled().len();
        buf.put_slice(part.filled());
        this.left -= count;
        this.read += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
