//! What an error of TLS says to do next, with a real server.

use nbd_client::{Connection, TlsConfig, TlsFailure, TlsMode};

use crate::shared::pki;
use crate::shared::server::{Over, Server};
use crate::tls::servers;

fn nbdkit(over: Over) -> Server {
    let certificates = format!("--tls-certificates={}", pki::path("good").display());
    servers::nbdkit(over, &["--tls=require", &certificates, "memory", "1M"])
}

/// The kind and the text of the failure.
async fn failed(over: Over, config: TlsConfig) -> (TlsFailure, String) {
    let server = nbdkit(over);
    let conn = Connection::builder().tls(TlsMode::Require, config).build();
    let error = server.connect_as(&conn, "localhost").await.unwrap_err();
    match &error {
        nbd_client::Error::Tls(tls, _) => (tls.failure(), error.to_string()),
        other => panic!("no failure of TLS: {other}"),
    }
}

both_runtimes!(a_name_that_gnutls_refuses_is_in_the_error);
async fn a_name_that_gnutls_refuses_is_in_the_error() {
    let config = pki::trusting().build().unwrap().server_name("my_host");
    let (_, text) = failed(Over::Unix, config).await;
    let hint = "the server name sent was \"my_host\": GnuTLS servers refuse one with an underscore";
    assert!(text.contains(hint), "{text}");
}

both_runtimes!(a_certificate_that_is_checked_without_an_authority_says_so);
async fn a_certificate_that_is_checked_without_an_authority_says_so() {
    // Without that feature, or where the system has no authorities, it cannot even be built.
    let config = match TlsConfig::builder().build() {
        Ok(config) => config,
        Err(error) => {
            let text = error.to_string();
            return assert!(text.contains("?tls-certificates=DIR"), "{text}");
        }
    };
    let (failure, text) = failed(Over::Tcp, config).await;
    assert_eq!(failure, TlsFailure::UnknownIssuer);
    let hint = "no CA was given: add ?tls-certificates=DIR to the URI";
    assert!(text.contains(hint), "{text}");
    // With one, there is nothing to add.
    let config = TlsConfig::builder().ca_pem(pki::read("other/ca-cert.pem"));
    let (failure, text) = failed(Over::Tcp, config.build().unwrap()).await;
    assert_eq!(failure, TlsFailure::UnknownIssuer);
    assert!(!text.contains("no CA"), "{text}");
}
