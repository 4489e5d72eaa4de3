//! What callers hold a connected socket in.

use std::io;

use crate::platform::OwnedSocket;

/// Something that holds a socket: a stream of `std` or of Tokio, a socket of `socket2`, or a
/// descriptor (on Windows, an `OwnedSocket`). Sealed: these are all, and others become one of them
/// first.
///
/// For [`Connection::connect_socket`](crate::Connection::connect_socket). A stream of Tokio's is
/// taken from its runtime and may go to another one.
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
        /// Gives up the descriptor. It is closed on failure.
        fn into_descriptor(self) -> io::Result<OwnedSocket>;
    }
}

/// Says how each type gives up its descriptor.
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
    // Its runtime may be gone, or refuse to let go of it.
    tokio::net::TcpStream => |stream| Ok(stream.into_std()?.into()),
);

#[cfg(unix)]
sockets!(
    std::os::unix::net::UnixStream => |stream| Ok(stream.into()),
    tokio::net::UnixStream => |stream| Ok(stream.into_std()?.into()),
);
