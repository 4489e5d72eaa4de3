//! Errors say what is likely to be wrong.

use std::fs;
use std::path::Path;
use std::process::Command;

use nbd_client::{Connection, Error, TlsConfig, TlsConfigBuilder, TlsFailure, TlsMode, TlsVersion};

use crate::pki;
use crate::server::{Over, Server};
use crate::wire::failure;

fn nbdkit() -> Server {
    let certificates = format!("--tls-certificates={}", pki::path("good").display());
    let args = [
        "--tls=require",
        "--tls-verify-peer",
        &certificates,
        "memory",
        "1M",
    ];
    Server::nbdkit(Over::Tcp, &args)
}

fn qemu() -> Server {
    let dir = pki::path("good").display().to_string();
    let credentials = format!("tls-creds-x509,dir={dir},verify-peer=yes");
    Server::qemu(Over::Tcp, 1 << 20, &credentials)
}

fn nbd_server() -> Server {
    let dir = pki::path("good").display().to_string();
    let generic = format!(
        "certfile = {dir}/server-cert.pem\nkeyfile = {dir}/server-key.pem\n\
         cacertfile = {dir}/ca-cert.pem\nforce_tls = true\n"
    );
    Server::nbd_server(Over::Tcp, 1 << 20, &generic)
}

/// The failure of a client whom the server will not have.
async fn turned_away(server: Server, config: TlsConfigBuilder, version: TlsVersion) -> TlsFailure {
    let config = config.min_version(version).max_version(version);
    let conn = Connection::builder()
        .export_name("disk")
        .tls(TlsMode::Require, config.build().unwrap())
        .build();
    failure(server.connect(&conn).await)
}

fn stranger() -> TlsConfigBuilder {
    pki::trusting().client_pem(pki::read("stranger-cert.pem"), pki::read("client-key.pem"))
}

macro_rules! turned_away {
    ($($name:ident: $server:ident $config:path, $version:ident => $failure:ident;)*) => {
        $(#[tokio::test]
        async fn $name() {
            let failure = turned_away($server(), $config(), TlsVersion::$version).await;
            assert_eq!(failure, TlsFailure::$failure);
        })*
    };
}

turned_away! {
    nbdkit_wants_a_certificate_with_tls_1_2: nbdkit pki::trusting, Tls12 => NoClientCertificate;
    nbdkit_wants_a_certificate_with_tls_1_3: nbdkit pki::trusting, Tls13 => NoClientCertificate;
    qemu_wants_a_certificate_with_tls_1_2: qemu pki::trusting, Tls12 => NoClientCertificate;
    qemu_wants_a_certificate_with_tls_1_3: qemu pki::trusting, Tls13 => NoClientCertificate;
    nbd_server_wants_a_certificate_with_tls_1_2:
        nbd_server pki::trusting, Tls12 => NoClientCertificate;
    nbd_server_wants_a_certificate_with_tls_1_3:
        nbd_server pki::trusting, Tls13 => NoClientCertificate;
    nbdkit_wants_another_certificate_with_tls_1_2:
        nbdkit stranger, Tls12 => ClientCertificateRejected;
    nbdkit_wants_another_certificate_with_tls_1_3:
        nbdkit stranger, Tls13 => ClientCertificateRejected;
    qemu_wants_another_certificate_with_tls_1_2: qemu stranger, Tls12 => ClientCertificateRejected;
    qemu_wants_another_certificate_with_tls_1_3: qemu stranger, Tls13 => ClientCertificateRejected;
    nbd_server_wants_another_certificate_with_tls_1_2:
        nbd_server stranger, Tls12 => ClientCertificateRejected;
    nbd_server_wants_another_certificate_with_tls_1_3:
        nbd_server stranger, Tls13 => ClientCertificateRejected;
}

#[tokio::test]
async fn anonymous_server_is_refused() {
    let server = Server::qemu(Over::Tcp, 1 << 20, "tls-creds-anon");
    let conn = Connection::builder()
        .tls(TlsMode::Require, pki::trusting().build().unwrap())
        .build();
    let failure = failure(server.connect(&conn).await);
    assert!(
        matches!(failure, TlsFailure::Handshake | TlsFailure::Closed),
        "{failure:?}"
    );
}

#[tokio::test]
async fn no_name_to_check_is_an_error_before_anything_is_connected() {
    let config = pki::trusting().build().unwrap();
    let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
    for mode in [TlsMode::Prefer, TlsMode::Require] {
        let conn = Connection::builder().tls(mode, config.clone()).build();
        let (stream, _server) = tokio::io::duplex(64);
        for error in [
            conn.connect_unix("/nonexistent").await.unwrap_err(),
            conn.connect_socket(one.try_clone().unwrap())
                .await
                .unwrap_err(),
            conn.connect_stream(stream).await.unwrap_err(),
            conn.connect_command(["/nonexistent"]).await.unwrap_err(),
        ] {
            assert!(
                error.to_string().contains("TlsConfig::server_name"),
                "{error}"
            );
            assert!(conn.is_created());
        }
    }
    drop(other);
}

#[tokio::test]
async fn impossible_name_is_an_error_before_anything_is_connected() {
    for name in ["", "under_score/", "a b", "::g"] {
        let config = pki::trusting().build().unwrap().server_name(name);
        let conn = Connection::builder().tls(TlsMode::Require, config).build();
        let error = conn.connect_tcp("localhost", 1).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        assert!(conn.is_created());
    }
}

#[tokio::test]
async fn addresses_are_names_with_brackets_and_zones_and_without() {
    for name in [
        "::1",
        "[::1]",
        "fe80::1%eth0",
        "127.0.0.1",
        "localhost",
        "a.b-c.example",
    ] {
        let config = pki::trusting().build().unwrap().server_name(name);
        let (stream, _) = tokio::io::duplex(64);
        let conn = Connection::builder().tls(TlsMode::Require, config).build();
        let error = conn.connect_stream(stream).await.unwrap_err();
        assert!(matches!(error, Error::Disconnected(..)), "{name}: {error}");
    }
}

#[cfg(not(feature = "tls-native-roots"))]
#[test]
fn no_authority_is_an_error() {
    let error = TlsConfig::builder().build().unwrap_err();
    assert!(
        error.to_string().contains("invalid TLS CA: none is given"),
        "{error}"
    );
}

#[cfg(feature = "tls-native-roots")]
#[tokio::test]
async fn without_an_authority_those_of_the_system_count() {
    let server = nbdkit();
    let config = TlsConfig::builder().build().unwrap();
    let conn = Connection::builder().tls(TlsMode::Require, config).build();
    assert_eq!(
        failure(server.connect(&conn).await),
        TlsFailure::UnknownIssuer
    );
}

#[test]
fn key_of_another_certificate_is_an_error() {
    let key = pki::read("server-key.pem");
    let config = pki::trusting().client_pem(pki::read("client-cert.pem"), key);
    let error = config.build().unwrap_err();
    assert!(
        error.to_string().starts_with("invalid TLS client key"),
        "{error}"
    );
}

#[test]
fn encrypted_key_is_an_error_that_says_so() {
    let key = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let config = pki::trusting().client_pem(pki::read("client-cert.pem"), key);
    let error = config.build().unwrap_err();
    assert!(error.to_string().contains("not encrypted"), "{error}");
}

/// certtool writes a zero byte before about every second elliptic curve key.
#[test]
fn key_with_a_zero_byte_too_many_is_an_error_that_says_how_to_repair_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    let path = path.to_str().unwrap();
    for _ in 0..100 {
        let args = ["--generate-privkey", "--key-type=ecdsa", "--outfile", path];
        let output = Command::new("certtool").args(args).output().unwrap();
        assert!(output.status.success());
        let key = fs::read(path).unwrap();
        let config = pki::trusting().client_pem(pki::read("client-cert.pem"), key);
        let error = config.build().unwrap_err().to_string();
        if error.contains("zero byte") {
            assert!(error.contains("openssl pkcs8 -topk8 -nocrypt"), "{error}");
            return;
        }
    }
    panic!("a hundred keys, and none with a zero byte too many");
}

#[test]
fn what_is_not_what_it_should_be_is_named() {
    let ca = || TlsConfig::builder().ca_pem(pki::read("ca/ca-cert.pem"));
    let chain = || pki::read("client-cert.pem");
    for (config, what) in [
        (TlsConfig::builder().ca_pem("nothing"), "TLS CA"),
        (TlsConfig::builder().ca_der(*b"nothing"), "TLS CA"),
        (
            ca().client_pem("nothing", "nothing"),
            "TLS client certificate",
        ),
        (ca().client_pem(chain(), "nothing"), "TLS client key"),
        (
            ca().client_der([*b"nothing"], *b"nothing"),
            "TLS client key",
        ),
        (ca().crl_pem("nothing"), "TLS revocation list"),
        (ca().crl_der(*b"nothing"), "TLS revocation list"),
        (
            TlsConfig::builder().directory("/nonexistent"),
            "TLS directory",
        ),
        (
            ca().min_version(TlsVersion::Tls13)
                .max_version(TlsVersion::Tls12),
            "TLS versions",
        ),
    ] {
        let error = config.build().unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("invalid {what}: ")),
            "{error}"
        );
    }
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

#[tokio::test]
async fn directory_with_a_certificate_for_the_client_is_all_it_takes() {
    let dir = directory(&[
        CA,
        ("client-cert.pem", "client-cert.pem"),
        ("client-key.pem", "client-key.pem"),
        ("ca-crl.pem", "ca-crl.pem"),
    ]);
    connects_with(dir.path(), &nbdkit()).await.unwrap();
}

#[tokio::test]
async fn directory_with_numbered_certificates_will_do_too() {
    let dir = directory(&[
        CA,
        ("client-cert-0.pem", "client-cert.pem"),
        ("client-key-0.pem", "client-key.pem"),
    ]);
    connects_with(dir.path(), &nbdkit()).await.unwrap();
}

#[tokio::test]
async fn directory_without_a_certificate_for_the_client_offers_none() {
    let dir = directory(&[CA]);
    let result = connects_with(dir.path(), &nbdkit()).await;
    assert_eq!(failure(result), TlsFailure::NoClientCertificate);
}

#[tokio::test]
async fn directory_with_a_revocation_list_has_it_heeded() {
    let certificates = format!("--tls-certificates={}", pki::path("revoked").display());
    let args = ["--tls=require", &certificates, "memory", "1M"];
    let server = Server::nbdkit(Over::Tcp, &args);
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

#[tokio::test]
async fn forms_of_certificates_and_keys_are_all_taken() {
    let convert = |args: &[&str]| {
        let output = Command::new("openssl").args(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        output.stdout
    };
    let path = |name: &str| pki::path(name).to_str().unwrap().to_owned();
    let der = |name: &str| convert(&["x509", "-in", &path(name), "-outform", "DER"]);
    let key = path("client-key.pem");
    let crl = convert(&["crl", "-in", &path("ca-crl.pem"), "-outform", "DER"]);
    for key in [
        convert(&[
            "pkcs8", "-topk8", "-nocrypt", "-in", &key, "-outform", "DER",
        ]),
        convert(&["rsa", "-traditional", "-in", &key, "-outform", "DER"]),
    ] {
        let config = TlsConfig::builder()
            .ca_der(der("ca/ca-cert.pem"))
            .client_der([der("client-cert.pem")], key)
            .crl_der(crl.clone())
            .build()
            .unwrap();
        let conn = Connection::builder().tls(TlsMode::Require, config).build();
        nbdkit_connects(&conn).await;
    }
}

async fn nbdkit_connects(conn: &Connection) {
    nbdkit().connect(conn).await.unwrap();
}

#[test]
fn debug_shows_no_keys() {
    let key = String::from_utf8(pki::read("client-key.pem")).unwrap();
    let line = key.lines().rfind(|line| line.len() == 64).unwrap();
    let builder = pki::mutual();
    let mut text = format!("{builder:?}");
    let config = builder.build().unwrap();
    text += &format!("{config:?}");
    text += &format!("{:?}", Connection::builder().tls(TlsMode::Require, config));
    assert!(!text.contains(line));
    assert!(!text.contains("PRIVATE"));
    assert!(text.len() < 2000, "{text}");
}
