//! The ways to connect.
//!
//! Each comes twice: `aio_connect_*` begins and returns a future that may be dropped,
//! `connect_*` begins and waits.

mod connecting;
mod socket;
mod tls;
mod uri;

use std::any::Any;
use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};

pub use connecting::Connecting;
pub use socket::IntoSocket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::connection::Connection;
use crate::driver::{self, Address};
use crate::error::{Error, Result};
use crate::runtime;
use crate::state::State;
use crate::transport::child::Child;
use crate::transport::command::{self, Group};
use crate::transport::socket::Socket;
use crate::transport::{Foreign, Stream, activation, fd, tcp, unix};
use crate::uri::Endpoint;

/// Connecting. Allowed once, on a new handle; in any other state each of these calls fails with
/// an error that names the state, and changes nothing.
///
/// An argument that cannot be used, or the lack of a Tokio runtime whose time is enabled (and,
/// but for a stream, its I/O), is an error that leaves the handle [`Created`](State::Created). Any
/// failure after that leaves it [`Dead`](State::Dead). The whole attempt has one deadline, see
/// [`handshake_timeout`](crate::Builder::handshake_timeout).
///
/// # Cancel safety
///
/// Dropping one of these futures before it is done stops the attempt only if it was the last
/// that held the connection.
impl Connection {
    /// Runs a server as child process and begins to connect over its standard input and output.
    ///
    /// `argv` is the program, looked up in `PATH`, and its arguments; no shell is involved. The
    /// server gets one end of a Unix socket pair as its standard input and output (as inetd
    /// would give it), and what it writes to its standard error goes to ours.
    ///
    /// The server leads a process group of its own, and must stay in the foreground. When the
    /// connection ends, in whatever way, the server sees the end of its input; if it does not exit
    /// within half a second, its group gets SIGTERM, and later SIGKILL, see
    /// [`child_kill_delay`](crate::Builder::child_kill_delay). It is always reaped. When it exits,
    /// the connection ends, even if a process that it has started still has the socket, and what is
    /// left of its group is ended in the same way.
    ///
    /// To a terminal, the server is a process in the background: Ctrl-C and Ctrl-Z do not reach it,
    /// and it is stopped if it reads from the terminal, as to ask for a password. If Ctrl-C ends
    /// your program, the server sees the end of its input; if your program goes on, drop the
    /// connection, or [disconnect](Self::disconnect), to end the server.
    ///
    /// What it says until the handshake is done is held back: if the attempt fails, the last 4 KiB
    /// are part of the error, with its exit status if it has exited; if not, they are copied then.
    /// See also [`child_stderr`](Self::child_stderr).
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// let conn = nbd_client::Connection::new();
    /// let connecting = conn.aio_connect_command(["nbdkit", "-s", "memory", "1M"])?;
    /// assert!(conn.is_connecting());
    /// connecting.await?;
    /// assert!(conn.is_ready());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the handle is not new, there is no runtime, `argv` is empty or contains NUL, or the
    /// program cannot be started.
    pub fn aio_connect_command<I>(&self, argv: I) -> Result<Connecting>
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        self.prepare()?;
        let argv = command::check(argv)?;
        self.shared().begin()?;
        let delay = self.shared().config.child_kill_delay;
        self.start_child(command::spawn(argv, Group::Own, delay))
    }

    /// Runs a server as child process and connects over its standard input and output; see
    /// [`aio_connect_command`](Self::aio_connect_command).
    ///
    /// # Errors
    /// As there, and if the handshake fails.
    pub async fn connect_command<I>(&self, argv: I) -> Result<()>
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let connecting = self.aio_connect_command(argv)?;
        connecting.await
    }

    /// Takes over a connected stream socket and begins the handshake on it.
    ///
    /// Any family will do: TCP, Unix, vsock, one end of a socket pair; [`IntoSocket`] says what
    /// may hold it. The descriptor is ours from here on, also on failure: it is closed when the
    /// connection ends. It is made non-blocking and close-on-exec, and TCP sends small messages
    /// at once (`TCP_NODELAY`); all but close-on-exec is shared with duplicates of the descriptor.
    ///
    /// # Errors
    /// If the handle is not new, there is no runtime, the runtime of a Tokio stream does not let
    /// go of it, or the descriptor is not a connected stream socket; the error says what it is.
    pub fn aio_connect_socket(&self, socket: impl IntoSocket) -> Result<Connecting> {
        self.prepare()?;
        let unusable = |error: io::Error| Error::argument("socket", error.to_string());
        let stream = fd::adopt(socket.into_descriptor().map_err(unusable)?)?;
        self.begin(async { Ok(stream) })
    }

    /// Takes over a connected stream socket and returns once the handshake is done, or in option
    /// mode when options can be sent; see [`aio_connect_socket`](Self::aio_connect_socket).
    ///
    /// # Errors
    /// As there, and if the handshake fails.
    pub async fn connect_socket(&self, socket: impl IntoSocket) -> Result<()> {
        let connecting = self.aio_connect_socket(socket)?;
        connecting.await
    }

    /// Takes over any byte stream and begins the handshake on it: a tunnel, a TLS session, one
    /// end of a `tokio::io::duplex`.
    ///
    /// For a socket, [`aio_connect_socket`](Self::aio_connect_socket) is better. A Tokio
    /// `TcpStream` sends small messages at once (`TCP_NODELAY`) from here on, as there; one that
    /// is inside another stream should have been told to, or each request may wait for 40 ms.
    ///
    /// # Errors
    /// If the handle is not new or there is no runtime.
    pub fn aio_connect_stream<S>(&self, stream: S) -> Result<Connecting>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        // Whether I/O is enabled here is up to the stream.
        self.check_created()?;
        self.shared().tls().check(None)?;
        if let Some(tcp) = (&stream as &dyn Any).downcast_ref::<TcpStream>() {
            // P-004. Without it all still works.
            let _ = tcp.set_nodelay(true);
        }
        let stream: Box<dyn Stream> = Box::new(Foreign(stream));
        self.begin(async { Ok(stream) })
    }

    /// Takes over any byte stream and returns once the handshake is done; see
    /// [`aio_connect_stream`](Self::aio_connect_stream).
    ///
    /// # Errors
    /// If the handle is not new, there is no runtime, or the handshake fails.
    pub async fn connect_stream<S>(&self, stream: S) -> Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let connecting = self.aio_connect_stream(stream)?;
        connecting.await
    }

    /// Begins to connect to a Unix socket.
    ///
    /// A path that begins with a NUL byte is an abstract name, on Linux. A server whose backlog is
    /// full is tried again until the deadline.
    ///
    /// # Errors
    /// If the handle is not new, there is no runtime, or the path cannot be that of a socket.
    pub fn aio_connect_unix(&self, path: impl AsRef<Path>) -> Result<Connecting> {
        self.prepare()?;
        let path = path.as_ref().to_owned();
        unix::check(&path)?;
        self.shared().begin()?;
        let endpoint = Endpoint::Unix { path: path.clone() };
        self.set_address(Address::Endpoint(endpoint));
        Ok(self.start_unix(path))
    }

    /// Connects to a Unix socket; see [`aio_connect_unix`](Self::aio_connect_unix).
    ///
    /// # Errors
    /// As there, and if the connection or the handshake fails.
    pub async fn connect_unix(&self, path: impl AsRef<Path>) -> Result<()> {
        let connecting = self.aio_connect_unix(path)?;
        connecting.await
    }

    /// Begins to connect to a TCP port; the registered port of NBD is 10809.
    ///
    /// The name is looked up without blocking, and its addresses are tried side by side, IPv6
    /// and IPv4 in turn, a quarter of a second apart.
    ///
    /// # Errors
    /// If the handle is not new, there is no runtime, or the host is empty.
    pub fn aio_connect_tcp(&self, host: &str, port: u16) -> Result<Connecting> {
        self.prepare_for(Some(host))?;
        if host.is_empty() {
            return Err(Error::argument("host", "it is empty"));
        }
        self.shared().begin()?;
        self.shared().lock_tls().server_name = Some(host.to_owned());
        self.set_address(Address::Endpoint(Endpoint::Tcp {
            host: tcp::unbracketed(host).to_owned(),
            port,
        }));
        Ok(self.start_tcp(host.to_owned(), port))
    }

    /// Connects to a TCP port; see [`aio_connect_tcp`](Self::aio_connect_tcp).
    ///
    /// # Errors
    /// As there, and if the connection or the handshake fails.
    pub async fn connect_tcp(&self, host: &str, port: u16) -> Result<()> {
        let connecting = self.aio_connect_tcp(host, port)?;
        connecting.await
    }

    /// Runs a server as child process that takes over a listening socket, and begins to connect
    /// to that: "socket activation", as systemd does it.
    ///
    /// For servers that do not speak on their standard input and output, such as `qemu-nbd`. The
    /// server finds the socket as its descriptor 3, and `LISTEN_PID`, `LISTEN_FDS` and
    /// `LISTEN_FDNAMES` in its environment, the latter as given by
    /// [`socket_activation_name`](crate::Builder::socket_activation_name). Its standard input is
    /// empty. Everything else is as with [`aio_connect_command`](Self::aio_connect_command), but
    /// that the end of the connection tells this server nothing: it gets SIGTERM at once. And if
    /// your program is killed, by Ctrl-C for instance, nothing tells it either: it must look after
    /// that itself, as `nbdkit --exit-with-parent` does, or `qemu-nbd` without `-t`.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// let conn = nbd_client::Connection::new();
    /// conn.connect_systemd_socket_activation(["qemu-nbd", "-f", "qcow2", "disk.qcow2"]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the handle is not new, there is no runtime, `argv` is empty or contains NUL, the name
    /// of the socket cannot be one, or the program cannot be started.
    #[doc(alias = "connect_activation")]
    pub fn aio_connect_systemd_socket_activation<I>(&self, argv: I) -> Result<Connecting>
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        self.prepare()?;
        let argv = command::check(argv)?;
        let name = self.shared().config.socket_name.as_deref();
        activation::check(&argv, name)?;
        self.shared().begin()?;
        let delay = self.shared().config.child_kill_delay;
        self.start_child(activation::spawn(argv, name, delay))
    }

    /// Runs a server as child process that takes over a listening socket, and connects to that;
    /// see [`aio_connect_systemd_socket_activation`](Self::aio_connect_systemd_socket_activation).
    ///
    /// # Errors
    /// As there, and if the handshake fails.
    pub async fn connect_systemd_socket_activation<I>(&self, argv: I) -> Result<()>
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let connecting = self.aio_connect_systemd_socket_activation(argv)?;
        connecting.await
    }

    /// Begins to connect over vsock to the host of this virtual machine, whose `cid` is 2, or to
    /// one of its guests.
    ///
    /// # Errors
    /// If the handle is not new or there is no runtime.
    #[cfg(all(feature = "vsock", target_os = "linux"))]
    pub fn aio_connect_vsock(&self, cid: u32, port: u32) -> Result<Connecting> {
        self.prepare()?;
        self.shared().begin()?;
        self.set_address(Address::Endpoint(Endpoint::Vsock { cid, port }));
        Ok(self.start_vsock(cid, port))
    }

    /// Connects over vsock; see [`aio_connect_vsock`](Self::aio_connect_vsock).
    ///
    /// # Errors
    /// As there, and if the connection or the handshake fails.
    #[cfg(all(feature = "vsock", target_os = "linux"))]
    pub async fn connect_vsock(&self, cid: u32, port: u32) -> Result<()> {
        let connecting = self.aio_connect_vsock(cid, port)?;
        connecting.await
    }

    /// Checks everything but the argument, before anything is done.
    fn prepare(&self) -> Result<()> {
        self.prepare_for(None)
    }

    /// The same for a server of this name.
    fn prepare_for(&self, host: Option<&str>) -> Result<()> {
        self.check_created()?;
        runtime::check_io()?;
        self.shared().tls().check(host)
    }

    /// Checks what has nothing to do with the server.
    fn check_created(&self) -> Result<()> {
        let state = self.state();
        if state != State::Created {
            return Err(Error::state(state, "created"));
        }
        runtime::check_time("connect calls must be made inside one")?;
        self.check_names()
    }

    fn begin(
        &self,
        open: impl Future<Output = Result<Box<dyn Stream>>> + Send + 'static,
    ) -> Result<Connecting> {
        self.shared().begin()?;
        Ok(self.start(open))
    }

    fn set_address(&self, address: Address) {
        self.shared().lock_facts().address = Some(address);
    }

    fn start_tcp(&self, host: String, port: u16) -> Connecting {
        let options = self.shared().config.tcp.clone();
        self.start(async move {
            let stream = tcp::connect(&host, port, &options).await?;
            Ok(Box::new(stream) as _)
        })
    }

    fn start_unix(&self, path: PathBuf) -> Connecting {
        self.start(async move {
            let stream = unix::connect(&path).await?;
            Ok(Box::new(stream) as _)
        })
    }

    #[cfg(all(feature = "vsock", target_os = "linux"))]
    fn start_vsock(&self, cid: u32, port: u32) -> Connecting {
        self.start(crate::transport::vsock::connect(cid, port))
    }

    /// Goes on with a server that was started, or not.
    fn start_child(&self, spawned: Result<(Socket<UnixStream>, Child)>) -> Result<Connecting> {
        match spawned {
            Ok((stream, child)) => {
                let open = async { Ok(Box::new(stream) as _) };
                driver::spawn(self.shared().clone(), Some(child), open);
                Ok(Connecting::new(self.shared().clone()))
            }
            Err(error) => {
                self.shared().end(State::Dead, error.clone());
                Err(error)
            }
        }
    }

    fn start(
        &self,
        open: impl Future<Output = Result<Box<dyn Stream>>> + Send + 'static,
    ) -> Connecting {
        driver::spawn(self.shared().clone(), None, open);
        Connecting::new(self.shared().clone())
    }
}
