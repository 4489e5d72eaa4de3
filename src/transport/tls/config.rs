//! TLS with certificates: trusted authorities, and the identity of the client.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::parts::{CA, Parts, Trust};
use super::{TlsVersion, directory, pem};
use crate::error::{Error, Result};
use crate::platform;

/// TLS with certificates, by rustls: for [`Builder::tls`](crate::Builder::tls).
///
/// The server must prove its identity: its certificate must be issued, directly or through
/// intermediate authorities, by a trusted authority ([CA](TlsConfigBuilder::ca_pem)). It must be
/// valid now, for servers, and for the name of the server, as a *subject alternative name* of the
/// kind DNS or IP. The *common name* is ignored. The name of the server is the host that is
/// connected to; for transports without host names set [`server_name`](Self::server_name), or
/// connecting fails.
///
/// TLS 1.3 and 1.2 are supported. With the feature `tls-aws-lc-rs`, the key exchange
/// X25519MLKEM768, which is meant to withstand quantum computers, is offered first. Sessions are not resumed: each connection verifies anew.
///
/// The configuration is cheap to clone, and can be used for any number of connections.
///
/// ```no_run
/// # async fn example() -> nbd_client::Result<()> {
/// use nbd_client::{Connection, TlsConfig, TlsMode};
///
/// let tls = TlsConfig::from_directory("/etc/pki/nbd")?;
/// let conn = Connection::builder().tls(TlsMode::Require, tls).build();
/// conn.connect_tcp("storage.example.com", 10809).await?;
/// assert!(conn.is_tls());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TlsConfig {
    pub(super) config: Arc<ClientConfig>,
    pub(super) server_name: Option<String>,
    /// Whether the name of the server is not verified.
    pub(super) any_name: bool,
    /// No authority was given, so the server's certificate is checked against those of the system.
    pub(super) only_system_roots: bool,
}

impl TlsConfig {
    /// Returns an empty builder.
    pub fn builder() -> TlsConfigBuilder {
        TlsConfigBuilder(Ok(Parts::new()))
    }

    /// Creates a configuration from the files in a directory, see [`TlsConfigBuilder::directory`].
    ///
    /// # Errors
    /// If a file is missing, cannot be read, or is not what its name says.
    #[doc(alias = "nbd_set_tls_certificates")]
    pub fn from_directory(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().directory(path).build()
    }

    /// Creates a configuration from the first of libnbd's default directories that has a
    /// `ca-cert.pem`. If there is none, the authorities that the system trusts are used, with the
    /// feature `tls-native-roots`.
    ///
    /// For root, the directory is `/etc/pki/libnbd`. For other users, they are `.pki/libnbd` and
    /// `.config/pki/libnbd` in the directory that the variable `HOME` names. On Windows there are
    /// none. They are laid out as [`TlsConfigBuilder::directory`] says.
    ///
    /// ```no_run
    /// # async fn example() -> nbd_client::Result<()> {
    /// use nbd_client::{Connection, TlsConfig, TlsMode};
    ///
    /// let tls = TlsConfig::from_default_directories()?;
    /// let builder = Connection::builder().tls(TlsMode::Disable, tls);
    /// // Required by the URI; without TLS, the certificates are not used.
    /// let conn = builder.connect("nbds://storage.example.com/disk0").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If a file of the directory cannot be read or is not what its name says, or if there is no
    /// directory and the system trusts no authority, or is not asked.
    #[doc(alias = "nbd_set_tls_certificates")]
    pub fn from_default_directories() -> Result<Self> {
        let builder = Self::builder();
        match directory::first(platform::certificate_directories()) {
            Some(directory) => builder.directory(directory).build(),
            None => builder.build(),
        }
    }

    /// Uses a configuration of rustls 0.23 as it is.
    ///
    /// This is for settings that this crate does not have. It ties your program to that version of
    /// rustls, and the configuration decides what is verified. This crate only sets the name of the
    /// server.
    #[doc(alias = "nbd_set_tls_priority")]
    #[must_use]
    pub fn from_rustls_0_23(config: Arc<ClientConfig>) -> Self {
        Self {
            config,
            server_name: None,
            any_name: false,
            only_system_roots: false,
        }
    }

    /// Sets the name or IP address that the server's certificate must be valid for, instead of the
    /// host that is connected to. A name is also sent to the server (SNI), an address is not.
    #[doc(alias = "nbd_set_tls_hostname")]
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("server_name", &self.server_name)
            .field("any_name", &self.any_name)
            .finish_non_exhaustive()
    }
}

/// Builds a [`TlsConfig`].
///
/// [`build`](Self::build) reports what is wrong with any part.
///
/// ```
/// use nbd_client::TlsConfig;
///
/// let error = TlsConfig::builder().ca_pem("not a certificate").build().unwrap_err();
/// assert_eq!(error.to_string(), "cannot use the TLS CA: it contains no certificate");
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct TlsConfigBuilder(Result<Parts>);

impl TlsConfigBuilder {
    /// Trusts authorities: one or more certificates in PEM. Further calls add more.
    ///
    /// A self-signed certificate of a server can be trusted this way, too.
    pub fn ca_pem(self, pem: impl AsRef<[u8]>) -> Self {
        self.with(|parts| {
            for certificate in pem::certificates(CA, pem.as_ref())? {
                parts.trust_authority(certificate)?;
            }
            Ok(())
        })
    }

    /// Trusts an authority: one certificate in DER. Further calls add more.
    pub fn ca_der(self, der: impl Into<Vec<u8>>) -> Self {
        self.with(|parts| parts.trust_authority(der.into().into()))
    }

    /// Trusts the authorities that the system trusts.
    ///
    /// They are also trusted if no authority is given.
    #[cfg(feature = "tls-native-roots")]
    pub fn native_roots(self) -> Self {
        self.with(|parts| {
            parts.native_roots = true;
            Ok(())
        })
    }

    /// Sets a certificate of the client and its private key in PEM. The certificates of
    /// intermediate authorities follow the certificate.
    ///
    /// The certificate is sent only if the server asks for one. After several calls, the server gets
    /// the first certificate of a kind that it supports.
    pub fn client_pem(self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.with(|parts| {
            let chain = pem::certificates("TLS client certificate", chain.as_ref())?;
            parts.add_identity(chain, pem::private_key(key.as_ref())?)
        })
    }

    /// Sets a certificate of the client, like [`client_pem`](Self::client_pem), with each
    /// certificate and the private key (PKCS #8, PKCS #1 or SEC 1) in DER.
    pub fn client_der<I>(self, chain: I, key: impl Into<Vec<u8>>) -> Self
    where
        I: IntoIterator<Item: Into<Vec<u8>>>,
    {
        self.with(|parts| {
            let chain = chain.into_iter().map(|der| der.into().into()).collect();
            let key = PrivateKeyDer::try_from(key.into())
                .map_err(|why| Error::credentials("TLS client key", why))?;
            parts.add_identity(chain, key)
        })
    }

    /// Refuses revoked certificates: one or more revocation lists in PEM. Further calls add more.
    ///
    /// With any list, every certificate of a server must be covered by a list that has not expired.
    pub fn crl_pem(self, pem: impl AsRef<[u8]>) -> Self {
        self.with(|parts| {
            parts.crls.extend(pem::revocation_lists(pem.as_ref())?);
            Ok(())
        })
    }

    /// Refuses revoked certificates, like [`crl_pem`](Self::crl_pem), with one list in DER.
    pub fn crl_der(self, der: impl Into<Vec<u8>>) -> Self {
        self.with(|parts| {
            parts.crls.push(der.into().into());
            Ok(())
        })
    }

    /// Adds the files in a directory, which is laid out as for libnbd and QEMU.
    ///
    /// | File | |
    /// |---|---|
    /// | `ca-cert.pem` | as [`ca_pem`](Self::ca_pem); required |
    /// | `client-cert.pem`, `client-key.pem` | as [`client_pem`](Self::client_pem) |
    /// | `client-cert-0.pem`, `client-key-0.pem`, and so on | more of them |
    /// | `ca-crl.pem` | as [`crl_pem`](Self::crl_pem) |
    pub fn directory(self, path: impl AsRef<Path>) -> Self {
        if self.0.is_err() {
            return self;
        }
        directory::load(self, path.as_ref()).unwrap_or_else(|error| Self(Err(error)))
    }

    /// Sets the oldest version of TLS to use; by default 1.2.
    #[doc(alias = "nbd_set_tls_priority")]
    pub fn min_version(self, version: TlsVersion) -> Self {
        self.with(|parts| {
            parts.versions.0 = version;
            Ok(())
        })
    }

    /// Sets the newest version of TLS to use; by default 1.3.
    #[doc(alias = "nbd_set_tls_priority")]
    pub fn max_version(self, version: TlsVersion) -> Self {
        self.with(|parts| {
            parts.versions.1 = version;
            Ok(())
        })
    }

    /// Accepts a certificate for any name, if it is valid otherwise.
    ///
    /// Everyone with a certificate from a trusted authority can then impersonate the server. This is
    /// safe only with an authority that certifies no one else. It is better to set the name, see
    /// [`TlsConfig::server_name`].
    #[doc(alias = "nbd_set_tls_verify_peer")]
    pub fn danger_accept_any_name(self) -> Self {
        self.with(|parts| {
            parts.trust = parts.trust.max(Trust::AnyName);
            Ok(())
        })
    }

    /// Accepts any server: the connection is encrypted, but an active attacker can read and change
    /// everything.
    #[doc(alias = "nbd_set_tls_verify_peer")]
    pub fn danger_accept_any_server(self) -> Self {
        self.with(|parts| {
            parts.trust = Trust::AnyServer;
            Ok(())
        })
    }

    /// Creates the configuration.
    ///
    /// # Errors
    /// If a part is invalid, or no authority is trusted (and the feature `tls-native-roots` is off,
    /// or the system trusts none either).
    pub fn build(self) -> Result<TlsConfig> {
        self.0?.build()
    }

    fn with(self, change: impl FnOnce(&mut Parts) -> Result<()>) -> Self {
        Self(self.0.and_then(|mut parts| {
            change(&mut parts)?;
            Ok(parts)
        }))
    }
}

impl fmt::Debug for TlsConfigBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TlsConfigBuilder");
        match &self.0 {
            Ok(parts) => debug
                .field("ca", &parts.roots.len())
                .field("client", &parts.identities.len())
                .field("crl", &parts.crls.len())
                .field("versions", &parts.versions)
                .field("trust", &parts.trust),
            Err(error) => debug.field("error", error),
        };
        debug.finish()
    }
}
