//! A TCP connection that reports the loss of its peer by an error alone.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

use crate::platform;
use crate::transport::{Ends, Transport};

/// A TCP connection that is to become a [`Transport`].
#[derive(Debug)]
pub(crate) struct Stream(pub(super) TcpStream);

impl Stream {
    pub(crate) fn new(stream: TcpStream) -> Self {
        platform::silence(&stream);
        Self(stream)
    }
}

impl From<Stream> for Transport {
    fn from(stream: Stream) -> Self {
        let ends = Ends::of(&stream.0);
        let (read, write) = stream.0.into_split();
        Self {
            read: Box::new(read),
            write: Box::new(Writer(write)),
            ends,
            rouse: None,
        }
    }
}

/// The half that is written, without SIGPIPE: see [`platform::send`].
struct Writer(OwnedWriteHalf);

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream: &TcpStream = self.0.as_ref();
        loop {
            ready!(stream.poll_write_ready(cx))?;
            let sent = stream.try_io(Interest::WRITABLE, || platform::send(stream, bufs));
            match sent {
                // The socket is now known to be full.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
