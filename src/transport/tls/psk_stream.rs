//! The streams around OpenSSL: below it, above it, and above that a buffer of one record.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, BufReader, BufWriter, ReadBuf};
use tokio_openssl::SslStream;

use super::ByteStream;

/// OpenSSL reads the head of each record by itself: it reads from a buffer instead.
const READ_AHEAD: usize = 64 << 10;
/// Each write is a record of its own: small ones are put together first.
const RECORD: usize = 16 << 10;

/// The stream below TLS; remembers its end.
pub(super) struct Watched {
    inner: BufReader<Box<dyn ByteStream>>,
    ended: bool,
}

impl Watched {
    pub(super) fn new(stream: Box<dyn ByteStream>) -> Self {
        Self {
            inner: BufReader::with_capacity(READ_AHEAD, stream),
            ended: false,
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.ended = self.ended || buf.filled().len() == before && buf.remaining() > 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The stream above TLS; tells its end from that of the stream below, which OpenSSL does not in
/// all its versions.
struct Truncation(SslStream<Watched>);

impl AsyncRead for Truncation {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.0).poll_read(cx, buf));
        let ended = self.0.get_ref().ended;
        let nothing = buf.filled().len() == before && buf.remaining() > 0;
        if ended && (nothing || result.is_err()) {
            let what = "server closed the connection without sending TLS close_notify";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, what)));
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Truncation {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The stream above a buffer of one record.
///
/// Everything goes through the buffer, large writes too: a record that the socket did not take must be
/// offered to OpenSSL again, and the driver may give up what it was told is not written.
pub(super) struct Records(BufWriter<Truncation>);

impl Records {
    pub(super) fn new(stream: SslStream<Watched>) -> Self {
        Self(BufWriter::with_capacity(RECORD, Truncation(stream)))
    }
}

impl AsyncRead for Records {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Records {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        // A write as long as the buffer would go past it. A full buffer is written first.
        const MOST: usize = RECORD - 1;
        let room = match MOST.saturating_sub(self.0.buffer().len()) {
            0 => MOST,
            room => room,
        };
        let part = buf.get(..room).unwrap_or(buf);
        Pin::new(&mut self.0).poll_write(cx, part)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
