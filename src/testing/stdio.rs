//! Serving on the stdin and stdout of the process, as a child of its client.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixStream};

use crate::wire::codec::CodecError;

use super::server::Server;

impl Server {
    /// Serves one client on the stdin and stdout of this process, as a child that was started
    /// with a connected socket there, or with two pipes.
    ///
    /// The descriptors are duplicated and become non-blocking, which this process shares with
    /// whoever else has them: nothing else must use stdin and stdout meanwhile.
    ///
    /// # Errors
    /// If stdin is neither a stream socket nor a pipe, and as for [`serve`](Self::serve).
    pub async fn serve_stdio(&self) -> Result<(), CodecError> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        let output = io::stdout().as_fd().try_clone_to_owned()?;
        match Stdio::open(input, output)? {
            Stdio::Unix(stream) => self.serve(stream).await,
            Stdio::Tcp(stream) => self.serve(stream).await,
            Stdio::Pipes(input, output) => self.serve(tokio::io::join(input, output)).await,
        }
    }
}

/// What stdin and stdout are.
enum Stdio {
    Unix(UnixStream),
    Tcp(TcpStream),
    Pipes(pipe::Receiver, pipe::Sender),
}

impl Stdio {
    fn open(input: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        let socket = StdUnixStream::from(input);
        // Only a Unix socket has a Unix address.
        if socket.local_addr().is_ok() {
            socket.set_nonblocking(true)?;
            return UnixStream::from_std(socket).map(Self::Unix);
        }
        let socket = std::net::TcpStream::from(OwnedFd::from(socket));
        if socket.local_addr().is_ok() {
            socket.set_nonblocking(true)?;
            return TcpStream::from_std(socket).map(Self::Tcp);
        }
        let input = pipe::Receiver::from_owned_fd(OwnedFd::from(socket))?;
        let output = pipe::Sender::from_owned_fd(output)?;
        Ok(Self::Pipes(input, output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[tokio::test]
    async fn sockets_and_pipes_are_told_apart() {
        let (unix, _far) = StdUnixStream::pair().unwrap();
        assert!(matches!(
            Stdio::open(unix.into(), null()),
            Ok(Stdio::Unix(_))
        ));

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(matches!(Stdio::open(tcp.into(), null()), Ok(Stdio::Tcp(_))));

        let (output, input) = pipe::pipe().unwrap();
        let (output, input) = (output.into_blocking_fd(), input.into_blocking_fd());
        let opened = Stdio::open(input.unwrap(), output.unwrap());
        assert!(matches!(opened, Ok(Stdio::Pipes(..))));

        assert!(Stdio::open(null(), null()).is_err());
    }
}
