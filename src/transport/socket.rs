//! Sockets that report the loss of their peer by an error alone.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncWrite, Interest};
use tokio::net::{TcpStream, tcp};

use super::{Ends, Transport};
use crate::platform::{self, AsSocket};

/// How many slices one call takes; more are an error.
const MAX_SLICES: usize = 1024;

/// A socket that is to become a [`Transport`], or the half of one that is written.
///
/// Writing to a socket without a peer raises SIGPIPE, which ends a program that has it at its
/// default (K47), as programs have that are not written in Rust and load us as a library. `std`,
/// and with it Tokio, prevents that in some of its calls, but not in any that takes several
/// slices. This one always does.
#[derive(Debug)]
pub(crate) struct Socket<S>(pub(super) S);

impl<S: AsSocket> Socket<S> {
    pub(super) fn new(stream: S) -> Self {
        platform::silence(&stream);
        Self(stream)
    }
}

impl From<Socket<TcpStream>> for Transport {
    fn from(socket: Socket<TcpStream>) -> Self {
        let ends = Ends::of(&socket.0);
        let (read, write) = socket.0.into_split();
        Self {
            read: Box::new(read),
            write: Box::new(Socket(write)),
            ends,
        }
    }
}

impl<S: Outlet> AsyncWrite for Socket<S> {
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
        let stream = self.0.stream();
        let bufs = bufs.get(..MAX_SLICES).unwrap_or(bufs);
        loop {
            ready!(stream.poll_write_ready(cx))?;
            let sent = stream.try_send(|| platform::send(stream, bufs));
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

/// What writes to a socket, by Tokio's means.
pub(crate) trait Outlet: AsyncWrite + Unpin {
    type Stream: Watched;

    fn stream(&self) -> &Self::Stream;
}

impl Outlet for tcp::OwnedWriteHalf {
    type Stream = TcpStream;

    fn stream(&self) -> &TcpStream {
        self.as_ref()
    }
}

/// A socket that Tokio watches.
pub(crate) trait Watched: AsSocket {
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Notes if the socket turns out to be full.
    fn try_send(&self, send: impl FnOnce() -> io::Result<usize>) -> io::Result<usize>;
}

impl Watched for TcpStream {
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }

    fn try_send(&self, send: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, send)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixStream};

    use super::*;
    use crate::transport::testing::alone;

    async fn tcp_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap());
        let (ours, theirs) = tokio::join!(ours, listener.accept());
        (ours.unwrap(), theirs.unwrap().0)
    }

    /// Writes until it fails: TCP takes some before it knows that the peer is gone.
    async fn last_error(writer: &mut (impl AsyncWrite + Unpin), slices: usize) -> io::Error {
        loop {
            let bufs = vec![IoSlice::new(b"x"); slices];
            let written = match slices {
                1 => writer.write(b"x").await,
                _ => writer.write_vectored(&bufs).await,
            };
            match written {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) => return error,
            }
        }
    }

    /// Whether SIGPIPE waits for this thread.
    fn signalled() -> bool {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let pending = status.lines().find_map(|line| line.strip_prefix("SigPnd:"));
        let pending = u64::from_str_radix(pending.unwrap().trim(), 16).unwrap();
        pending & 1 << 12 != 0
    }

    #[test]
    fn k47_lost_peer_is_an_error_and_no_signal() {
        let name = "transport::socket::tests::k47_lost_peer_is_an_error_and_no_signal";
        // Signals that are blocked are kept even though the runtime of Rust ignores this one.
        if !alone(name, &["--block-signal=PIPE"]) {
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            for slices in [1, 2] {
                let (tcp, unix) = (tcp_pair().await.0, UnixStream::pair().unwrap().0);
                for error in [
                    last_error(&mut Transport::from(Socket(tcp)).write, slices).await,
                    last_error(&mut Transport::from(Socket(unix)).write, slices).await,
                ] {
                    assert_eq!(error.raw_os_error(), Some(32));
                }
            }
            assert!(!signalled());

            // So it does not go without saying.
            let mut plain = UnixStream::pair().unwrap().0;
            last_error(&mut plain, 2).await;
            assert!(signalled());
        });
    }

    #[tokio::test]
    async fn slices_beyond_the_limit_are_left_for_later() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut ours = Transport::from(Socket(ours)).write;
        assert!(ours.is_write_vectored());
        let bufs = vec![IoSlice::new(b"abc"); MAX_SLICES + 1];
        let sent = ours.write_vectored(&bufs).await.unwrap();
        assert_eq!(sent, MAX_SLICES * 3);
        drop(ours);
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"abc".repeat(MAX_SLICES));
    }

    #[tokio::test]
    async fn full_socket_is_waited_for_and_closed_by_halves() {
        let data = (0..=255).cycle().take(4_000_000).collect::<Vec<u8>>();
        let (tcp, tcp_peer) = tcp_pair().await;
        let (unix, unix_peer) = UnixStream::pair().unwrap();
        let pairs: [(Transport, Transport); 2] = [
            (Socket(tcp).into(), Socket(tcp_peer).into()),
            (Socket(unix).into(), Socket(unix_peer).into()),
        ];
        for (ours, theirs) in pairs {
            let mut theirs = theirs.join();
            let Transport {
                read: mut reader,
                write: mut writer,
                ..
            } = ours;
            let mut received = Vec::new();
            let writing = async {
                writer.write_all(&data).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let reading = theirs.read_to_end(&mut received);
            tokio::join!(writing, reading).1.unwrap();
            assert!(received == data);

            theirs.write_all(b"late").await.unwrap();
            drop(theirs);
            let mut late = String::new();
            reader.read_to_string(&mut late).await.unwrap();
            assert_eq!(late, "late");
        }
    }
}
