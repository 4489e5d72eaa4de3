//! What a handle knows: of the export, and how the connection speaks.

use super::Connection;
use crate::driver::Address;
use crate::error::{InvalidRequest, Result};
use crate::export::{Export, Protocol};
use crate::stats::Stats;
use crate::strict::Strict;
use crate::transport::tls::TlsInfo;
use crate::uri::{Uri, UriBuilder};

impl Connection {
    /// What is known about the export.
    ///
    /// In option mode this is what the last successful [`opt_info`](Self::opt_info) said. It
    /// stays known after the connection has ended.
    ///
    /// # Errors
    /// If nothing is known yet.
    pub fn export(&self) -> Result<Export> {
        match &self.shared().lock_facts().export {
            Some(export) => Ok(Export::clone(export)),
            None => Err(self.not("ready")),
        }
    }

    /// The size of the export, in bytes.
    ///
    /// # Errors
    /// If it is not known yet.
    pub fn size(&self) -> Result<u64> {
        match &self.shared().lock_facts().export {
            Some(export) => Ok(export.size()),
            None => Err(self.not("ready")),
        }
    }

    /// How the connection speaks: the handshake, and what was agreed in it.
    ///
    /// # Errors
    /// If the server has not greeted yet.
    pub fn protocol(&self) -> Result<Protocol> {
        self.shared()
            .lock_facts()
            .protocol
            .ok_or_else(|| self.not("negotiating or ready"))
    }

    /// Whether the connection is encrypted by this crate. What a stream does that was handed to
    /// [`connect_stream`](Self::connect_stream) is not known here.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.shared().lock_facts().tls.is_some()
    }

    /// How the connection is encrypted, and with whom; `None` if it is not.
    ///
    /// It stays known after the connection has ended.
    #[must_use]
    pub fn tls_info(&self) -> Option<TlsInfo> {
        self.shared().lock_facts().tls.clone()
    }

    /// What has been sent and received since the connection was made; in any state.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared().stats()
    }

    /// The name of the export that is or will be asked for.
    #[must_use]
    pub fn export_name(&self) -> String {
        self.shared().lock_export_options().export_name.clone()
    }

    /// A URI that leads to the same export, as far as can be known: it names the server as it was
    /// given to the connect call, and asks for TLS if the connection has it. It stays known after
    /// the connection has ended.
    ///
    /// What is not part of an address is missing, such as credentials that were not given by URI;
    /// and whether the URI works elsewhere, or later, nobody can say.
    ///
    /// # Errors
    /// If the handle is not connected yet, or was connected over something that has no address: a
    /// socket, a stream, or a command.
    pub fn uri(&self) -> Result<Uri> {
        if self.is_created() {
            return Err(self.not("connected"));
        }
        let address = self.shared().lock_facts().address.clone();
        let builder = match address {
            Some(Address::Uri(uri)) => {
                let insists = uri.is_tls();
                UriBuilder::from(*uri).tls(insists || self.is_tls())
            }
            Some(Address::Endpoint(endpoint)) => Uri::builder(endpoint).tls(self.is_tls()),
            None => return Err(InvalidRequest::NoAddress.into()),
        };
        Ok(builder.export_name(self.export_name()).build()?)
    }

    /// Which checks requests must pass before they are sent.
    #[must_use]
    pub fn strict(&self) -> Strict {
        self.shared().strict()
    }

    /// Sets which checks requests must pass before they are sent: for tests of servers. In any
    /// state; requests that were polled already are not concerned.
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
    /// // The server has its say.
    /// conn.set_strict(Strict::all() - Strict::BOUNDS);
    /// let theirs = conn.read(1 << 20, 512).await.unwrap_err();
    /// assert!(matches!(theirs, Error::Request(_)));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "test-util"))]
    /// # fn main() {}
    /// ```
    #[doc(alias = "set_strict_mode")]
    pub fn set_strict(&self, strict: Strict) {
        self.shared().set_strict(strict);
    }
}
