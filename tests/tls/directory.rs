//! Credentials from files, in all forms they come in.

use std::fs;
use std::path::Path;

use nbd_client::{Connection, TlsConfig, TlsFailure, TlsMode};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
};

use crate::shared::pki;
use crate::shared::server::{Over, Server};
use crate::tls::servers;
use crate::tls::wire::failure;

fn nbdkit() -> Server {
    let certificates = format!("--tls-certificates={}", pki::path("good").display());
    let args = [
        "--tls=require",
        "--tls-verify-peer",
        &certificates,
        "memory",
        "1M",
    ];
    servers::nbdkit(Over::Tcp, &args)
}

/// A directory with these files of the PKI under these names.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, file) in files {
        fs::copy(pki::path(file), dir.path().join(name)).unwrap();
    }
    dir
}

const CA: (&str, &str) = ("ca-cert.pem", "ca/ca-cert.pem");

async fn connects_with(dir: &Path, server: &Server) -> nbd_client::Result<()> {
    let config = TlsConfig::from_directory(dir)?;
    let conn = Connection::builder().tls(TlsMode::Require, config).build();
    server.connect(&conn).await
}

both_runtimes!(directory_with_a_certificate_for_the_client_is_all_it_takes);
async fn directory_with_a_certificate_for_the_client_is_all_it_takes() {
    let dir = directory(&[
        CA,
        ("client-cert.pem", "client-cert.pem"),
        ("client-key.pem", "client-key.pem"),
        ("ca-crl.pem", "ca-crl.pem"),
    ]);
    connects_with(dir.path(), &nbdkit()).await.unwrap();
}

both_runtimes!(directory_with_numbered_certificates_will_do_too);
async fn directory_with_numbered_certificates_will_do_too() {
    let dir = directory(&[
        CA,
        ("client-cert-0.pem", "client-cert.pem"),
        ("client-key-0.pem", "client-key.pem"),
    ]);
    connects_with(dir.path(), &nbdkit()).await.unwrap();
}

both_runtimes!(directory_without_a_certificate_for_the_client_offers_none);
async fn directory_without_a_certificate_for_the_client_offers_none() {
    let dir = directory(&[CA]);
    let result = connects_with(dir.path(), &nbdkit()).await;
    assert_eq!(failure(result), TlsFailure::NoClientCertificate);
}

both_runtimes!(directory_with_a_revocation_list_has_it_heeded);
async fn directory_with_a_revocation_list_has_it_heeded() {
    let certificates = format!("--tls-certificates={}", pki::path("revoked").display());
    let args = ["--tls=require", &certificates, "memory", "1M"];
    let server = servers::nbdkit(Over::Tcp, &args);
    connects_with(directory(&[CA]).path(), &server)
        .await
        .unwrap();
    let dir = directory(&[CA, ("ca-crl.pem", "ca-crl.pem")]);
    let result = connects_with(dir.path(), &server).await;
    assert_eq!(failure(result), TlsFailure::Revoked);
}

#[test]
fn directory_says_which_file_is_missing() {
    for (files, missing) in [
        (&[][..], "ca-cert.pem"),
        (
            &[CA, ("client-cert.pem", "client-cert.pem")],
            "client-key.pem",
        ),
        (
            &[CA, ("client-key-0.pem", "client-key.pem")],
            "client-cert-0.pem",
        ),
    ] {
        let dir = directory(files);
        let error = TlsConfig::from_directory(dir.path()).unwrap_err();
        assert!(
            error.to_string().contains(&format!("no {missing}"))
                || error.to_string().ends_with(missing),
            "{error}"
        );
    }
}

both_runtimes!(der_will_do_as_well_as_pem);
async fn der_will_do_as_well_as_pem() {
    let certificate = |name: &str| CertificateDer::from_pem_slice(&pki::read(name)).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&pki::read("client-key.pem")).unwrap();
    let crl = CertificateRevocationListDer::from_pem_slice(&pki::read("ca-crl.pem")).unwrap();
    let config = TlsConfig::builder()
        .ca_der(certificate("ca/ca-cert.pem").to_vec())
        .client_der([certificate("client-cert.pem").to_vec()], key.secret_der())
        .crl_der(crl.to_vec())
        .build()
        .unwrap();
    let conn = Connection::builder().tls(TlsMode::Require, config).build();
    nbdkit().connect(&conn).await.unwrap();
}

#[cfg(feature = "tls-native-roots")]
#[tokio::test]
async fn t29_without_an_authority_those_of_the_system_count() {
    let server = nbdkit();
    let config = TlsConfig::builder().build().unwrap();
    let conn = Connection::builder().tls(TlsMode::Require, config).build();
    assert_eq!(
        failure(server.connect(&conn).await),
        TlsFailure::UnknownIssuer
    );
}
