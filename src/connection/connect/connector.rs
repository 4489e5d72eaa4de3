//! Ways to connect as values.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::Connecting;
#[cfg(unix)]
use super::program::{IntoCommand, IntoProgram, Runnable};
use super::way::open_late;
use crate::connection::{Builder, Connection};
use crate::driver;
use crate::error::{Error, Phase, Result};
use crate::transport::Transport;
#[cfg(unix)]
use crate::transport::program::Program;
use crate::uri::{Endpoint, Uri};

/// A way to connect to a server, as a value that can be used again.
///
/// [`Builder::connect`] and [`Connection::connect_to`] take a connector. The options of the
/// connection are those of the [`Builder`]; only a URI has an export name and TLS settings of its
/// own.
///
/// # Examples
/// ```no_run
/// use nbd_client::{Connection, Connector};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nbd_client::Result<()> {
/// let builder = Connection::builder().export_name("disk0");
/// let server = Connector::tcp("storage", 10809);
/// let first = builder.connect(&server).await?;
/// let second = builder.connect(&server).await?; // another connection to the same server
/// # drop((first, second));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Connector(How);

#[derive(Clone)]
enum How {
    Uri(Box<Uri>),
    Endpoint(Endpoint),
    #[cfg(unix)]
    Command(Program),
    #[cfg(unix)]
    CommandWith(Arc<dyn Fn() -> Runnable + Send + Sync>),
    #[cfg(unix)]
    SocketActivation(Program),
    Stream(Closure<Transport>),
    Address(Closure<Endpoint>),
}

/// An asynchronous closure that can be called again.
type Closure<T> = Arc<dyn Fn() -> Opening<T> + Send + Sync>;
type Opening<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

impl Connector {
    /// Connects to the server and export that a URI names, as [`Connection::connect_uri`] does. A
    /// connector can also be made from the text of a URI by `TryFrom`.
    #[must_use]
    pub fn uri(uri: Uri) -> Self {
        Self(How::Uri(Box::new(uri)))
    }

    /// Connects to an address. A connector can also be made from a [`SocketAddr`] by `From`.
    #[must_use]
    pub const fn endpoint(endpoint: Endpoint) -> Self {
        Self(How::Endpoint(endpoint))
    }

    /// Connects to a TCP port, as [`Connection::connect_tcp`] does.
    #[must_use]
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        let host = host.into();
        Self::endpoint(Endpoint::Tcp { host, port })
    }

    /// Connects to a Unix socket, as `Connection::connect_unix` does.
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::endpoint(Endpoint::Unix { path })
    }

    /// Runs a server as child process for each connection, as `Connection::connect_command` does:
    /// a list of the program and its arguments, or a [`Program`], which has an environment, a
    /// directory and a user as well.
    #[cfg(unix)]
    #[must_use]
    pub fn command<Kind>(server: impl IntoProgram<Kind>) -> Self {
        Self(How::Command(server.into_program()))
    }

    /// Calls `make` for each connection to get the command of a server, which is run as
    /// `Connection::connect_command` does.
    ///
    /// This is for what a [`Program`] cannot say, and for arguments that change. A `Command` of `std`
    /// or Tokio can be run once only, since it has no clone.
    ///
    /// ```no_run
    /// use nbd_client::{Connection, Connector};
    /// use tokio::process::Command;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// let connector = Connector::command_with(|| {
    ///     let mut command = Command::new("nbdkit");
    ///     command.args(["-s", "memory", "1M"]).env_clear();
    ///     command
    /// });
    /// let conn = Connection::builder().connect(&connector).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(unix)]
    #[must_use]
    pub fn command_with<Kind, C: IntoCommand<Kind>>(
        make: impl Fn() -> C + Send + Sync + 'static,
    ) -> Self {
        Self(How::CommandWith(Arc::new(move || make().into_runnable())))
    }

    /// Runs a server as child process for each connection, and gives it a listening socket, as
    /// `Connection::connect_systemd_socket_activation` does: a list of the program and its
    /// arguments, or a [`Program`].
    #[cfg(unix)]
    #[must_use]
    pub fn socket_activation<Kind>(server: impl IntoProgram<Kind>) -> Self {
        Self(How::SocketActivation(server.into_program()))
    }

    /// Calls `open` for each connection, and takes over the byte stream that it returns.
    ///
    /// An error of the closure ends the attempt with [`Error::Disconnected`]. The deadline of the
    /// handshake covers the closure.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # use nbd_client::testing;
    /// use std::sync::Arc;
    /// use nbd_client::{Connection, Connector};
    ///
    /// let server = Arc::new(testing::Server::new(testing::Export::new(1 << 20)));
    /// let connector = Connector::stream(move || {
    ///     let server = server.clone();
    ///     async move { Ok(server.connect()) }
    /// });
    /// let conn = Connection::builder().connect(&connector).await?;
    /// assert_eq!(conn.size()?, 1 << 20);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn stream<F, R, S>(open: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self(How::Stream(Arc::new(move || {
            let stream = open();
            Box::pin(async move { Ok(Transport::foreign(stream.await?)) })
        })))
    }

    /// Returns whether each connection has a server of its own, which knows nothing of the others.
    pub(crate) const fn is_private(&self) -> bool {
        match &self.0 {
            #[cfg(unix)]
            How::Command(_) | How::CommandWith(_) => true,
            #[cfg(unix)]
            How::SocketActivation(_) => !cfg!(target_os = "linux"),
            _ => false,
        }
    }

    /// Calls `find` for each connection to get the address of the server. This is for ports and
    /// sockets that change, or that are not known in advance.
    ///
    /// An `ssh` address is refused, since it is a command. An error of the closure ends the attempt
    /// with [`Error::Disconnected`]. The deadline of the handshake covers the closure.
    #[must_use]
    pub fn address<F, R>(find: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = io::Result<Endpoint>> + Send + 'static,
    {
        Self(How::Address(Arc::new(move || Box::pin(find()))))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector::")?;
        match &self.0 {
            How::Uri(uri) => f.debug_tuple("uri").field(uri).finish(),
            How::Endpoint(endpoint) => f.debug_tuple("endpoint").field(endpoint).finish(),
            #[cfg(unix)]
            How::Command(program) => f.debug_tuple("command").field(program).finish(),
            #[cfg(unix)]
            How::CommandWith(_) => f.write_str("command_with(_)"),
            #[cfg(unix)]
            How::SocketActivation(program) => {
                f.debug_tuple("socket_activation").field(program).finish()
            }
            How::Stream(_) => f.write_str("stream(_)"),
            How::Address(_) => f.write_str("address(_)"),
        }
    }
}

impl From<Uri> for Connector {
    fn from(uri: Uri) -> Self {
        Self::uri(uri)
    }
}

impl From<Endpoint> for Connector {
    fn from(endpoint: Endpoint) -> Self {
        Self::endpoint(endpoint)
    }
}

impl From<&Self> for Connector {
    fn from(connector: &Self) -> Self {
        connector.clone()
    }
}

impl From<SocketAddr> for Connector {
    fn from(address: SocketAddr) -> Self {
        Self::endpoint(address.into())
    }
}

impl From<&Endpoint> for Connector {
    fn from(endpoint: &Endpoint) -> Self {
        Self::endpoint(endpoint.clone())
    }
}

impl From<&Uri> for Connector {
    fn from(uri: &Uri) -> Self {
        Self::uri(uri.clone())
    }
}

/// Implements the conversion from text, which is that of a URI.
macro_rules! from_text {
    ($($text:ty),*) => {$(
        impl TryFrom<$text> for Connector {
            type Error = Error;

            fn try_from(uri: $text) -> Result<Self> {
                Ok(Self::uri(Uri::try_from(uri)?))
            }
        }
    )*};
}

from_text!(&str, String, &String, &OsStr, OsString, &OsString);

impl Builder {
    /// Creates a connection and connects it: to the server and export that a URI names, to a
    /// [`SocketAddr`] or an [`Endpoint`], or by a [`Connector`].
    ///
    /// ```no_run
    /// use nbd_client::{Connection, context};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// let conn = Connection::builder()
    ///     .meta_context(context::BASE_ALLOCATION)
    ///     .connect("nbd://example.com/disk0")
    ///     .await?;
    /// println!("{} bytes", conn.size()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Connection::aio_connect_to`], and if the connection or the handshake fails.
    ///
    /// # Cancel safety
    /// Dropping the future stops the attempt.
    #[doc(alias = "nbd_connect_uri")]
    pub async fn connect<T>(&self, server: T) -> Result<Connection>
    where
        T: TryInto<Connector, Error: Into<Error>>,
    {
        let connection = self.clone().build();
        let connecting = connection.aio_connect_to(server)?;
        connecting.await?;
        Ok(connection)
    }
}

impl Builder {
    /// Creates a connection to the server process of another one, if that listens.
    #[cfg(unix)]
    pub(crate) async fn connect_beside(&self, other: &Connection) -> Option<Result<Connection>> {
        let connection = self.clone().build();
        let connected = match connection.aio_connect_beside(other)? {
            Ok(connecting) => connecting.await,
            Err(error) => Err(error),
        };
        Some(connected.map(|()| connection))
    }

    /// The same on a system without child processes.
    #[cfg(not(unix))]
    pub(crate) async fn connect_beside(&self, _: &Connection) -> Option<Result<Connection>> {
        None
    }
}

impl Connection {
    /// Begins to connect by a [`Connector`]. This does the same as the call that the documentation
    /// of its constructor names.
    ///
    /// # Errors
    /// The errors of that call.
    pub fn aio_connect_to<T>(&self, server: T) -> Result<Connecting>
    where
        T: TryInto<Connector, Error: Into<Error>>,
    {
        let Connector(how) = server.try_into().map_err(Into::into)?;
        match how {
            How::Uri(uri) => self.aio_connect_uri(*uri),
            How::Endpoint(endpoint) => self.aio_connect_endpoint(endpoint),
            #[cfg(unix)]
            How::Command(program) => self.aio_connect_command(program),
            #[cfg(unix)]
            How::CommandWith(make) => self.aio_connect_command(make()),
            #[cfg(unix)]
            How::SocketActivation(program) => self.aio_connect_systemd_socket_activation(program),
            How::Stream(open) => {
                self.check_created()?;
                self.inner().tls().check(None)?;
                self.begin(async move { open().await.map_err(unopened) })
            }
            How::Address(find) => {
                self.check_created()?;
                driver::runtime::check_io()?;
                let inner = self.inner().clone();
                self.begin(async move {
                    let endpoint = find().await.map_err(unopened)?;
                    open_late(endpoint, &inner).await
                })
            }
        }
    }

    /// Connects by a [`Connector`]; see [`aio_connect_to`](Self::aio_connect_to).
    ///
    /// # Errors
    /// As there, and if the connection or the handshake fails.
    pub async fn connect_to<T>(&self, server: T) -> Result<()>
    where
        T: TryInto<Connector, Error: Into<Error>>,
    {
        let connecting = self.aio_connect_to(server)?;
        connecting.await
    }
}

fn unopened(error: io::Error) -> Error {
    Error::io(Phase::Connect, error)
}
