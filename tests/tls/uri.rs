//! TLS as a URI wants it.

use std::fs;
use std::path::Path;

use nbd_client::{Connection, Error, TlsConfig, TlsFailure, TlsMode, UriPolicy};
use tempfile::TempDir;

use crate::shared::pki;
use crate::shared::server::{Over, Server};
use crate::tls::servers;
use crate::tls::wire::failure;

fn nbdkit(over: Over, tls: &str, directory: &str) -> Server {
    let certificates = format!("--tls-certificates={}", pki::path(directory).display());
    let tls = format!("--tls={tls}");
    servers::nbdkit(over, &[&tls, &certificates, "memory", "1M"])
}

/// A directory that trusts the authority `ca`.
fn trusting() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(pki::path("ca/ca-cert.pem"), dir.path().join("ca-cert.pem")).unwrap();
    dir
}

async fn trusted(uri: &str) -> nbd_client::Result<Connection> {
    let policy = UriPolicy::trusted();
    let conn = Connection::builder().uri_policy(policy).build();
    conn.connect_uri(uri).await?;
    Ok(conn)
}

fn tcp(server: &Server, rest: &str) -> String {
    format!("nbds://localhost:{}/{rest}", server.port())
}

fn unix(server: &Server, rest: &str) -> String {
    format!("nbds+unix:///?socket={}{rest}", server.socket().display())
}

fn certificates(dir: &Path) -> String {
    format!("tls-certificates={}", dir.display())
}

both_runtimes!(certificates_come_from_the_directory);
async fn certificates_come_from_the_directory() {
    let (server, dir) = (nbdkit(Over::Tcp, "require", "good"), trusting());
    let uri = tcp(&server, &format!("?{}", certificates(dir.path())));
    let conn = trusted(&uri).await.unwrap();
    assert!(conn.is_tls());
    assert_eq!(conn.tls_info().unwrap().server_name(), Some("localhost"));
    assert_eq!(conn.uri().unwrap(), uri.parse().unwrap());
}

both_runtimes!(host_is_the_name_that_is_checked);
async fn host_is_the_name_that_is_checked() {
    let (server, dir) = (nbdkit(Over::Tcp, "require", "elsewhere"), trusting());
    let uri = tcp(&server, &format!("?{}", certificates(dir.path())));
    assert_eq!(failure(trusted(&uri).await), TlsFailure::WrongName);
}

both_runtimes!(hostname_is_the_name_that_is_checked_instead);
async fn hostname_is_the_name_that_is_checked_instead() {
    let (server, dir) = (nbdkit(Over::Tcp, "require", "elsewhere"), trusting());
    let rest = format!(
        "?{}&tls-hostname=elsewhere.example",
        certificates(dir.path())
    );
    let conn = trusted(&tcp(&server, &rest)).await.unwrap();
    let info = conn.tls_info().unwrap();
    assert_eq!(info.server_name(), Some("elsewhere.example"));
}

both_runtimes!(unix_socket_needs_a_hostname);
async fn unix_socket_needs_a_hostname() {
    let (server, dir) = (nbdkit(Over::Unix, "require", "good"), trusting());
    let rest = format!("&{}", certificates(dir.path()));
    let error = trusted(&unix(&server, &rest)).await.unwrap_err();
    assert!(matches!(error, Error::InvalidUse(_)), "{error}");
    let rest = format!("{rest}&tls-hostname=localhost");
    assert!(trusted(&unix(&server, &rest)).await.unwrap().is_tls());
}

both_runtimes!(server_without_tls_is_refused);
async fn server_without_tls_is_refused() {
    let (server, dir) = (nbdkit(Over::Tcp, "off", "good"), trusting());
    let uri = tcp(&server, &format!("?{}", certificates(dir.path())));
    let result = trusted(&uri).await;
    assert!(matches!(result, Err(Error::Refused(_))), "{result:?}");
}

both_runtimes!(verification_can_be_switched_off);
async fn verification_can_be_switched_off() {
    let server = nbdkit(Over::Tcp, "require", "untrusted");
    assert!(
        trusted(&tcp(&server, "?tls-verify-peer=0"))
            .await
            .unwrap()
            .is_tls()
    );
    let server = nbdkit(Over::Unix, "require", "untrusted");
    assert!(
        trusted(&unix(&server, "&tls-verify-peer=0"))
            .await
            .unwrap()
            .is_tls()
    );
}

both_runtimes!(verification_cannot_be_switched_off_by_a_uri_of_somebody_else);
async fn verification_cannot_be_switched_off_by_a_uri_of_somebody_else() {
    let server = nbdkit(Over::Tcp, "require", "untrusted");
    let conn = Connection::new();
    let error = conn
        .connect_uri(tcp(&server, "?tls-verify-peer=0").as_str())
        .await;
    assert_eq!(error.unwrap_err().errno(), Some(1));
    assert!(conn.is_created());
}

both_runtimes!(credentials_of_the_handle_are_used_if_the_uri_names_none);
async fn credentials_of_the_handle_are_used_if_the_uri_names_none() {
    let server = nbdkit(Over::Tcp, "require", "good");
    let config = pki::trusting().build().unwrap();
    let conn = Connection::builder().tls(TlsMode::Disable, config).build();
    conn.connect_uri(tcp(&server, "").as_str()).await.unwrap();
    assert!(conn.is_tls());
}

both_runtimes!(mode_of_the_handle_counts_if_the_uri_does_not_insist);
async fn mode_of_the_handle_counts_if_the_uri_does_not_insist() {
    let server = nbdkit(Over::Tcp, "on", "good");
    let uri = format!("nbd://localhost:{}/", server.port());
    let config = pki::trusting().build().unwrap();
    for (mode, encrypted) in [
        (TlsMode::Disable, false),
        (TlsMode::Prefer, true),
        (TlsMode::Require, true),
    ] {
        let conn = Connection::builder().tls(mode, config.clone()).build();
        conn.connect_uri(uri.as_str()).await.unwrap();
        assert_eq!(conn.is_tls(), encrypted, "{mode:?}");
    }
}

both_runtimes!(credentials_that_are_not_needed_are_not_looked_at);
async fn credentials_that_are_not_needed_are_not_looked_at() {
    let server = nbdkit(Over::Tcp, "off", "good");
    let uri = format!(
        "nbd://localhost:{}/?tls-certificates=/nonexistent",
        server.port()
    );
    assert!(!trusted(&uri).await.unwrap().is_tls());
}

both_runtimes!(credentials_that_cannot_be_used_fail_opt_starttls_and_nothing_else);
async fn credentials_that_cannot_be_used_fail_opt_starttls_and_nothing_else() {
    let server = nbdkit(Over::Tcp, "on", "good");
    for (credentials, why) in [
        ("tls-certificates=/nonexistent", "/nonexistent/ca-cert.pem"),
        ("tls-type=anon", "without any proof"),
    ] {
        let conn = Connection::builder()
            .opt_mode(true)
            .uri_policy(UriPolicy::trusted())
            .build();
        let uri = format!("nbd://localhost:{}/?{credentials}", server.port());
        conn.connect_uri(uri.as_str()).await.unwrap();
        let error = conn.opt_starttls().await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert!(!error.is_fatal());
        conn.opt_go().await.unwrap();
        assert!(!conn.is_tls());
        conn.disconnect().await.unwrap();
    }
}

both_runtimes!(credentials_of_the_uri_serve_opt_starttls);
async fn credentials_of_the_uri_serve_opt_starttls() {
    let (server, dir) = (nbdkit(Over::Tcp, "on", "good"), trusting());
    let conn = Connection::builder()
        .opt_mode(true)
        .uri_policy(UriPolicy::trusted())
        .build();
    let certificates = certificates(dir.path());
    let uri = format!("nbd://localhost:{}/?{certificates}", server.port());
    conn.connect_uri(uri.as_str()).await.unwrap();
    assert!(!conn.is_tls());
    assert!(conn.opt_starttls().await.unwrap());
}

#[cfg(not(feature = "tls-native-roots"))]
#[tokio::test]
async fn no_credentials_at_all_are_an_error_before_anything_is_connected() {
    let conn = Connection::new();
    let error = conn.connect_uri("nbds://localhost:1/").await.unwrap_err();
    assert!(error.to_string().contains("TLS CA"), "{error}");
    assert!(conn.is_created());
}

both_runtimes!(what_cannot_be_done_is_an_error_before_anything_is_connected);
async fn what_cannot_be_done_is_an_error_before_anything_is_connected() {
    for (uri, why) in [
        ("nbds://h/?tls-type=anon", "without any proof"),
        (
            "nbds://h/?tls-certificates=/nonexistent",
            "/nonexistent/ca-cert.pem",
        ),
        #[cfg(not(feature = "tls-psk"))]
        ("nbds://h/?tls-psk-file=/nonexistent", "tls-psk"),
        #[cfg(not(feature = "tls-psk"))]
        ("nbds://h/?tls-type=psk", "tls-psk"),
        #[cfg(feature = "tls-psk")]
        ("nbds://alice@h/?tls-psk-file=/nonexistent", "/nonexistent"),
        #[cfg(feature = "tls-psk")]
        ("nbds://h/?tls-type=psk", "tls-psk-file"),
    ] {
        let conn = Connection::builder()
            .uri_policy(UriPolicy::trusted())
            .build();
        let error = conn.connect_uri(uri).await.unwrap_err();
        assert!(error.to_string().contains(why), "{uri}: {error}");
        assert!(conn.is_created());
    }
}

#[cfg(feature = "tls-psk")]
#[tokio::test]
async fn user_and_file_say_the_key() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys.psk");
    fs::write(&keys, "alice:00112233445566778899aabbccddeeff\n").unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
    let keys = keys.display();
    let psk = format!("--tls-psk={keys}");
    let server = servers::nbdkit(Over::Tcp, &["--tls=require", &psk, "memory", "1M"]);
    let port = server.port();
    for uri in [
        format!("nbds://alice@localhost:{port}/?tls-psk-file={keys}"),
        format!("nbds://localhost:{port}/?tls-username=alice&tls-psk-file={keys}&tls-type=psk"),
        // The key comes before certificates.
        format!("nbds://alice@localhost:{port}/?tls-certificates=/nonexistent&tls-psk-file={keys}"),
    ] {
        let conn = trusted(&uri).await.unwrap();
        assert_eq!(
            conn.tls_info().unwrap().psk_identity(),
            Some("alice"),
            "{uri}"
        );
    }
}

both_runtimes!(name_of_the_configuration_counts_rather_than_the_uri);
async fn name_of_the_configuration_counts_rather_than_the_uri() {
    let server = nbdkit(Over::Tcp, "require", "good");
    let config: TlsConfig = pki::trusting()
        .build()
        .unwrap()
        .server_name("elsewhere.example");
    let conn = Connection::builder().tls(TlsMode::Require, config).build();
    let result = conn.connect_uri(tcp(&server, "").as_str()).await;
    assert_eq!(failure(result), TlsFailure::WrongName);
}
