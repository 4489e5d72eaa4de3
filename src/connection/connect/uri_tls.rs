//! The TLS settings of a URI.

use std::sync::Arc;

use crate::error::{Error, InvalidUse, Result, TlsError, TlsFailure};
use crate::transport::tls::{ByteStream, Tls, TlsMode, TlsUpgrade, Upgrading};
use crate::uri::{Endpoint, TlsType, Uri};

type Upgrade = Arc<dyn TlsUpgrade>;

/// Combines the TLS settings of the handle with those of the URI.
pub(super) fn of_uri(mut tls: Tls, uri: &Uri, opt_mode: bool) -> Result<Tls> {
    if uri.is_tls() {
        tls.mode = TlsMode::Require;
    }
    tls.server_name = match uri.endpoint() {
        _ if uri.tls_hostname().is_some() => uri.tls_hostname().map(Into::into),
        Endpoint::Tcp { host, .. } => Some(host.clone()),
        _ => None,
    };
    if tls.mode != TlsMode::Disable {
        tls.upgrade = Some(upgrade(tls.upgrade.take(), uri)?);
    } else if opt_mode && asks(uri) {
        // Only `opt_starttls` needs them.
        let upgrade = upgrade(tls.upgrade.take(), uri);
        tls.upgrade = Some(upgrade.unwrap_or_else(|error| Arc::new(Unusable(error))));
    }
    Ok(tls)
}

/// Credentials that cannot be used, and why.
#[derive(Debug)]
struct Unusable(Error);

impl TlsUpgrade for Unusable {
    fn check(&self, _: Option<&str>) -> Result<()> {
        Err(self.0.clone())
    }

    fn upgrade<'a>(&'a self, _: Box<dyn ByteStream>, _: Option<&'a str>) -> Upgrading<'a> {
        let error = TlsError::new(TlsFailure::Handshake, self.0.clone().into());
        Box::pin(std::future::ready(Err(error)))
    }
}

/// Returns whether the URI has TLS parameters.
fn asks(uri: &Uri) -> bool {
    uri.tls_type().is_some()
        || uri.tls_certificates().is_some()
        || uri.tls_psk_file().is_some()
        || uri.tls_verify_peer().is_some()
}

/// Returns the implementation for the credentials that the URI names, or else that of the handle.
fn upgrade(present: Option<Upgrade>, uri: &Uri) -> Result<Upgrade> {
    let kind = match uri.tls_type() {
        // A key has precedence over certificates, as in servers and other clients.
        None if uri.tls_psk_file().is_some() => Some(TlsType::Psk),
        None if uri.tls_certificates().is_some() => Some(TlsType::X509),
        None if uri.tls_verify_peer() == Some(false) => Some(TlsType::X509),
        kind => kind,
    };
    let names_some = match kind {
        Some(TlsType::Psk) => uri.tls_psk_file().is_some(),
        Some(TlsType::X509) => {
            uri.tls_certificates().is_some() || uri.tls_verify_peer() == Some(false)
        }
        _ => false,
    };
    match (kind, present) {
        (Some(TlsType::Anon), _) => {
            let why = "this URI asks for TLS without any proof of who the server is, which \
                       nbd-client does not do";
            Err(InvalidUse::NotBuilt(why).into())
        }
        (_, Some(present)) if !names_some => Ok(present),
        (Some(TlsType::Psk), _) => psk(uri),
        (Some(TlsType::X509) | None, _) => x509(uri),
    }
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
fn x509(uri: &Uri) -> Result<Upgrade> {
    let mut config = crate::TlsConfig::builder();
    if let Some(directory) = uri.tls_certificates() {
        config = config.directory(directory);
    }
    if uri.tls_verify_peer() == Some(false) {
        config = config.danger_accept_any_server();
    }
    Ok(Arc::new(config.build()?))
}

#[cfg(not(any(feature = "tls", feature = "tls-aws-lc-rs")))]
fn x509(_: &Uri) -> Result<Upgrade> {
    let why = "this URI asks for TLS with certificates, which this build of nbd-client does not \
               have: the feature is called tls";
    Err(Error::from(InvalidUse::NotBuilt(why)))
}

#[cfg(feature = "tls-psk")]
fn psk(uri: &Uri) -> Result<Upgrade> {
    let Some(file) = uri.tls_psk_file() else {
        let why = "the URI asks for a pre-shared key, but has no tls-psk-file";
        return Err(Error::credentials("TLS key file", why));
    };
    Ok(Arc::new(crate::TlsPsk::from_file(file, uri.tls_user())?))
}

#[cfg(not(feature = "tls-psk"))]
fn psk(_: &Uri) -> Result<Upgrade> {
    let why = "this URI asks for TLS with a pre-shared key, which this build of nbd-client does \
               not have: the feature is called tls-psk";
    Err(Error::from(InvalidUse::NotBuilt(why)))
}
