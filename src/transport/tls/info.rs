//! Facts about an encrypted connection.

use std::fmt;
use std::sync::Arc;

use crate::error::ClientCertificate;

/// How a connection is encrypted, and the identity of the server, see
/// [`Connection::tls_info`](crate::Connection::tls_info).
#[derive(Clone, Eq, PartialEq)]
pub struct TlsInfo {
    version: Arc<str>,
    cipher_suite: Arc<str>,
    server_name: Option<Arc<str>>,
    peer_certificates: Arc<[Vec<u8>]>,
    psk_identity: Option<Arc<str>>,
    client_certificate: ClientCertificate,
}

impl TlsInfo {
    /// Creates a value for a [`TlsUpgrade`](crate::TlsUpgrade), with version and cipher suite by
    /// their usual names, such as `TLSv1.3` and `TLS_AES_128_GCM_SHA256`.
    #[must_use]
    pub fn new(version: &str, cipher_suite: &str) -> Self {
        Self {
            version: version.into(),
            cipher_suite: cipher_suite.into(),
            server_name: None,
            peer_certificates: Arc::default(),
            psk_identity: None,
            client_certificate: ClientCertificate::default(),
        }
    }

    /// Sets the name that the server's certificate was verified for.
    #[must_use]
    pub fn with_server_name(mut self, name: &str) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Sets the server's certificates in DER, its own first.
    #[must_use]
    pub fn with_peer_certificates(mut self, chain: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.peer_certificates = chain.into_iter().collect();
        self
    }

    /// Sets the identity of the pre-shared key.
    #[must_use]
    pub fn with_psk_identity(mut self, identity: &str) -> Self {
        self.psk_identity = Some(identity.into());
        self
    }

    /// Sets what became of the client's certificate.
    #[must_use]
    pub const fn with_client_certificate(mut self, certificate: ClientCertificate) -> Self {
        self.client_certificate = certificate;
        self
    }

    /// Returns the version, such as `TLSv1.3`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the registered name of the cipher suite.
    #[must_use]
    pub fn cipher_suite(&self) -> &str {
        &self.cipher_suite
    }

    /// Returns the name that the server's certificate was verified for, or `None` if no name was
    /// verified.
    #[doc(alias = "nbd_get_tls_hostname")]
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Returns the server's own certificate in DER, or `None` with a pre-shared key.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        self.peer_certificates.first().map(Vec::as_slice)
    }

    /// Returns all certificates that the server sent, in DER, its own first.
    pub fn peer_certificates(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.peer_certificates.iter().map(Vec::as_slice)
    }

    /// Returns the identity of the pre-shared key, or `None` with certificates.
    #[doc(alias = "nbd_get_tls_username")]
    #[must_use]
    pub fn psk_identity(&self) -> Option<&str> {
        self.psk_identity.as_deref()
    }

    /// Returns what became of the client's certificate.
    #[must_use]
    pub const fn client_certificate(&self) -> ClientCertificate {
        self.client_certificate
    }
}

impl fmt::Debug for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsInfo")
            .field("version", &self.version)
            .field("cipher_suite", &self.cipher_suite)
            .field("server_name", &self.server_name)
            .field("peer_certificates", &self.peer_certificates.len())
            .field("psk_identity", &self.psk_identity)
            .field("client_certificate", &self.client_certificate)
            .finish()
    }
}
