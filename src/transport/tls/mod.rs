//! TLS over the byte stream, by any library.

#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
mod config;
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
mod directory;
mod failure;
mod goodbye;
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
mod identities;
mod info;
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs", feature = "tls-psk"))]
mod name;
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
mod parts;
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
mod pem;
#[cfg(feature = "tls-psk")]
mod psk;
#[cfg(feature = "tls-psk")]
mod psk_file;
#[cfg(feature = "tls-psk")]
mod psk_stream;
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
mod rustls;
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
mod verify;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
pub use config::{TlsConfig, TlsConfigBuilder};
pub(crate) use failure::unaccepted;
pub(crate) use goodbye::Goodbye;
pub use info::TlsInfo;
#[cfg(feature = "tls-psk")]
pub use psk::TlsPsk;

use crate::error::{Result, TlsError};
use crate::names::names;

/// When a connection uses TLS, see [`Builder::tls`](crate::Builder::tls).
///
/// `Display` writes `disable`, `prefer` or `require`, and `FromStr` reads it.
#[doc(alias = "nbd_set_tls")]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum TlsMode {
    /// TLS is not used, unless [`opt_starttls`](crate::Connection::opt_starttls) is called.
    #[doc(alias = "LIBNBD_TLS_DISABLE")]
    #[default]
    Disable,
    /// TLS is used if the server agrees to it; otherwise the connection goes on in clear.
    ///
    /// This protects against eavesdropping, not against an active attacker, who can answer in place
    /// of the server that it has no TLS. If the server agrees and cannot prove its identity,
    /// connecting fails.
    #[doc(alias = "LIBNBD_TLS_ALLOW")]
    Prefer,
    /// TLS is always used: if the server does not agree, connecting fails, and the name of the
    /// export is not sent.
    #[doc(alias = "LIBNBD_TLS_REQUIRE")]
    Require,
}

names!(
    TlsMode,
    "TLS mode",
    Disable = "disable",
    Prefer = "prefer",
    Require = "require",
);

/// A version of TLS. Versions older than these are not supported.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// A byte stream in both directions. Every type with the necessary traits implements it.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + ?Sized> ByteStream for S {}

/// The future of [`TlsUpgrade::upgrade`].
///
/// It is boxed, so that `TlsUpgrade` can be used as a trait object.
pub type Upgrading<'a> =
    Pin<Box<dyn Future<Output = Result<(Box<dyn ByteStream>, TlsInfo), TlsError>> + Send + 'a>>;

/// An implementation of TLS: upgrades a byte stream.
///
/// [`TlsConfig`](https://docs.rs/nbd-client/latest/nbd_client/struct.TlsConfig.html) and
/// `TlsPsk` implement it. Implement it yourself for another library, for keys in hardware, or for
/// other policies.
///
/// The given stream contains no bytes that were sent before the server agreed to TLS. After the
/// upgrade, only the returned stream is used: if the upgrade fails, the connection is dead. The
/// upgrade needs no timeout of its own, since the deadline of the handshake covers it; dropping the
/// future must stop it.
///
/// `poll_flush` of the returned stream must send everything that the stream buffers, and
/// `poll_shutdown` must send `close_notify`. The end of the stream without `close_notify` from the
/// server must be an error of the kind `UnexpectedEof`.
///
/// # Examples
/// An upgrade that also compares the certificate:
/// ```
/// use nbd_client::{ByteStream, Result, TlsError, TlsFailure, TlsUpgrade, Upgrading};
///
/// #[derive(Debug)]
/// struct Pinned<T> {
///     inner: T,
///     certificate: Vec<u8>,
/// }
///
/// impl<T: TlsUpgrade> TlsUpgrade for Pinned<T> {
///     fn check(&self, server_name: Option<&str>) -> Result<()> {
///         self.inner.check(server_name)
///     }
///
///     fn upgrade<'a>(
///         &'a self,
///         stream: Box<dyn ByteStream>,
///         server_name: Option<&'a str>,
///     ) -> Upgrading<'a> {
///         Box::pin(async move {
///             let (stream, info) = self.inner.upgrade(stream, server_name).await?;
///             if info.peer_certificate() == Some(&self.certificate[..]) {
///                 Ok((stream, info))
///             } else {
///                 let error = std::io::Error::other("not the certificate that is pinned");
///                 Err(TlsError::new(TlsFailure::BadCertificate, error))
///             }
///         })
///     }
/// }
/// ```
pub trait TlsUpgrade: fmt::Debug + Send + Sync {
    /// Checks, before anything is connected, whether an upgrade can succeed.
    ///
    /// # Errors
    /// If it cannot. The error is usually [`Error::Invalid`](crate::Error::Invalid), for example
    /// because there is no name to check a certificate against.
    fn check(&self, server_name: Option<&str>) -> Result<()> {
        let _ = server_name;
        Ok(())
    }

    /// Runs the TLS handshake over `stream`, as the client.
    ///
    /// `server_name` is the host that was connected to, or the name that the URI gives. It is `None`
    /// for transports without host names.
    fn upgrade<'a>(
        &'a self,
        stream: Box<dyn ByteStream>,
        server_name: Option<&'a str>,
    ) -> Upgrading<'a>;
}

/// The TLS settings of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    pub(crate) mode: TlsMode,
    /// The implementation; always set unless the mode is `Disable`.
    pub(crate) upgrade: Option<Arc<dyn TlsUpgrade>>,
    /// The name of the server, if it is known.
    pub(crate) server_name: Option<String>,
}

impl Tls {
    /// Checks whether the settings suffice to connect to a server of this name.
    pub(crate) fn check(&self, host: Option<&str>) -> Result<()> {
        match &self.upgrade {
            Some(upgrade) if self.mode != TlsMode::Disable => {
                upgrade.check(self.server_name.as_deref().or(host))
            }
            _ => Ok(()),
        }
    }
}
