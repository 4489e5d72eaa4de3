//! What the client insists on against what the server offers, and TLS by hand.

use nbd_client::{
    ClientCertificate, Connection, Error, InvalidRequest, TlsInfo, TlsMode, TlsUpgrade, Upgrading,
};

use crate::shared::pki;
use crate::shared::server::{Over, Server};
use crate::tls::servers;

/// nbdkit with `--tls=` off, on or require.
fn nbdkit(tls: &str) -> Server {
    let certificates = format!("--tls-certificates={}", pki::path("good").display());
    let tls = format!("--tls={tls}");
    servers::nbdkit(Over::Tcp, &[&tls, &certificates, "memory", "1M"])
}

async fn connect(server: &Server, mode: TlsMode) -> nbd_client::Result<Connection> {
    let config = pki::trusting().build().unwrap();
    let conn = Connection::builder().tls(mode, config).build();
    server.connect(&conn).await?;
    conn.write(0, vec![7; 512]).await?;
    Ok(conn)
}

both_runtimes!(disabled_with_tls_off_is_in_clear);
async fn disabled_with_tls_off_is_in_clear() {
    let conn = connect(&nbdkit("off"), TlsMode::Disable).await.unwrap();
    assert!(!conn.is_tls());
}

both_runtimes!(disabled_with_tls_on_is_in_clear);
async fn disabled_with_tls_on_is_in_clear() {
    let conn = connect(&nbdkit("on"), TlsMode::Disable).await.unwrap();
    assert!(!conn.is_tls());
}

both_runtimes!(disabled_with_tls_required_is_refused);
async fn disabled_with_tls_required_is_refused() {
    let result = connect(&nbdkit("require"), TlsMode::Disable).await;
    let Err(Error::Refused(refusal)) = result else {
        panic!("{result:?}");
    };
    assert!(refusal.to_string().contains("requires TLS"), "{refusal}");
}

both_runtimes!(preferred_with_tls_off_is_in_clear);
async fn preferred_with_tls_off_is_in_clear() {
    let conn = connect(&nbdkit("off"), TlsMode::Prefer).await.unwrap();
    assert!(!conn.is_tls());
    assert_eq!(conn.tls_info(), None);
}

both_runtimes!(preferred_with_tls_on_is_encrypted);
async fn preferred_with_tls_on_is_encrypted() {
    let conn = connect(&nbdkit("on"), TlsMode::Prefer).await.unwrap();
    assert!(conn.is_tls());
}

both_runtimes!(preferred_with_tls_required_is_encrypted);
async fn preferred_with_tls_required_is_encrypted() {
    let conn = connect(&nbdkit("require"), TlsMode::Prefer).await.unwrap();
    assert!(conn.is_tls());
}

both_runtimes!(required_with_tls_off_is_refused);
async fn required_with_tls_off_is_refused() {
    let result = connect(&nbdkit("off"), TlsMode::Require).await;
    assert!(matches!(result, Err(Error::Refused(_))), "{result:?}");
}

both_runtimes!(required_with_tls_on_is_encrypted);
async fn required_with_tls_on_is_encrypted() {
    let conn = connect(&nbdkit("on"), TlsMode::Require).await.unwrap();
    assert!(conn.is_tls());
}

both_runtimes!(tls_info_tells_version_suite_name_and_certificate);
async fn tls_info_tells_version_suite_name_and_certificate() {
    let conn = connect(&nbdkit("require"), TlsMode::Require).await.unwrap();
    let info = conn.tls_info().unwrap();
    assert_eq!(info.version(), "TLSv1.3");
    assert!(info.cipher_suite().starts_with("TLS_"), "{info:?}");
    assert_eq!(info.server_name(), Some("localhost"));
    assert_eq!(info.psk_identity(), None);
    assert_eq!(info.client_certificate(), ClientCertificate::NotAsked);
    let certificate = info.peer_certificate().unwrap();
    let pem = String::from_utf8(pki::read("good/server-cert.pem")).unwrap();
    assert_eq!(base64(certificate), between_the_lines(&pem));
    assert_eq!(info.peer_certificates().next(), Some(certificate));
}

fn between_the_lines(pem: &str) -> String {
    pem.lines()
        .skip_while(|line| !line.starts_with("-----BEGIN"))
        .skip(1)
        .take_while(|line| !line.starts_with("-----END"))
        .collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=group.len()].copy_from_slice(group);
        let word = u32::from_be_bytes(word);
        for digit in 0..4 {
            let value = (word >> (18 - 6 * digit)) & 63;
            let is_data = digit <= group.len();
            text.push(if is_data {
                DIGITS[value as usize].into()
            } else {
                '='
            });
        }
    }
    text
}

both_runtimes!(tls_info_stays_known_after_the_end);
async fn tls_info_stays_known_after_the_end() {
    let server = nbdkit("require");
    let conn = connect(&server, TlsMode::Require).await.unwrap();
    let info = conn.tls_info();
    conn.disconnect().await.unwrap();
    assert_eq!(conn.tls_info(), info);
    assert!(conn.is_tls());
}

/// A connection that waits for options, with TLS in this mode.
async fn negotiating(server: &Server, mode: TlsMode) -> Connection {
    let config = pki::trusting().build().unwrap();
    let conn = Connection::builder()
        .opt_mode(true)
        .meta_context("base:allocation")
        .tls(mode, config)
        .build();
    server.connect(&conn).await.unwrap();
    conn
}

both_runtimes!(opt_starttls_is_refused_with_tls_off);
async fn opt_starttls_is_refused_with_tls_off() {
    let server = nbdkit("off");
    let conn = negotiating(&server, TlsMode::Disable).await;
    assert!(!conn.opt_starttls().await.unwrap());
    assert!(!conn.is_tls());
    assert!(conn.protocol().unwrap().structured_replies);
    conn.opt_go().await.unwrap();
}

both_runtimes!(t08_opt_starttls_encrypts_and_forgets_what_was_negotiated);
async fn t08_opt_starttls_encrypts_and_forgets_what_was_negotiated() {
    let server = nbdkit("on");
    let conn = negotiating(&server, TlsMode::Disable).await;
    conn.opt_info().await.unwrap();
    assert!(conn.protocol().unwrap().structured_replies);
    assert!(conn.export().is_ok());
    assert!(conn.can_meta_context("base:allocation").unwrap());

    assert!(conn.opt_starttls().await.unwrap());
    assert!(conn.is_tls());
    assert!(conn.is_negotiating());
    assert!(!conn.protocol().unwrap().structured_replies);
    assert!(conn.export().is_err());
    // P-082: STARTTLS voids the selection.
    assert!(conn.can_meta_context("base:allocation").is_err());

    assert!(conn.opt_structured_reply().await.unwrap());
    conn.opt_go().await.unwrap();
    assert_eq!(conn.export().unwrap().contexts().count(), 1);
    let data = conn.read(0, 512).await.unwrap();
    assert_eq!(data, [0; 512][..]);
    conn.disconnect().await.unwrap();
}

both_runtimes!(opt_starttls_makes_a_server_that_insists_usable);
async fn opt_starttls_makes_a_server_that_insists_usable() {
    let server = nbdkit("require");
    let conn = negotiating(&server, TlsMode::Disable).await;
    let refused = conn.opt_go().await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    assert!(conn.opt_starttls().await.unwrap());
    conn.opt_go().await.unwrap();
    assert!(conn.is_ready());
}

both_runtimes!(opt_starttls_is_not_sent_twice);
async fn opt_starttls_is_not_sent_twice() {
    let server = nbdkit("on");
    let conn = negotiating(&server, TlsMode::Require).await;
    assert!(conn.is_tls());
    assert!(conn.protocol().unwrap().structured_replies);
    let sent = conn.stats().messages_sent;
    let error = conn.opt_starttls().await.unwrap_err();
    assert!(
        matches!(error, Error::Invalid(InvalidRequest::NotNegotiated(_))),
        "{error}"
    );
    assert_eq!(conn.stats().messages_sent, sent);
    conn.opt_go().await.unwrap();
}

both_runtimes!(opt_starttls_needs_something_to_do_it_with);
async fn opt_starttls_needs_something_to_do_it_with() {
    let server = nbdkit("on");
    let conn = Connection::builder().opt_mode(true).build();
    server.connect(&conn).await.unwrap();
    let error = conn.opt_starttls().await.unwrap_err();
    assert!(matches!(error, Error::InvalidUse(_)), "{error}");
    conn.opt_go().await.unwrap();
}

both_runtimes!(opt_starttls_without_a_name_to_check_sends_nothing);
async fn opt_starttls_without_a_name_to_check_sends_nothing() {
    let server = nbdkit("on");
    let config = pki::trusting().build().unwrap();
    let conn = Connection::builder()
        .opt_mode(true)
        .tls(TlsMode::Disable, config)
        .build();
    let stream = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    conn.connect_socket(stream).await.unwrap();
    let error = conn.opt_starttls().await.unwrap_err();
    assert!(
        error.to_string().contains("no host name to verify"),
        "{error}"
    );
    conn.opt_go().await.unwrap();
}

both_runtimes!(opt_starttls_that_fails_ends_the_connection);
async fn opt_starttls_that_fails_ends_the_connection() {
    let server = nbdkit("on");
    let config = pki::trusting()
        .build()
        .unwrap()
        .server_name("elsewhere.example");
    let conn = Connection::builder()
        .opt_mode(true)
        .tls(TlsMode::Disable, config)
        .build();
    server.connect(&conn).await.unwrap();
    let error = conn.opt_starttls().await.unwrap_err();
    assert!(matches!(error, Error::Tls(..)), "{error}");
    conn.closed().await;
    assert!(conn.is_dead());
}

/// A hook of somebody else's, which does what ours does.
#[derive(Debug)]
struct Foreign<T>(T);

impl<T: TlsUpgrade> TlsUpgrade for Foreign<T> {
    fn upgrade<'a>(
        &'a self,
        stream: Box<dyn nbd_client::ByteStream>,
        server_name: Option<&'a str>,
    ) -> Upgrading<'a> {
        Box::pin(async move {
            let (stream, _) = self.0.upgrade(stream, server_name).await?;
            let info = TlsInfo::new("TLSv9", "ROT13").with_server_name(server_name.unwrap());
            Ok((stream, info))
        })
    }
}

both_runtimes!(upgrade_can_be_anybodys);
async fn upgrade_can_be_anybodys() {
    let server = nbdkit("require");
    let hook = Foreign(pki::trusting().build().unwrap());
    let conn = Connection::builder().tls(TlsMode::Require, hook).build();
    server.connect(&conn).await.unwrap();
    let info = conn.tls_info().unwrap();
    assert_eq!(info.cipher_suite(), "ROT13");
    assert_eq!(info.server_name(), Some("localhost"));
}
