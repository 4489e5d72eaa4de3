//! Connecting by URI.

use super::way::Way;
use super::{Connecting, uri_tls};
use crate::connection::Connection;
use crate::driver::Address;
use crate::driver::runtime;
use crate::error::{Error, InvalidUse, Result};
use crate::uri::Uri;

impl Connection {
    /// Creates a connection with default options, and connects it to the server and export that a
    /// URI names.
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
    #[doc(alias = "nbd_connect_uri")]
    pub async fn connect<U>(uri: U) -> Result<Self>
    where
        U: TryInto<Uri, Error: Into<Error>>,
    {
        let connection = Self::new();
        let connecting = connection.aio_connect_uri(uri)?;
        connecting.await?;
        Ok(connection)
    }

    /// Begins to connect to the server and export that a URI names: a [`Uri`] or a reference
    /// to one, or text that can be parsed as one (`&str`, `String`, `&OsStr`, `OsString`, and
    /// references to these).
    ///
    /// The URI replaces the export name, with the empty name if the URI has none. The
    /// [`uri_policy`](crate::Builder::uri_policy) of the handle decides what a URI may ask for. By
    /// default a URI says where the server is, and a URI that would have files read, programs
    /// started or TLS weakened is refused. A refusal comes before anything is resolved, opened or
    /// started, and leaves the handle [`Created`](crate::State::Created).
    ///
    /// `nbds` requires TLS; with `nbd`, the [settings](crate::Builder::tls) of the handle apply. The
    /// URI can name the credentials:
    ///
    /// | Parameter | |
    /// |---|---|
    /// | `tls-certificates=DIR` | certificates, laid out as `TlsConfigBuilder::directory` says |
    /// | `tls-psk-file=FILE` | the pre-shared key of the user in the URI, as `TlsPsk::from_file` says |
    /// | `tls-type` | `x509` or `psk`, if both are named; `anon` is refused |
    /// | `tls-hostname=NAME` | what to check the certificate against instead of the host |
    /// | `tls-verify-peer=0` | any server will do, see `TlsConfigBuilder::danger_accept_any_server` |
    ///
    /// Otherwise the credentials of the handle are used. If the handle has none either, the
    /// authorities that the system trusts are used, with the feature `tls-native-roots`. The files
    /// are read during this call.
    ///
    /// `nbd+ssh` runs [`Uri::ssh_command`] as a child process, as
    /// [`Builder::ssh`](crate::Builder::ssh) says. Unlike a
    /// [command](Self::aio_connect_command), this process stays in the process group of your
    /// program, so that it can ask for a password on the terminal; Ctrl-C reaches it there.
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
    #[doc(alias = "nbd_aio_connect_uri")]
    pub fn aio_connect_uri<U>(&self, uri: U) -> Result<Connecting>
    where
        U: TryInto<Uri, Error: Into<Error>>,
    {
        self.check_created()?;
        runtime::check_io()?;
        let uri: Uri = uri.try_into().map_err(Into::into)?;
        let policy = &self.inner().config.uri_policy;
        policy
            .check(&uri)
            .map_err(|error| InvalidUse::uri(&uri.to_string(), error))?;
        self.go_to_uri(uri)
    }

    /// Begins to connect to the server of a URI that the policy allows or that the program has made.
    pub(super) fn go_to_uri(&self, uri: Uri) -> Result<Connecting> {
        let way = Way::find(&uri, &self.inner().config)?;
        // U-03: nbds requires TLS; U-14: nbds is an error without TLS.
        let tls = uri_tls::of_uri(self.inner().tls(), &uri, self.inner().config.opt_mode)?;
        tls.check(None)?;
        self.inner().begin()?;
        *self.inner().lock_tls() = tls;
        uri.export_name()
            .clone_into(&mut self.inner().lock_export_options().export_name);
        self.inner().lock_facts().address = Some(Address::Uri(Box::new(uri)));
        self.go(way)
    }

    /// Connects to the server and export that a URI names; see
    /// [`aio_connect_uri`](Self::aio_connect_uri).
    ///
    /// # Errors
    /// As there, and if the connection or the handshake fails.
    #[doc(alias = "nbd_connect_uri")]
    pub async fn connect_uri<U>(&self, uri: U) -> Result<()>
    where
        U: TryInto<Uri, Error: Into<Error>>,
    {
        let connecting = self.aio_connect_uri(uri)?;
        connecting.await
    }
}
