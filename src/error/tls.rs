//! Why a connection could not be made secure.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::attempt::WithCauses;

/// Why a connection could not be made secure. It is dead: nothing was sent in clear instead.
#[derive(Clone, Debug)]
pub struct TlsError {
    failure: TlsFailure,
    server_name: Option<Arc<str>>,
    hint: Option<Arc<str>>,
    source: Arc<io::Error>,
}

/// The likely cause of a [`TlsError`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The server's handshake is of a kind that has no TLS.
    NotPossible,
    /// The server's certificate was not issued by an authority that is trusted here.
    UnknownIssuer,
    /// The server's certificate has expired.
    Expired,
    /// The server's certificate is not valid yet.
    NotYetValid,
    /// The server's certificate is for another name.
    WrongName,
    /// The server's certificate is not for servers.
    WrongPurpose,
    /// The server's certificate has been revoked.
    Revoked,
    /// Whether the server's certificate has been revoked cannot be known: no revocation list
    /// covers it, or the list has expired.
    RevocationUnknown,
    /// The server's certificate is unacceptable in another way.
    BadCertificate,
    /// The server wants a client certificate, and there is none it would take.
    NoClientCertificate,
    /// The server does not accept the client certificate.
    ClientCertificateRejected,
    /// The server does not accept the pre-shared key: the user or the key is wrong, or the
    /// server does not work with pre-shared keys.
    PskRejected,
    /// The server went on without the pre-shared key: nobody has proven anything.
    PskIgnored,
    /// The server closed the connection.
    Closed,
    /// The network failed.
    Io,
    /// The server broke the TLS protocol, or speaks no version or cipher suite that is allowed.
    Handshake,
}

/// What became of the client's certificate.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ClientCertificate {
    /// The server did not ask for one.
    #[default]
    NotAsked,
    /// The server asked for one, and there was none to its liking.
    Missing,
    /// The server asked for one and got it.
    Sent,
}

impl TlsError {
    /// An error of this cause.
    #[must_use]
    pub fn new(failure: TlsFailure, source: io::Error) -> Self {
        Self {
            failure,
            server_name: None,
            hint: None,
            source: Arc::new(source),
        }
    }

    /// The same, with the name that the certificate was checked against.
    #[must_use]
    pub fn with_server_name(mut self, name: &str) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// The same, with what to do about it.
    #[allow(dead_code, reason = "not used without TLS")]
    pub(crate) fn with_hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The likely cause.
    #[must_use]
    pub const fn failure(&self) -> TlsFailure {
        self.failure
    }

    /// The name the server's certificate was checked against, if it came to that.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// What the TLS library or the operating system said.
    #[must_use]
    pub fn io(&self) -> &io::Error {
        &self.source
    }

    /// Whether it may go better next time, with nothing changed.
    pub(crate) const fn is_retryable(&self) -> bool {
        matches!(self.failure, TlsFailure::Closed | TlsFailure::Io)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TLS failed: ")?;
        f.write_str(match self.failure {
            TlsFailure::NotPossible => "the server cannot do it",
            TlsFailure::UnknownIssuer => {
                "the server's certificate was not issued by a trusted authority"
            }
            TlsFailure::Expired => "the server's certificate has expired",
            TlsFailure::NotYetValid => "the server's certificate is not valid yet",
            TlsFailure::WrongName => "the server's certificate is for another name",
            TlsFailure::WrongPurpose => "the server's certificate is not for servers",
            TlsFailure::Revoked => "the server's certificate has been revoked",
            TlsFailure::RevocationUnknown => {
                "whether the server's certificate has been revoked is not known"
            }
            TlsFailure::BadCertificate => "the server's certificate is not acceptable",
            TlsFailure::NoClientCertificate => {
                "the server wants a client certificate, and none was given that it takes"
            }
            TlsFailure::ClientCertificateRejected => {
                "the server did not accept the client certificate"
            }
            TlsFailure::PskRejected => {
                "the server did not accept the user and key, or has no pre-shared keys"
            }
            TlsFailure::PskIgnored => "the server went on without the pre-shared key",
            TlsFailure::Closed => "the server closed the connection",
            TlsFailure::Io => "the connection failed",
            TlsFailure::Handshake => "the handshake went wrong",
        })?;
        if let Some(name) = &self.server_name {
            write!(f, " (checked against the name {name:?})")?;
        }
        write!(f, ": {}", WithCauses(&self.source))?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// The text includes what [`io`](TlsError::io) says, so there is no source.
impl std::error::Error for TlsError {}
