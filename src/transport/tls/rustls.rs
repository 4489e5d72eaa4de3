//! The TLS handshake with rustls.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::BufReader;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::ResolvesClientCert;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as RustlsError, ProtocolVersion,
    SignatureScheme,
};
#[cfg(feature = "tls-aws-lc-rs")]
use tokio_rustls::rustls::{NamedGroup, crypto::SupportedKxGroup};

use super::config::TlsConfig;
use super::name::without_zone;
use super::{ByteStream, TlsInfo, TlsUpgrade, Upgrading, unaccepted};
use crate::error::{ClientCertificate, InvalidUse, Result, TlsError, TlsFailure};

/// rustls reads 4 KiB at a time, which are four system calls for each record: it reads from a
/// buffer instead.
const READ_AHEAD: usize = 64 << 10;
/// How much rustls may hold that is not sent yet: more than what one write has usually.
const WRITE_BUFFER: usize = 256 << 10;

impl TlsUpgrade for TlsConfig {
    fn check(&self, server_name: Option<&str>) -> Result<()> {
        self.name(server_name).map(drop)
    }

    fn upgrade<'a>(
        &'a self,
        stream: Box<dyn ByteStream>,
        server_name: Option<&'a str>,
    ) -> Upgrading<'a> {
        Box::pin(async move {
            let name = self
                .name(server_name)
                .map_err(|error| TlsError::new(TlsFailure::Handshake, error.into()))?;
            self.handshake(stream, name).await
        })
    }
}

impl TlsConfig {
    /// The name to check, from the configuration or the transport; there must be one.
    fn name(&self, server_name: Option<&str>) -> Result<ServerName<'static>> {
        let Some(name) = self.server_name.as_deref().or(server_name) else {
            if self.any_name {
                // An address is not sent, so none is as good as any.
                let nobody = IpAddr::V4(Ipv4Addr::from([0; 4]));
                return Ok(ServerName::IpAddress(nobody));
            }
            return Err(InvalidUse::NoServerName.into());
        };
        ServerName::try_from(without_zone(name).to_owned())
            .map_err(|_| InvalidUse::ServerName(name.to_owned()).into())
    }

    async fn handshake(
        &self,
        stream: Box<dyn ByteStream>,
        name: ServerName<'static>,
    ) -> Result<(Box<dyn ByteStream>, TlsInfo), TlsError> {
        let watch = Arc::new(Watch {
            inner: self.config.client_auth_cert_resolver.clone(),
            seen: AtomicU8::new(NOT_ASKED),
        });
        let mut config = ClientConfig::clone(&self.config);
        config.client_auth_cert_resolver = watch.clone();

        let checked = (!self.any_name).then(|| name.to_str().into_owned());
        let sent = match &name {
            ServerName::DnsName(name) => Some(name.as_ref().to_owned()),
            _ => None,
        };
        let stream = BufReader::with_capacity(READ_AHEAD, stream);
        let connecting = TlsConnector::from(Arc::new(config)).connect_with(name, stream, |tls| {
            tls.set_buffer_limit(Some(WRITE_BUFFER));
        });
        let stream = connecting
            .await
            .map_err(|error| explain(error, watch.seen(), checked.as_deref()))
            .map_err(|error| self.advise(error, sent.as_deref()))?;
        let mut info = describe(&stream).with_client_certificate(watch.seen());
        if let Some(name) = checked {
            info = info.with_server_name(&name);
        }
        Ok((Box::new(stream), info))
    }
}

impl TlsConfig {
    /// Adds what may help to a failure, if the server was sent this name.
    fn advise(&self, error: TlsError, sent: Option<&str>) -> TlsError {
        match (error.failure(), sent) {
            (TlsFailure::UnknownIssuer, _) if self.only_system_roots => error.with_hint(
                "no CA was given: add ?tls-certificates=DIR to the URI, or use \
                 `TlsConfig::builder().ca_pem(…)`",
            ),
            (TlsFailure::Closed | TlsFailure::Handshake, Some(name)) => {
                let why = match name.contains('_') {
                    true => ": GnuTLS servers refuse one with an underscore",
                    false => "",
                };
                error.with_hint(&format!("the server name sent was {name:?}{why}"))
            }
            _ => error,
        }
    }
}

fn describe(stream: &TlsStream<BufReader<Box<dyn ByteStream>>>) -> TlsInfo {
    let (_, session) = stream.get_ref();
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "unknown",
    };
    let suite = session
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str())
        .unwrap_or("unknown");
    // rustls has its own names for those of TLS 1.3.
    let suite = suite.replacen("TLS13_", "TLS_", 1);
    let chain = session.peer_certificates().unwrap_or_default();
    TlsInfo::new(version, &suite)
        .with_peer_certificates(chain.iter().map(|certificate| certificate.to_vec()))
}

/// Finds the likely cause of a failed handshake.
fn explain(error: io::Error, client: ClientCertificate, checked: Option<&str>) -> TlsError {
    let failure = match cause(&error) {
        Some(RustlsError::InvalidCertificate(why)) => certificate_failure(why),
        Some(RustlsError::AlertReceived(alert)) => alert_failure(*alert, client),
        Some(_) => TlsFailure::Handshake,
        None => return unaccepted(client, error),
    };
    let is_name = failure == TlsFailure::WrongName;
    let error = TlsError::new(failure, error);
    match checked {
        Some(name) if is_name => error.with_server_name(name),
        _ => error,
    }
}

/// The likely meaning of an error, if it is an alert of the server.
pub(super) fn alert(error: &io::Error, client: ClientCertificate) -> Option<TlsFailure> {
    match cause(error)? {
        RustlsError::AlertReceived(alert) => Some(alert_failure(*alert, client)),
        _ => None,
    }
}

fn cause(error: &io::Error) -> Option<&RustlsError> {
    error.get_ref()?.downcast_ref()
}

const fn certificate_failure(why: &CertificateError) -> TlsFailure {
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            TlsFailure::UnknownIssuer
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFailure::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsFailure::NotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsFailure::WrongName
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            TlsFailure::WrongPurpose
        }
        CertificateError::Revoked => TlsFailure::Revoked,
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => TlsFailure::RevocationUnknown,
        _ => TlsFailure::BadCertificate,
    }
}

/// What an alert of the server most likely means, given what the client showed.
const fn alert_failure(alert: AlertDescription, client: ClientCertificate) -> TlsFailure {
    match (alert, client) {
        (AlertDescription::CertificateRequired, _) | (_, ClientCertificate::Missing) => {
            TlsFailure::NoClientCertificate
        }
        (
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure
            | AlertDescription::DecryptError,
            ClientCertificate::Sent,
        ) => TlsFailure::ClientCertificateRejected,
        _ => TlsFailure::Handshake,
    }
}

const NOT_ASKED: u8 = 0;
const MISSING: u8 = 1;
const SENT: u8 = 2;

/// Sees whether the server asks for a certificate.
#[derive(Debug)]
struct Watch {
    inner: Arc<dyn ResolvesClientCert>,
    seen: AtomicU8,
}

impl Watch {
    fn seen(&self) -> ClientCertificate {
        match self.seen.load(Ordering::Relaxed) {
            NOT_ASKED => ClientCertificate::NotAsked,
            MISSING => ClientCertificate::Missing,
            _ => ClientCertificate::Sent,
        }
    }
}

impl ResolvesClientCert for Watch {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let found = self.inner.resolve(root_hint_subjects, schemes);
        let seen = if found.is_some() { SENT } else { MISSING };
        self.seen.store(seen, Ordering::Relaxed);
        found
    }

    fn only_raw_public_keys(&self) -> bool {
        self.inner.only_raw_public_keys()
    }

    fn has_certs(&self) -> bool {
        self.inner.has_certs()
    }
}

/// Returns the cryptography. The default of the process is not used: it could be unset, or set by
/// other code.
#[cfg(feature = "tls-aws-lc-rs")]
pub(super) fn provider() -> CryptoProvider {
    let mut provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
    // rustls puts the hybrid group last, unless one of its features says otherwise.
    let is_hybrid = |group: &&dyn SupportedKxGroup| group.name() == NamedGroup::X25519MLKEM768;
    provider.kx_groups.sort_by_key(|group| !is_hybrid(group));
    provider
}

/// Returns the cryptography. The default of the process is not used: it could be unset, or set by
/// other code.
#[cfg(not(feature = "tls-aws-lc-rs"))]
pub(super) fn provider() -> CryptoProvider {
    tokio_rustls::rustls::crypto::ring::default_provider()
}

#[cfg(all(test, feature = "tls-aws-lc-rs"))]
mod tests {
    use super::*;

    #[test]
    fn key_exchange_that_withstands_quantum_computers_is_offered_first() {
        let names: Vec<_> = provider()
            .kx_groups
            .iter()
            .map(|group| group.name())
            .collect();
        assert_eq!(names.first(), Some(&NamedGroup::X25519MLKEM768));
        // Servers that do not have it are left a choice.
        assert!(names.contains(&NamedGroup::X25519), "{names:?}");
        let hybrid = |name: &&NamedGroup| **name == NamedGroup::X25519MLKEM768;
        assert_eq!(names.iter().filter(hybrid).count(), 1);
    }
}
