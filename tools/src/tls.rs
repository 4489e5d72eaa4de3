//! TLS where the URI names no certificates.

use nbd_client::{Builder, Result, Uri};

/// Uses the certificates in libnbd's default directories, or the authorities of the system, if the
/// URI wants TLS and does not say with what.
pub(crate) fn with_default_certificates(builder: Builder, uri: &Uri) -> Result<Builder> {
    let names_some = uri.tls_certificates().is_some()
        || uri.tls_psk_file().is_some()
        || uri
            .tls_type()
            .is_some_and(|kind| kind != nbd_client::TlsType::X509)
        || uri.tls_verify_peer() == Some(false);
    if uri.is_tls() && !names_some {
        return default(builder);
    }
    Ok(builder)
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
fn default(builder: Builder) -> Result<Builder> {
    let tls = nbd_client::TlsConfig::from_default_directories()?;
    // The URI requires it.
    Ok(builder.tls(nbd_client::TlsMode::Disable, tls))
}

#[cfg(not(any(feature = "tls", feature = "tls-aws-lc-rs")))]
#[allow(clippy::unnecessary_wraps, reason = "as with TLS")]
const fn default(builder: Builder) -> Result<Builder> {
    Ok(builder)
}
