//! What it means that a stream failed under TLS.

use std::io;

use crate::error::{ClientCertificate, TlsError, TlsFailure};

/// The stream failed before the server proved that it accepts this client. Under TLS 1.3
/// that is how a server that does not accept it looks.
pub(crate) fn unaccepted(client: ClientCertificate, source: io::Error) -> TlsError {
    #[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
    if let Some(failure) = super::rustls::alert(&source, client) {
        return TlsError::new(failure, source);
    }
    let failure = match client {
        ClientCertificate::Missing => TlsFailure::NoClientCertificate,
        ClientCertificate::Sent => TlsFailure::ClientCertificateRejected,
        ClientCertificate::NotAsked => ending(&source),
    };
    TlsError::new(failure, source)
}

/// What it means that a stream ended like this.
pub(super) fn ending(error: &io::Error) -> TlsFailure {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted => TlsFailure::Closed,
        io::ErrorKind::InvalidData => TlsFailure::Handshake,
        _ => TlsFailure::Io,
    }
}
