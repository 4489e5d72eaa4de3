//! Configurations that cannot work, and errors that say why.

use std::fs;
use std::process::Command;

use nbd_client::{Connection, Error, TlsConfig, TlsMode, TlsVersion};

use crate::shared::pki;

#[tokio::test]
async fn t28_no_name_to_check_is_an_error_before_anything_is_connected() {
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
        assert!(matches!(error, Error::InvalidUse(_)), "{error}");
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
fn t29_no_authority_is_an_error() {
    let error = TlsConfig::builder().build().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no certificate authority to trust"),
        "{error}"
    );
}

#[test]
fn key_of_another_certificate_is_an_error() {
    let key = pki::read("server-key.pem");
    let config = pki::trusting().client_pem(pki::read("client-cert.pem"), key);
    let error = config.build().unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot use the TLS client key"),
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
        (
            TlsConfig::builder().ca_pem("nothing"),
            "cannot use the TLS CA: ",
        ),
        (
            TlsConfig::builder().ca_der(*b"nothing"),
            "cannot use the TLS CA: ",
        ),
        (
            ca().client_pem("nothing", "nothing"),
            "cannot use the TLS client certificate: ",
        ),
        (
            ca().client_pem(chain(), "nothing"),
            "cannot use the TLS client key: ",
        ),
        (
            ca().client_der([*b"nothing"], *b"nothing"),
            "cannot use the TLS client key: ",
        ),
        (
            ca().crl_pem("nothing"),
            "cannot use the TLS revocation list: ",
        ),
        (
            ca().crl_der(*b"nothing"),
            "cannot use the TLS revocation list: ",
        ),
        (
            TlsConfig::builder().directory("/nonexistent"),
            "cannot use the TLS directory: ",
        ),
        (
            ca().min_version(TlsVersion::Tls13)
                .max_version(TlsVersion::Tls12),
            "no TLS version is allowed: ",
        ),
    ] {
        let error = config.build().unwrap_err();
        assert!(error.to_string().starts_with(what), "{error}");
    }
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
