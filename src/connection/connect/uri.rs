//! Connecting by URI.

#[cfg(unix)]
use std::path::PathBuf;

use super::{Connecting, uri_tls};
use crate::connection::Connection;
use crate::driver::Address;
use crate::driver::runtime;
use crate::error::{Error, Result};
#[cfg(unix)]
use crate::transport::{
    command::{self, Argv, Group},
    unix,
};
use crate::uri::{Endpoint, Uri};

impl Connection {
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
    /// leaves the handle [`Created`](crate::State::Created).
    ///
    /// `nbds` connects with TLS or not at all; `nbd` does as the handle was
    /// [set up](crate::Builder::tls). The URI can name the credentials:
    ///
    /// | Parameter | |
    /// |---|---|
    /// | `tls-certificates=DIR` | certificates, laid out as `TlsConfigBuilder::directory` says |
    /// | `tls-psk-file=FILE` | the pre-shared key of the user in the URI, as `TlsPsk::from_file` says |
    /// | `tls-type` | `x509` or `psk`, if both are named; `anon` is refused |
    /// | `tls-hostname=NAME` | what to check the certificate against instead of the host |
    /// | `tls-verify-peer=0` | any server will do, see `TlsConfigBuilder::danger_accept_any_server` |
    ///
    /// Otherwise those of the handle are used; if it has none either, the authorities that the
    /// system trusts, with the feature `tls-native-roots`. The files are read at once.
    ///
    /// `nbd+ssh` runs [`Uri::ssh_command`] as its child process. Unlike a
    /// [command](Self::aio_connect_command) it stays in the process group of your program, so that
    /// it can ask for a password on the terminal; Ctrl-C reaches it there.
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
    /// allow it, it needs something that this build cannot do, or TLS has no credentials, usable
    /// files, or name to check.
    pub fn aio_connect_uri<U>(&self, uri: U) -> Result<Connecting>
    where
        U: TryInto<Uri, Error: Into<Error>>,
    {
        self.check_created()?;
        runtime::check_io()?;
        let uri: Uri = uri.try_into().map_err(Into::into)?;
        self.shared().config.uri_policy.check(&uri)?;
        let way = Way::find(&uri)?;
        // U-03, U-14
        let tls = uri_tls::of_uri(self.shared().tls(), &uri, self.shared().config.opt_mode)?;
        tls.check(None)?;
        self.shared().begin()?;
        *self.shared().lock_tls() = tls;
        uri.export_name()
            .clone_into(&mut self.shared().lock_export_options().export_name);
        self.set_address(Address::Uri(Box::new(uri)));
        match way {
            Way::Tcp(host, port) => Ok(self.start_tcp(host, port)),
            #[cfg(unix)]
            Way::Unix(path) => Ok(self.start_unix(path)),
            #[cfg(all(feature = "vsock", target_os = "linux"))]
            Way::Vsock(cid, port) => Ok(self.start_vsock(cid, port)),
            #[cfg(unix)]
            Way::Command(argv) => {
                let delay = self.shared().config.child_kill_delay;
                self.start_child(command::spawn(argv, Group::Ours, delay))
            }
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
}

/// How to get to the server of a URI, checked.
enum Way {
    Tcp(String, u16),
    #[cfg(unix)]
    Unix(PathBuf),
    #[cfg(all(feature = "vsock", target_os = "linux"))]
    Vsock(u32, u32),
    #[cfg(unix)]
    Command(Argv),
}

impl Way {
    fn find(uri: &Uri) -> Result<Self> {
        Ok(match uri.endpoint() {
            Endpoint::Tcp { host, port } => Self::Tcp(host.clone(), *port),
            #[cfg(unix)]
            Endpoint::Unix { path } => {
                unix::check(path)?;
                Self::Unix(path.clone())
            }
            #[cfg(not(unix))]
            Endpoint::Unix { .. } => {
                let why = "this URI asks for a Unix socket, which nbd-client does not have on this \
                           system";
                return Err(crate::error::InvalidRequest::NotBuilt(why).into());
            }
            #[cfg(unix)]
            Endpoint::Ssh { .. } => {
                let ssh = uri.ssh_command().unwrap_or_default();
                Self::Command(command::check(ssh)?)
            }
            #[cfg(not(unix))]
            Endpoint::Ssh { .. } => {
                let why = "this URI asks for ssh, which nbd-client does not run on this system";
                return Err(crate::error::InvalidRequest::NotBuilt(why).into());
            }
            #[cfg(all(feature = "vsock", target_os = "linux"))]
            Endpoint::Vsock { cid, port } => Self::Vsock(*cid, *port),
            #[cfg(not(all(feature = "vsock", target_os = "linux")))]
            Endpoint::Vsock { .. } => {
                let why = "this URI asks for vsock, which this build of nbd-client does not have";
                return Err(crate::error::InvalidRequest::NotBuilt(why).into());
            }
        })
    }
}
