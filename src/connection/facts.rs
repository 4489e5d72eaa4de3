//! The facts that a handle knows: the export, the protocol, TLS and counts.

use std::net::SocketAddr;

use super::Connection;
use crate::driver::Address;
use crate::error::{InvalidUse, Result};
use crate::export::{Export, Protocol};
use crate::stats::Stats;
use crate::strict::Strict;
use crate::transport::tls::TlsInfo;
use crate::uri::{Uri, UriBuilder};

impl Connection {
    /// Returns what is known about the export.
    ///
    /// In option mode this is the answer to the last successful [`opt_info`](Self::opt_info). It
    /// stays known after the connection has ended.
    ///
    /// # Errors
    /// If nothing is known yet.
    pub fn export(&self) -> Result<Export> {
        match &self.inner().lock_facts().export {
            Some(export) => Ok(Export::clone(export)),
            None => Err(self.not("ready")),
        }
    }

    /// Returns the size of the export in bytes.
    ///
    /// # Errors
    /// If it is not known yet.
    #[doc(alias = "nbd_get_size")]
    pub fn size(&self) -> Result<u64> {
        match &self.inner().lock_facts().export {
            Some(export) => Ok(export.size()),
            None => Err(self.not("ready")),
        }
    }

    /// Returns the protocol features that were negotiated.
    ///
    /// # Errors
    /// If the server has not greeted yet.
    #[doc(alias = "nbd_get_protocol")]
    pub fn protocol(&self) -> Result<Protocol> {
        self.inner()
            .lock_facts()
            .protocol
            .ok_or_else(|| self.not("negotiating or ready"))
    }

    /// Returns whether this crate encrypts the connection. A stream that was given to
    /// [`connect_stream`](Self::connect_stream) may do so by itself, which is not known here.
    #[doc(alias = "nbd_get_tls_negotiated")]
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.inner().lock_facts().tls.is_some()
    }

    /// Returns how the connection is encrypted and with which server, or `None` if it is not.
    ///
    /// It stays known after the connection has ended.
    #[doc(alias = "nbd_get_tls_negotiated")]
    #[must_use]
    pub fn tls_info(&self) -> Option<TlsInfo> {
        self.inner().lock_facts().tls.clone()
    }

    /// Returns the counts of what was sent and received since the connection was made, in any state.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner().stats()
    }

    /// Returns the name of the export that is or will be requested.
    #[doc(alias = "nbd_get_export_name")]
    #[must_use]
    pub fn export_name(&self) -> String {
        self.inner().lock_export_options().export_name.clone()
    }

    /// Returns a URI that leads to the same export. It names the server as the connect call did, and
    /// asks for TLS if the connection uses it. It stays known after the connection has ended.
    ///
    /// The URI lacks what is not part of an address, such as credentials that were not given by URI.
    /// It may not work later or on another machine.
    ///
    /// # Errors
    /// If the handle is not connected yet, or was connected over something that has no address: a
    /// socket, a stream, or a command.
    #[doc(alias = "nbd_get_uri")]
    pub fn uri(&self) -> Result<Uri> {
        if self.is_created() {
            return Err(self.not("connected"));
        }
        let address = self.inner().lock_facts().address.clone();
        let builder = match address {
            Some(Address::Uri(uri)) => {
                let insists = uri.is_tls();
                UriBuilder::from(*uri).tls(insists || self.is_tls())
            }
            Some(Address::Endpoint(endpoint)) => Uri::builder(endpoint).tls(self.is_tls()),
            None => return Err(InvalidUse::NoAddress.into()),
        };
        Ok(builder.export_name(self.export_name()).build()?)
    }

    /// Returns the address of the server, if the connection is over TCP: the one that answered, if
    /// the host has several.
    ///
    /// It is known from when the server has been reached, and stays known after the connection has
    /// ended. A TCP stream inside another stream, such as a tunnel, is not known here.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        Some(self.inner().lock_facts().ends?.peer)
    }

    /// Returns the local address, if the connection is over TCP; see
    /// [`peer_addr`](Self::peer_addr).
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.inner().lock_facts().ends?.local)
    }

    /// Returns the checks that requests must pass before they are sent.
    #[doc(alias = "nbd_get_strict_mode")]
    #[must_use]
    pub fn strict(&self) -> Strict {
        self.inner().strict()
    }

    /// Sets the checks that requests must pass before they are sent, for tests of servers. This
    /// works in any state, and does not affect requests that were polled before.
    ///
    /// ```
    /// # #[cfg(feature = "test-util")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # use nbd_client::{Connection, testing};
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// use nbd_client::{Error, Strict};
    ///
    /// // Nothing is sent.
    /// let ours = conn.read(1 << 20, 512).await.unwrap_err();
    /// assert!(matches!(ours, Error::Invalid(_)));
    /// // The server answers.
    /// conn.set_strict(Strict::all() - Strict::BOUNDS);
    /// let theirs = conn.read(1 << 20, 512).await.unwrap_err();
    /// assert!(matches!(theirs, Error::Request(_)));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "test-util"))]
    /// # fn main() {}
    /// ```
    #[doc(alias = "nbd_set_strict_mode")]
    pub fn set_strict(&self, strict: Strict) {
        self.inner().set_strict(strict);
    }
}
