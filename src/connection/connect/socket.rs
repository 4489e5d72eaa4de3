//! The types that hold a connected socket.

use std::io;

use crate::platform::OwnedSocket;

/// A type that holds a socket, for
/// [`Connection::connect_socket`](crate::Connection::connect_socket): a stream of `std` or Tokio, a
/// socket of `socket2`, or a descriptor (on Windows, an `OwnedSocket`).
///
/// A Tokio stream is taken from its runtime, and may go to another one. The trait is sealed; other
/// types must be converted to one of these.
///
/// # Examples
/// ```
/// # use nbd_client::testing;
/// use nbd_client::Connection;
/// use tokio::net::TcpStream;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = testing::Server::new(testing::Export::new(1 << 20));
/// # let listening = server.listen_tcp("127.0.0.1:0").await?;
/// # let address = listening.local_addr();
/// let stream = TcpStream::connect(address).await?;
/// let conn = Connection::new();
/// conn.connect_socket(stream).await?;
/// # Ok(())
/// # }
/// ```
pub trait IntoSocket: sealed::Sealed + Send + 'static {}

mod sealed {
    use std::io;

    use crate::platform::OwnedSocket;

    #[allow(unnameable_types, reason = "that is what seals it")]
    pub trait Sealed {
        /// Converts the socket to its descriptor. On failure the descriptor is closed.
        fn into_descriptor(self) -> io::Result<OwnedSocket>;
    }
}

/// Implements the conversion of each type to its descriptor.
macro_rules! sockets {
    ($($name:ty => |$socket:ident| $descriptor:expr),* $(,)?) => {$(
        impl sealed::Sealed for $name {
            fn into_descriptor(self) -> io::Result<OwnedSocket> {
                let $socket = self;
                $descriptor
            }
        }

        impl IntoSocket for $name {}
    )*};
}

sockets!(
    OwnedSocket => |descriptor| Ok(descriptor),
    std::net::TcpStream => |stream| Ok(stream.into()),
    socket2::Socket => |socket| Ok(socket.into()),
    // The runtime of the stream may be gone, or refuse to deregister it.
    tokio::net::TcpStream => |stream| Ok(stream.into_std()?.into()),
);

#[cfg(unix)]
sockets!(
    std::os::unix::net::UnixStream => |stream| Ok(stream.into()),
    tokio::net::UnixStream => |stream| Ok(stream.into_std()?.into()),
);
