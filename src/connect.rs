//! The ways to connect.
//!
//! Each comes twice: `aio_connect_*` begins and returns a future that may be dropped,
//! `connect_*` begins and waits.

use std::ffi::OsStr;
use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::{Connection, State};
use crate::driver::{self, Address, Shared};
use crate::error::{Error, InvalidRequest, Result};
use crate::transport::command::Argv;
use crate::transport::{Foreign, Stream, Transport, command, fd, tcp, unix};
use crate::uri::{Endpoint, Uri};

/// An attempt to connect that is under way.
///
/// Resolves when the handshake is done, or in option mode when options can be sent; or with the
/// error that ended the attempt. The attempt goes on if this is dropped: drop the last
/// [`Connection`] to stop it.
#[must_use = "await this, or watch the state of the connection"]
pub struct Connecting(Pin<Box<dyn Future<Output = Result<()>> + Send>>);

impl Connecting {
    fn new(shared: Arc<Shared>) -> Self {
        Self(Box::pin(async move {
            let state = shared.reach(|state| *state != State::Connecting).await;
            match (state, shared.ended()) {
                (_, Some(error)) => Err(error.clone()),
                _ => Ok(()),
            }
        }))
    }
}

impl Future for Connecting {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Connecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connecting").finish_non_exhaustive()
    }
}

/// Connecting. Allowed once, on a new handle; in any other state each of these calls fails with
/// an error that names the state, and changes nothing.
///
/// An argument that cannot be used, or the lack of a Tokio runtime, is an error that leaves the
/// handle [`Created`](State::Created). Any failure after that leaves it [`Dead`](State::Dead).
/// The whole attempt has one deadline, see
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
    /// would give it), and what it writes to its standard error goes to ours. When the
    /// connection ends, in whatever way, the server sees the end of its input; if it does not
    /// exit, it gets SIGTERM, and SIGKILL two seconds later. It is always reaped.
    ///
    /// If the server ends before the handshake is done, the error says its exit status and the
    /// last 4 KiB of what it wrote to its standard error.
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
        self.start_command(argv)
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
    /// Any family will do: TCP, Unix, vsock, one end of a socket pair. The descriptor is ours
    /// from here on, also on failure: it is closed when the connection ends. It is made
    /// non-blocking and close-on-exec; the former is shared with duplicates of the descriptor.
    ///
    /// # Errors
    /// If the handle is not new, there is no runtime, or the descriptor is not a connected
    /// stream socket; the error says what it is.
    pub fn aio_connect_socket(&self, socket: impl Into<OwnedFd>) -> Result<Connecting> {
        let socket = socket.into();
        self.prepare()?;
        let stream = fd::adopt(socket)?;
        self.begin(async {
            Ok(Transport {
                stream,
                child: None,
            })
        })
    }

    /// Takes over a connected stream socket and returns once the handshake is done, or in option
    /// mode when options can be sent; see [`aio_connect_socket`](Self::aio_connect_socket).
    ///
    /// # Errors
    /// As there, and if the handshake fails.
    pub async fn connect_socket(&self, socket: impl Into<OwnedFd>) -> Result<()> {
        let connecting = self.aio_connect_socket(socket)?;
        connecting.await
    }

    /// Takes over any byte stream and begins the handshake on it.
    ///
    /// # Errors
    /// If the handle is not new or there is no runtime.
    pub fn aio_connect_stream<S>(&self, stream: S) -> Result<Connecting>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.prepare()?;
        let stream: Box<dyn Stream> = Box::new(Foreign(stream));
        self.begin(async {
            Ok(Transport {
                stream,
                child: None,
            })
        })
    }

    /// Takes over any byte stream and returns once the handshake is done.
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
    /// A path that begins with a NUL byte is an abstract name. A server whose backlog is full is
    /// tried again until the deadline.
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
        self.prepare()?;
        if host.is_empty() {
            return Err(Error::argument("host", "it is empty"));
        }
        self.shared().begin()?;
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

    /// Makes a connection and connects it to the server and export that a URI names.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// use nbd_client::Connection;
    ///
    /// let conn = Connection::connect("nbd://example.com/disk0").await?;
    /// println!("{} bytes", conn.size()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`aio_connect_uri`](Self::aio_connect_uri), and if the connection or the handshake
    /// fails.
    ///
    /// # Cancel safety
    /// Dropping the future stops the attempt.
    pub async fn connect<U>(uri: U) -> Result<Self>
    where
        U: TryInto<Uri, Error: Into<Error>>,
    {
        let connection = Self::new();
        let connecting = connection.aio_connect_uri(uri)?;
        connecting.await?;
        Ok(connection)
    }

    /// Begins to connect to the server and export that a URI names: a [`Uri`], or text that is
    /// one.
    ///
    /// The URI replaces the export name, by the empty one if it has none. What it may ask for is
    /// up to the [`uri_policy`](crate::Builder::uri_policy) of the handle; by default it says
    /// where the server is, and a URI that would have files read, programs started or TLS
    /// weakened is refused. A refusal comes before anything is resolved, opened or started, and
    /// leaves the handle [`Created`](State::Created).
    ///
    /// `nbd+ssh` runs [`Uri::ssh_command`] as its child process.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use nbd_client::{Connection, UriPolicy};
    ///
    /// let theirs = "nbd+ssh://example.com/disk0";
    /// let conn = Connection::new();
    /// let refusal = conn.aio_connect_uri(theirs).unwrap_err();
    /// assert_eq!(refusal.errno(), Some(1)); // EPERM
    /// assert!(conn.is_created());
    ///
    /// let ours = Connection::builder().uri_policy(UriPolicy::trusted()).build();
    /// # let _ = (ours, theirs);
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the handle is not new, there is no runtime, the text is no NBD URI, the policy does not
    /// allow it, or it needs something that this build cannot do, such as TLS.
    pub fn aio_connect_uri<U>(&self, uri: U) -> Result<Connecting>
    where
        U: TryInto<Uri, Error: Into<Error>>,
    {
        self.prepare()?;
        let uri: Uri = uri.try_into().map_err(Into::into)?;
        self.shared().config.uri_policy.check(&uri)?;
        // U-14
        if uri.is_tls() {
            let why = "this URI asks for TLS, which this build of nbd-client does not have";
            return Err(InvalidRequest::NotBuilt(why).into());
        }
        let ssh = uri.ssh_command().map(command::check).transpose()?;
        if let Endpoint::Vsock { .. } = uri.endpoint() {
            let why = "this URI asks for vsock, which this build of nbd-client does not have";
            return Err(InvalidRequest::NotBuilt(why).into());
        }
        self.shared().begin()?;
        uri.export_name()
            .clone_into(&mut self.shared().lock_wishes().export_name);
        let endpoint = uri.endpoint().clone();
        self.set_address(Address::Uri(Box::new(uri)));
        match (endpoint, ssh) {
            (Endpoint::Tcp { host, port }, _) => Ok(self.start_tcp(host, port)),
            (Endpoint::Unix { path }, _) => Ok(self.start_unix(path)),
            (_, Some(argv)) => self.start_command(argv),
            (_, None) => Err(InvalidRequest::NotBuilt("no way to reach this URI").into()),
        }
    }

    /// Connects to the server and export that a URI names; see
    /// [`aio_connect_uri`](Self::aio_connect_uri).
    ///
    /// # Errors
    /// As there, and if the connection or the handshake fails.
    pub async fn connect_uri<U>(&self, uri: U) -> Result<()>
    where
        U: TryInto<Uri, Error: Into<Error>>,
    {
        let connecting = self.aio_connect_uri(uri)?;
        connecting.await
    }

    /// Checks everything but the argument, before anything is done.
    fn prepare(&self) -> Result<()> {
        let state = self.state();
        if state != State::Created {
            return Err(Error::state(state, "created"));
        }
        if tokio::runtime::Handle::try_current().is_err() {
            let why = "connect calls must be made inside one";
            return Err(InvalidRequest::NoRuntime(why).into());
        }
        self.check_names()
    }

    fn begin(
        &self,
        open: impl Future<Output = Result<Transport>> + Send + 'static,
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
            Ok(Transport {
                stream: Box::new(stream),
                child: None,
            })
        })
    }

    fn start_unix(&self, path: PathBuf) -> Connecting {
        self.start(async move {
            let stream = unix::connect(&path).await?;
            Ok(Transport {
                stream: Box::new(stream),
                child: None,
            })
        })
    }

    fn start_command(&self, argv: Argv) -> Result<Connecting> {
        match command::spawn(argv) {
            Ok((stream, child)) => {
                let transport = Transport {
                    stream: Box::new(stream),
                    child: Some(child),
                };
                Ok(self.start(async { Ok(transport) }))
            }
            Err(error) => {
                self.shared().end(State::Dead, error.clone());
                Err(error)
            }
        }
    }

    fn start(&self, open: impl Future<Output = Result<Transport>> + Send + 'static) -> Connecting {
        driver::spawn(self.shared().clone(), open);
        Connecting::new(self.shared().clone())
    }
}
