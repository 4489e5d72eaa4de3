//! Certificates, keys and revocation lists, from the forms they are kept in.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
};
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::error::{Error, Result};

/// The certificates in a PEM text: at least one.
pub(super) fn certificates(
    what: &'static str,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>> {
    all(what, "certificate", CertificateDer::pem_slice_iter(text))
}

/// The revocation lists in a PEM text: at least one.
pub(super) fn revocation_lists(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>> {
    let lists = CertificateRevocationListDer::pem_slice_iter(text);
    all("TLS revocation list", "revocation list", lists)
}

/// The first private key in a PEM text.
pub(super) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| {
        let why = match error {
            pem::Error::NoItemsFound => {
                "it contains no private key that is not encrypted".to_owned()
            }
            error => error.to_string(),
        };
        Error::credentials("TLS client key", why)
    })
}

/// A certificate chain with its private key, found to belong together.
pub(super) fn identity(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>> {
    let has_padded_scalar = has_padded_scalar(key.secret_der());
    match CertifiedKey::from_der(chain, key, provider) {
        Ok(identity) => Ok(Arc::new(identity)),
        Err(error) if has_padded_scalar => Err(Error::credentials(
            "TLS client key",
            format!(
                "{error}; it is an elliptic curve key with a leading zero byte too many, as \
                 certtool writes about half of them: `openssl pkcs8 -topk8 -nocrypt` repairs it"
            ),
        )),
        Err(error) => Err(Error::credentials("TLS client key", error.to_string())),
    }
}

/// Whether a key holds a scalar of one byte more than P-256, P-384 or P-521 have (RFC 5915,
/// section 3): `version 1, OCTET STRING` with a zero in front.
fn has_padded_scalar(der: &[u8]) -> bool {
    [33, 49, 67]
        .into_iter()
        .map(|length| [0x02, 0x01, 0x01, 0x04, length, 0x00])
        .any(|start| der.windows(start.len()).any(|window| window == start))
}

fn all<T>(
    what: &'static str,
    one: &'static str,
    items: impl Iterator<Item = Result<T, pem::Error>>,
) -> Result<Vec<T>> {
    let items: Vec<T> = items
        .collect::<Result<_, _>>()
        .map_err(|error| Error::credentials(what, error.to_string()))?;
    if items.is_empty() {
        return Err(Error::credentials(what, format!("it contains no {one}")));
    }
    Ok(items)
}
