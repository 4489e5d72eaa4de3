//! The ways to connect.
//!
//! Each way has two calls: `aio_connect_*` begins, and returns a future that may be dropped;
//! `connect_*` begins, and waits.

#[cfg(unix)]
mod child;
mod connecting;
mod connector;
#[cfg(unix)]
mod program;
mod socket;
#[cfg(unix)]
mod unix;
mod uri;
mod uri_tls;
mod way;

use std::future::Future;
use std::io;
use std::net::SocketAddr;

pub use connecting::Connecting;
pub use connector::Connector;
#[cfg(unix)]
pub use program::{IntoCommand, IntoProgram};
pub use socket::IntoSocket;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::Connection;
use crate::driver;
use crate::driver::runtime;
use crate::error::{Error, InvalidUse, Reason, Result};
use crate::state::State;
use crate::transport::{Transport, fd};
use crate::uri::Endpoint;

/// Connecting. A handle can be connected once. In any other state than
/// [`Created`](State::Created), each of these calls fails with an error that names the state, and
/// changes nothing.
///
/// An invalid argument is an error that leaves the handle `Created`. So is the lack of a Tokio
/// runtime with time enabled, and, except for a stream, I/O. Any failure after that leaves the
/// handle [`Dead`](State::Dead). The whole attempt has one deadline, see
/// [`handshake_timeout`](crate::Builder::handshake_timeout).
///
/// # Cancel safety
///
/// Dropping one of these futures stops the attempt only if the future held the last handle of the
/// connection.
impl Connection {
    /// Takes over a connected stream socket, and begins the handshake on it.
    ///
    /// The socket can be of any family: TCP, Unix, vsock, one end of a socket pair; [`IntoSocket`]
    /// lists the types that can hold it. The call takes ownership of the descriptor, and closes it
    /// on failure. The socket becomes non-blocking and close-on-exec, and TCP sends small messages
    /// at once (`TCP_NODELAY`). Duplicates of the descriptor share all of this except
    /// close-on-exec.
    ///
    /// # Errors
    /// If the handle is not new, there is no runtime, the runtime of a Tokio stream cannot
    /// deregister it, or the descriptor is not a connected stream socket; the error says what it is.
    #[doc(alias = "nbd_aio_connect_socket")]
    pub fn aio_connect_socket(&self, socket: impl IntoSocket) -> Result<Connecting> {
        self.prepare()?;
        let unusable = |error: io::Error| InvalidUse::Socket(Reason(&error).to_string());
        let stream = fd::adopt(socket.into_descriptor().map_err(unusable)?)?;
        self.begin(async { Ok(stream) })
    }

    /// Takes over a connected stream socket and returns once the handshake is done, or in option
    /// mode when options can be sent; see [`aio_connect_socket`](Self::aio_connect_socket).
    ///
    /// # Errors
    /// As there, and if the handshake fails.
    #[doc(alias = "nbd_connect_socket")]
    pub async fn connect_socket(&self, socket: impl IntoSocket) -> Result<()> {
        let connecting = self.aio_connect_socket(socket)?;
        connecting.await
    }

    /// Takes over any byte stream, and begins the handshake on it: a tunnel, a TLS session, one end
    /// of a `tokio::io::duplex`.
    ///
    /// For a socket, [`aio_connect_socket`](Self::aio_connect_socket) is better. `TCP_NODELAY` is
    /// set on a Tokio `TcpStream`, as there. Set it yourself on a `TcpStream` inside another stream;
    /// otherwise each request may wait for 40 ms.
    ///
    /// # Errors
    /// If the handle is not new or there is no runtime.
    #[doc(alias = "nbd_aio_connect_socket")]
    pub fn aio_connect_stream<S>(&self, stream: S) -> Result<Connecting>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        // The stream may need no I/O of the runtime.
        self.check_created()?;
        self.inner().tls().check(None)?;
        let transport = Transport::foreign(stream);
        self.begin(async { Ok(transport) })
    }

    /// Takes over any byte stream and returns once the handshake is done; see
    /// [`aio_connect_stream`](Self::aio_connect_stream).
    ///
    /// # Errors
    /// If the handle is not new, there is no runtime, or the handshake fails.
    #[doc(alias = "nbd_connect_socket")]
    pub async fn connect_stream<S>(&self, stream: S) -> Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let connecting = self.aio_connect_stream(stream)?;
        connecting.await
    }

    /// Begins to connect to a TCP port; the registered port of NBD is 10809.
    ///
    /// The name is looked up without blocking. Its addresses are tried side by side, IPv6 and IPv4
    /// in turn, a quarter of a second apart.
    ///
    /// # Errors
    /// If the handle is not new, there is no runtime, or the host is empty.
    #[doc(alias = "nbd_aio_connect_tcp")]
    pub fn aio_connect_tcp(&self, host: &str, port: u16) -> Result<Connecting> {
        let host = host.to_owned();
        self.aio_connect_endpoint(Endpoint::Tcp { host, port })
    }

    /// Connects to a TCP port; see [`aio_connect_tcp`](Self::aio_connect_tcp).
    ///
    /// # Errors
    /// As there, and if the connection or the handshake fails.
    #[doc(alias = "nbd_connect_tcp")]
    pub async fn connect_tcp(&self, host: &str, port: u16) -> Result<()> {
        let connecting = self.aio_connect_tcp(host, port)?;
        connecting.await
    }

    /// Begins to connect to an address, without any lookup of names.
    ///
    /// [`bind_address`](crate::Builder::bind_address) and
    /// [`address_family`](crate::Builder::address_family) apply as for
    /// [`aio_connect_tcp`](Self::aio_connect_tcp). With TLS, the certificate must be for the IP
    /// address, unless a name is set.
    ///
    /// ```
    /// # use nbd_client::testing;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use nbd_client::Connection;
    ///
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let listening = server.listen_tcp("127.0.0.1:0").await?;
    /// # let address = listening.local_addr();
    /// let conn = Connection::new();
    /// conn.connect_addr(address).await?;
    /// assert_eq!(conn.peer_addr(), Some(address));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the handle is not new or there is no runtime.
    #[doc(alias = "nbd_aio_connect")]
    pub fn aio_connect_addr(&self, address: impl Into<SocketAddr>) -> Result<Connecting> {
        self.aio_connect_endpoint(address.into().into())
    }

    /// Connects to an address; see [`aio_connect_addr`](Self::aio_connect_addr).
    ///
    /// # Errors
    /// As there, and if the connection or the handshake fails.
    pub async fn connect_addr(&self, address: impl Into<SocketAddr>) -> Result<()> {
        let connecting = self.aio_connect_addr(address)?;
        connecting.await
    }

    /// Begins to connect over vsock to the host of this virtual machine, whose `cid` is 2, or to
    /// one of its guests.
    ///
    /// # Errors
    /// If the handle is not new or there is no runtime.
    #[doc(alias = "nbd_aio_connect_vsock")]
    #[cfg(all(feature = "vsock", target_os = "linux"))]
    pub fn aio_connect_vsock(&self, cid: u32, port: u32) -> Result<Connecting> {
        self.aio_connect_endpoint(Endpoint::Vsock { cid, port })
    }

    /// Connects over vsock; see [`aio_connect_vsock`](Self::aio_connect_vsock).
    ///
    /// # Errors
    /// As there, and if the connection or the handshake fails.
    #[doc(alias = "nbd_connect_vsock")]
    #[cfg(all(feature = "vsock", target_os = "linux"))]
    pub async fn connect_vsock(&self, cid: u32, port: u32) -> Result<()> {
        let connecting = self.aio_connect_vsock(cid, port)?;
        connecting.await
    }

    /// Makes all checks except those of the argument.
    fn prepare(&self) -> Result<()> {
        self.prepare_for(None)
    }

    /// Makes all checks except those of the argument, for a server of this name.
    fn prepare_for(&self, host: Option<&str>) -> Result<()> {
        self.check_created()?;
        runtime::check_io()?;
        self.inner().tls().check(host)
    }

    /// Checks the state, the runtime and the configured names.
    fn check_created(&self) -> Result<()> {
        let state = self.state();
        if state != State::Created {
            return Err(Error::state(state, "created"));
        }
        runtime::check_time("connecting requires a Tokio runtime")?;
        self.check_names()
    }

    fn begin(
        &self,
        open: impl Future<Output = Result<Transport>> + Send + 'static,
    ) -> Result<Connecting> {
        self.inner().begin()?;
        Ok(self.start(open))
    }

    fn start(&self, open: impl Future<Output = Result<Transport>> + Send + 'static) -> Connecting {
        driver::spawn(self.inner().clone(), None, open);
        Connecting::new(self.inner().clone())
    }
}
