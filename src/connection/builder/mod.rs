//! Options that are fixed before connecting.

mod deadlines;
mod requests;
mod transport;

use std::sync::Arc;

use crate::config::{Config, ExportOptions};
use crate::connection::Connection;
use crate::driver::Inner;
use crate::limits::Limits;
use crate::transport::tls::{Tls, TlsMode, TlsUpgrade};
use crate::wire::HandshakeFlags;

/// Sets up a [`Connection`] before it connects.
///
/// Some options ask for features that the server may refuse; [`Connection::protocol`] and
/// [`Connection::export`] say what was negotiated. A connection is set up once: for several
/// connections with the same options, clone the builder.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let conn = nbd_client::Connection::builder()
///     .export_name("disk0")
///     .meta_context("base:allocation")
///     .handshake_timeout(Duration::from_secs(5))
///     .build();
/// assert!(conn.is_created());
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    config: Config,
    export_options: ExportOptions,
    tls: Tls,
}

impl Builder {
    /// Sets the name of the export. The default is the empty name, which is the server's default
    /// export.
    ///
    /// If the name has more than 4096 bytes or contains NUL, connecting fails. A URI replaces the
    /// name. A server with the oldstyle handshake has one export and takes no name: compare
    /// [`Protocol::handshake`](crate::Protocol::handshake) where that matters.
    #[doc(alias = "nbd_set_export_name")]
    pub fn export_name(mut self, name: impl Into<String>) -> Self {
        self.export_options.export_name = name.into();
        self
    }

    /// Adds a metadata context to ask for, such as `base:allocation`. By default there is none;
    /// [`block_status`](Connection::block_status) needs at least one.
    ///
    /// [`Export::contexts`](crate::Export::contexts) says which contexts the server has; a missing
    /// one is no error, unlike with [`require_meta_context`](Self::require_meta_context). If a name
    /// has more than 4096 bytes or contains NUL, connecting fails.
    ///
    /// See section "Metadata querying" of the protocol.
    #[doc(alias = "nbd_add_meta_context")]
    pub fn meta_context(mut self, name: impl Into<String>) -> Self {
        self.export_options.contexts.push(name.into());
        self
    }

    /// Adds a metadata context to ask for, without which the export is not entered. By default there
    /// is none.
    ///
    /// If the server does not have the context for this export, connecting fails with
    /// [`Error::MissingContext`](crate::Error::MissingContext), which lists those that it has. In
    /// option mode, [`opt_go`](Connection::opt_go) fails, and the negotiation goes on. This is for
    /// programs that would otherwise do the wrong thing, such as a backup that is given the wrong
    /// name of a dirty bitmap.
    ///
    /// The name must be complete: `qemu:dirty-bitmap:` alone, which asks for all bitmaps, is no
    /// context that a server has.
    ///
    /// ```
    /// # use nbd_client::testing;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// use nbd_client::{Connection, Error};
    ///
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// let conn = Connection::builder().require_meta_context("qemu:dirty-bitmap:monday").build();
    /// match conn.connect_stream(server.connect()).await {
    ///     Err(Error::MissingContext(missing)) => {
    ///         assert_eq!(missing.name(), "qemu:dirty-bitmap:monday");
    ///         assert_eq!(missing.available(), ["base:allocation"]);
    ///     }
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn require_meta_context(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.export_options.required.push(name.clone());
        self.meta_context(name)
    }

    /// Sets whether the requested contexts are selected before an export is entered or asked about;
    /// by default they are. If not, a selection made by
    /// [`opt_set_meta_context`](Connection::opt_set_meta_context) stays in force.
    #[doc(alias = "nbd_set_request_meta_context")]
    pub fn request_meta_context(mut self, request: bool) -> Self {
        self.export_options.request_meta_context = request;
        self
    }

    /// Sets when to use TLS, and the implementation: a `TlsConfig` (certificates, feature `tls`), a
    /// `TlsPsk` (pre-shared keys, feature `tls-psk`), or your own [`TlsUpgrade`].
    ///
    /// By default TLS is not used. With `TlsMode::Disable`, the implementation is used by
    /// [`opt_starttls`](Connection::opt_starttls) only.
    ///
    /// ```
    /// # #[cfg(feature = "tls")]
    /// # fn example(ca: &str) -> nbd_client::Result<()> {
    /// use nbd_client::{Connection, TlsConfig, TlsMode};
    ///
    /// let tls = TlsConfig::builder().ca_pem(ca).build()?;
    /// let conn = Connection::builder().tls(TlsMode::Require, tls).build();
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "nbd_set_tls")]
    pub fn tls(mut self, mode: TlsMode, with: impl TlsUpgrade + 'static) -> Self {
        self.tls.mode = mode;
        self.tls.upgrade = Some(Arc::new(with));
        self
    }

    /// Sets whether the handshake stops in [`State::Negotiating`](crate::State::Negotiating), where
    /// options can be sent one by one. By default the handshake runs to its end.
    #[doc(alias = "nbd_set_opt_mode")]
    pub const fn opt_mode(mut self, opt_mode: bool) -> Self {
        self.config.opt_mode = opt_mode;
        self
    }

    /// Sets whether to ask for structured replies (`NBD_OPT_STRUCTURED_REPLY`); by default yes.
    ///
    /// Without them there are no extended headers and no metadata contexts, holes are sent as
    /// zeroes, and a server that fails in the middle of a read can only end the connection.
    #[doc(alias = "nbd_set_request_structured_replies")]
    pub const fn structured_replies(mut self, request: bool) -> Self {
        self.config.structured_replies = request;
        self
    }

    /// Sets whether to ask for extended headers (`NBD_OPT_EXTENDED_HEADERS`); by default yes.
    ///
    /// With them, one message can trim or zero more than 4 GiB, or ask for the status of more.
    /// Servers that do not know them are asked for structured replies instead.
    #[doc(alias = "nbd_set_request_extended_headers")]
    pub const fn extended_headers(mut self, request: bool) -> Self {
        self.config.extended_headers = request;
        self
    }

    /// Sets whether to enter the export with `NBD_OPT_EXPORT_NAME` even if the server knows
    /// `NBD_OPT_GO`; by default no. This is for tests of servers.
    ///
    /// A server that does not have the export then closes the connection without a reason. Extended
    /// headers, which forbid this option, are not asked for.
    pub const fn force_export_name(mut self, force: bool) -> Self {
        self.config.force_export_name = force;
        self
    }

    /// Sets whether to ask for the [canonical name](crate::Export::canonical_name) and the
    /// [description](crate::Export::description) of the export; by default no.
    #[doc(alias = "nbd_set_full_info")]
    pub const fn full_info(mut self, request: bool) -> Self {
        self.export_options.full_info = request;
        self
    }

    /// Sets whether to ask for block sizes and obey them; by default yes. See section "Size
    /// constraints" of the protocol.
    #[doc(alias = "nbd_set_request_block_size")]
    pub const fn request_block_size(mut self, request: bool) -> Self {
        self.export_options.request_block_size = request;
        self
    }

    /// Sets which handshake flags to accept if the server offers them; by default all. This is for
    /// tests of servers.
    ///
    /// Without `FIXED_NEWSTYLE`, nothing but the name of the export can be negotiated.
    #[doc(alias = "nbd_set_handshake_flags")]
    pub const fn handshake_flags(mut self, accept: HandshakeFlags) -> Self {
        self.config.handshake_flags = accept;
        self
    }

    /// Sets how much the server may send before it counts as hostile; by default
    /// [`Limits::default`].
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Creates the handle, in [`State::Created`](crate::State::Created).
    pub fn build(self) -> Connection {
        Connection::from_shared(Inner::new(self.config, self.export_options, self.tls))
    }
}
