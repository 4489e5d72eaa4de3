//! Certificates that are not what they should be, over TCP and over Unix sockets.

use nbd_client::{Connection, Error, TlsConfigBuilder, TlsFailure, TlsMode};

use crate::shared::pki;
use crate::shared::server::{Over, Server};
use crate::tls::servers;
use crate::tls::wire::failure;

/// nbdkit with the certificate in this directory of the PKI.
fn nbdkit(over: Over, directory: &str) -> Server {
    let certificates = format!("--tls-certificates={}", pki::path(directory).display());
    servers::nbdkit(over, &["--tls=require", &certificates, "memory", "1M"])
}

/// Connects to it as to `host`, whatever the transport.
async fn connect(
    over: Over,
    directory: &str,
    config: TlsConfigBuilder,
    host: &str,
) -> nbd_client::Result<Connection> {
    let server = nbdkit(over, directory);
    let mut config = config.build()?;
    if over == Over::Unix {
        config = config.server_name(host);
    }
    let conn = Connection::builder().tls(TlsMode::Require, config).build();
    let result = server.connect_as(&conn, host).await;
    if let Err(error) = &result {
        assert!(conn.is_dead());
        assert!(!conn.is_tls());
        assert!(!error.is_retryable());
    }
    result.map(|()| conn)
}

async fn refused(over: Over, directory: &str) -> TlsFailure {
    failure(connect(over, directory, pki::trusting(), "localhost").await)
}

macro_rules! both {
    ($($name:ident $over:ident;)* => $check:expr) => {
        $(both_runtimes!($name);
        async fn $name() {
            let check = $check;
            check(Over::$over).await;
        })*
    };
}

both! {
    t09_unknown_issuer_is_refused_over_tcp Tcp;
    t09_unknown_issuer_is_refused_over_unix Unix;
    => async |over: Over| assert_eq!(refused(over, "untrusted").await, TlsFailure::UnknownIssuer)
}

both! {
    t14_self_signed_is_refused_over_tcp Tcp;
    t14_self_signed_is_refused_over_unix Unix;
    => async |over: Over| assert_eq!(refused(over, "self").await, TlsFailure::UnknownIssuer)
}

both! {
    expired_is_refused_over_tcp Tcp;
    expired_is_refused_over_unix Unix;
    => async |over: Over| assert_eq!(refused(over, "expired").await, TlsFailure::Expired)
}

both! {
    not_yet_valid_is_refused_over_tcp Tcp;
    not_yet_valid_is_refused_over_unix Unix;
    => async |over: Over| assert_eq!(refused(over, "future").await, TlsFailure::NotYetValid)
}

both! {
    t11_wrong_host_is_refused_over_tcp Tcp;
    t11_wrong_host_is_refused_over_unix Unix;
    => async |over: Over| assert_eq!(refused(over, "elsewhere").await, TlsFailure::WrongName)
}

both! {
    t12_common_name_alone_is_refused_over_tcp Tcp;
    t12_common_name_alone_is_refused_over_unix Unix;
    => async |over: Over| assert_eq!(refused(over, "nameless").await, TlsFailure::WrongName)
}

both! {
    wrong_purpose_is_refused_over_tcp Tcp;
    wrong_purpose_is_refused_over_unix Unix;
    => async |over: Over| assert_eq!(refused(over, "purpose").await, TlsFailure::WrongPurpose)
}

both! {
    t15_revoked_is_refused_over_tcp Tcp;
    t15_revoked_is_refused_over_unix Unix;
    => async |over: Over| {
        let config = pki::trusting().crl_pem(pki::read("ca-crl.pem"));
        let result = connect(over, "revoked", config, "localhost").await;
        assert_eq!(failure(result), TlsFailure::Revoked);
    }
}

// Good or revoked: what an old list says of a certificate counts for nothing.
both! {
    t15_list_that_has_expired_is_refused_over_tcp Tcp;
    t15_list_that_has_expired_is_refused_over_unix Unix;
    => async |over: Over| for directory in ["good", "revoked"] {
        let config = pki::trusting().crl_pem(pki::read("ca-crl-expired.pem"));
        let result = connect(over, directory, config, "localhost").await;
        assert_eq!(failure(result), TlsFailure::RevocationUnknown, "{directory}");
    }
}

both! {
    not_revoked_is_accepted_over_tcp Tcp;
    not_revoked_is_accepted_over_unix Unix;
    => async |over: Over| {
        let config = pki::trusting().crl_pem(pki::read("ca-crl.pem"));
        let _conn = connect(over, "good", config, "localhost").await.unwrap();
    }
}

both! {
    t11_wrong_address_is_refused_over_tcp Tcp;
    t11_wrong_address_is_refused_over_unix Unix;
    => async |over: Over| {
        let result = connect(over, "elsewhere", pki::trusting(), "127.0.0.1").await;
        assert_eq!(failure(result), TlsFailure::WrongName);
    }
}

both! {
    t11_right_address_is_accepted_over_tcp Tcp;
    t11_right_address_is_accepted_over_unix Unix;
    => async |over: Over| {
        let conn = connect(over, "good", pki::trusting(), "127.0.0.1").await.unwrap();
        assert_eq!(conn.tls_info().unwrap().server_name(), Some("127.0.0.1"));
    }
}

both! {
    t14_server_that_is_trusted_itself_is_accepted_over_tcp Tcp;
    t14_server_that_is_trusted_itself_is_accepted_over_unix Unix;
    => async |over: Over| {
        let pinned = nbd_client::TlsConfig::builder().ca_pem(pki::read("self/server-cert.pem"));
        let _conn = connect(over, "self", pinned, "localhost").await.unwrap();
    }
}

both_runtimes!(the_error_says_which_name_was_checked);
async fn the_error_says_which_name_was_checked() {
    let result = connect(Over::Tcp, "elsewhere", pki::trusting(), "localhost").await;
    let Err(Error::Tls(error, _)) = result else {
        panic!("{result:?}");
    };
    assert_eq!(error.server_name(), Some("localhost"));
    assert!(error.to_string().contains(r#""localhost""#), "{error}");
    assert!(error.to_string().contains("elsewhere.example"), "{error}");
}

both_runtimes!(given_name_counts_rather_than_the_host);
async fn given_name_counts_rather_than_the_host() {
    let server = nbdkit(Over::Tcp, "elsewhere");
    let config = pki::trusting().build().unwrap();
    let config = config.server_name("elsewhere.example");
    let conn = Connection::builder().tls(TlsMode::Require, config).build();
    server.connect_as(&conn, "localhost").await.unwrap();
}

both_runtimes!(certificate_that_is_preferred_only_must_be_good_all_the_same);
async fn certificate_that_is_preferred_only_must_be_good_all_the_same() {
    let server = nbdkit(Over::Tcp, "untrusted");
    let config = pki::trusting().build().unwrap();
    let conn = Connection::builder().tls(TlsMode::Prefer, config).build();
    let result = server.connect(&conn).await;
    assert_eq!(failure(result), TlsFailure::UnknownIssuer);
}

both_runtimes!(any_name_is_accepted_only_if_the_rest_is_good);
async fn any_name_is_accepted_only_if_the_rest_is_good() {
    let any_name = || pki::trusting().danger_accept_any_name();
    let result = connect(Over::Tcp, "elsewhere", any_name(), "localhost").await;
    assert_eq!(result.unwrap().tls_info().unwrap().server_name(), None);
    for (directory, expected) in [
        ("untrusted", TlsFailure::UnknownIssuer),
        ("expired", TlsFailure::Expired),
        ("purpose", TlsFailure::WrongPurpose),
    ] {
        let result = connect(Over::Tcp, directory, any_name(), "localhost").await;
        assert_eq!(failure(result), expected, "{directory}");
    }
}

both_runtimes!(any_name_needs_none);
async fn any_name_needs_none() {
    let server = nbdkit(Over::Unix, "elsewhere");
    let config = pki::trusting().danger_accept_any_name().build().unwrap();
    let conn = Connection::builder().tls(TlsMode::Require, config).build();
    server.connect(&conn).await.unwrap();
}

both_runtimes!(any_server_is_accepted_by_who_says_so);
async fn any_server_is_accepted_by_who_says_so() {
    for directory in ["untrusted", "self", "expired", "elsewhere", "purpose"] {
        let config = nbd_client::TlsConfig::builder().danger_accept_any_server();
        let conn = connect(Over::Tcp, directory, config, "localhost")
            .await
            .unwrap();
        assert!(conn.is_tls());
        assert_eq!(conn.tls_info().unwrap().server_name(), None);
    }
}

both_runtimes!(revocation_that_cannot_be_known_is_refused);
async fn revocation_that_cannot_be_known_is_refused() {
    // The list is of the authority `ca`; the server is certified by `other`.
    let config = nbd_client::TlsConfig::builder()
        .ca_pem(pki::read("other/ca-cert.pem"))
        .crl_pem(pki::read("ca-crl.pem"));
    let result = connect(Over::Tcp, "untrusted", config, "localhost").await;
    assert_eq!(failure(result), TlsFailure::RevocationUnknown);
}
