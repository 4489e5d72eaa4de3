//! The parts of a TLS configuration, and how rustls is set up with them.

use std::sync::Arc;

use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::config::TlsConfig;
use super::identities::Identities;
use super::rustls::provider;
use super::verify::{AnyName, AnyServer};
use super::{TlsVersion, pem};
use crate::error::{Error, InvalidUse, Result};

/// The name of the authorities in errors.
pub(super) const CA: &str = "TLS CA";

/// The parts of a configuration.
pub(super) struct Parts {
    provider: Arc<CryptoProvider>,
    pub(super) roots: RootCertStore,
    #[cfg(feature = "tls-native-roots")]
    pub(super) native_roots: bool,
    pub(super) identities: Vec<Arc<CertifiedKey>>,
    pub(super) crls: Vec<CertificateRevocationListDer<'static>>,
    pub(super) versions: (TlsVersion, TlsVersion),
    pub(super) trust: Trust,
}

/// What is not verified; each variant includes the ones before it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Trust {
    Verified,
    AnyName,
    AnyServer,
}

impl Parts {
    pub(super) fn new() -> Self {
        Self {
            provider: Arc::new(provider()),
            roots: RootCertStore::empty(),
            #[cfg(feature = "tls-native-roots")]
            native_roots: false,
            identities: Vec::new(),
            crls: Vec::new(),
            versions: (TlsVersion::Tls12, TlsVersion::Tls13),
            trust: Trust::Verified,
        }
    }

    pub(super) fn trust_authority(&mut self, certificate: CertificateDer<'static>) -> Result<()> {
        self.roots
            .add(certificate)
            .map_err(|error| Error::credentials(CA, error.to_string()))
    }

    pub(super) fn add_identity(
        &mut self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<()> {
        self.identities
            .push(pem::identity(chain, key, &self.provider)?);
        Ok(())
    }

    pub(super) fn build(mut self) -> Result<TlsConfig> {
        let any_name = self.trust != Trust::Verified;
        let only_system_roots = self.roots.is_empty() && !self.wants_native_roots();
        let versions: Vec<&'static SupportedProtocolVersion> = self.versions();
        let identities = Identities(std::mem::take(&mut self.identities));
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&versions)
            .map_err(|_| InvalidUse::TlsVersions)?;
        let builder = match self.trust {
            Trust::Verified => builder.with_webpki_verifier(self.verifier()?),
            Trust::AnyName => {
                let verifier = Arc::new(AnyName(self.verifier()?));
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(verifier)
            }
            Trust::AnyServer => {
                let verifier = Arc::new(AnyServer(self.provider));
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(verifier)
            }
        };
        let mut config = builder.with_client_cert_resolver(Arc::new(identities));
        // A resumed session would not verify the certificate again.
        config.resumption = Resumption::disabled();
        Ok(TlsConfig {
            config: Arc::new(config),
            server_name: None,
            any_name,
            only_system_roots,
        })
    }

    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let (min, max) = self.versions;
        [(TlsVersion::Tls13, &TLS13), (TlsVersion::Tls12, &TLS12)]
            .into_iter()
            .filter_map(|(version, supported)| (min..=max).contains(&version).then_some(supported))
            .collect()
    }

    fn verifier(&mut self) -> Result<Arc<WebPkiServerVerifier>> {
        self.add_native_roots()?;
        if self.roots.is_empty() {
            let hint = "; the feature tls-native-roots uses those of the system".into();
            return Err(InvalidUse::NoAuthority { hint }.into());
        }
        let roots = Arc::new(std::mem::replace(&mut self.roots, RootCertStore::empty()));
        WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone())
            .with_crls(std::mem::take(&mut self.crls))
            .enforce_revocation_expiration()
            .build()
            .map_err(|error| Error::credentials("TLS revocation list", error.to_string()))
    }

    #[cfg(feature = "tls-native-roots")]
    fn add_native_roots(&mut self) -> Result<()> {
        if !self.native_roots && !self.roots.is_empty() {
            return Ok(());
        }
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = self.roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
            let why = errors.join(", ");
            let hint = format!("; the system has none either ({why})").replace(" ()", "");
            return Err(InvalidUse::NoAuthority { hint }.into());
        }
        Ok(())
    }

    /// Returns whether the authorities of the system were asked for.
    #[allow(clippy::unused_self, reason = "used with the feature")]
    const fn wants_native_roots(&self) -> bool {
        #[cfg(feature = "tls-native-roots")]
        return self.native_roots;
        #[cfg(not(feature = "tls-native-roots"))]
        false
    }

    #[cfg(not(feature = "tls-native-roots"))]
    #[allow(clippy::unused_self, clippy::needless_pass_by_ref_mut)]
    fn add_native_roots(&mut self) -> Result<()> {
        Ok(())
    }
}
