//! Pre-shared keys: against real servers, and against servers that do not have the key.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::pin::Pin;

use futures::future::join_all;
use nbd_client::testing::Peer;
use nbd_client::wire::{Command, ReplyStyle};
use nbd_client::{Connection, Delivery, Error, ErrorKind, TlsFailure, TlsMode, TlsPsk, TlsVersion};
use openssl::ssl::{Ssl, SslContextBuilder, SslMethod, SslVersion};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio_openssl::SslStream;

use crate::shared::server::{Over, Server};
use crate::shared::{load, pki};
use crate::tls::servers;
use crate::tls::wire::{self, SECRET, agree, failure};

const KEY: [u8; 32] = [0x5a; 32];

/// A directory with a file of keys, as psktool writes it.
fn keys(content: &str, mode: u32) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.psk");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

fn alices() -> (TempDir, String) {
    let key = "5a".repeat(KEY.len());
    keys(&format!("bob:00112233445566778899\nalice:{key}\n"), 0o600)
}

fn nbdkit(over: Over) -> Server {
    let (dir, path) = alices();
    let psk = format!("--tls-psk={path}");
    let size = load::SIZE.to_string();
    let server = servers::nbdkit(over, &["--tls=require", &psk, "memory", &size]);
    // It reads the file for each client.
    server.keep(dir)
}

fn qemu(over: Over) -> Server {
    let (dir, _) = alices();
    let credentials = format!("tls-creds-psk,dir={}", dir.path().display());
    servers::qemu(over, load::SIZE, &credentials).keep(dir)
}

fn connection(psk: TlsPsk) -> Connection {
    Connection::builder()
        .export_name("disk")
        .tls(TlsMode::Require, psk)
        .build()
}

async fn works(server: Server, version: TlsVersion) {
    let (_dir, path) = alices();
    let psk = TlsPsk::from_file(path, Some("alice")).unwrap();
    let conn = connection(psk.min_version(version).max_version(version));
    server.connect(&conn).await.unwrap();
    let info = conn.tls_info().unwrap();
    let expected = match version {
        TlsVersion::Tls13 => "TLSv1.3",
        _ => "TLSv1.2",
    };
    assert_eq!(info.version(), expected);
    assert_eq!(info.psk_identity(), Some("alice"));
    assert_eq!(info.peer_certificate(), None);
    assert_eq!(info.server_name(), None);
    load::verified(&conn, 8, 2).await;
    conn.disconnect().await.unwrap();
}

async fn rejected(server: Server, user: &str, key: [u8; 32], version: TlsVersion) {
    let psk = TlsPsk::new(user, key).unwrap();
    let conn = connection(psk.min_version(version).max_version(version));
    assert_eq!(
        failure(server.connect(&conn).await),
        TlsFailure::PskRejected
    );
}

macro_rules! matrix {
    ($($server:ident)*) => {
        $(mod $server {
            use super::*;

            both_runtimes!(carries_a_load_over_tcp_with_tls_1_2);
            async fn carries_a_load_over_tcp_with_tls_1_2() {
                works(super::$server(Over::Tcp), TlsVersion::Tls12).await;
            }

            both_runtimes!(carries_a_load_over_tcp_with_tls_1_3);
            async fn carries_a_load_over_tcp_with_tls_1_3() {
                works(super::$server(Over::Tcp), TlsVersion::Tls13).await;
            }

            both_runtimes!(carries_a_load_over_unix_with_tls_1_2);
            async fn carries_a_load_over_unix_with_tls_1_2() {
                works(super::$server(Over::Unix), TlsVersion::Tls12).await;
            }

            both_runtimes!(carries_a_load_over_unix_with_tls_1_3);
            async fn carries_a_load_over_unix_with_tls_1_3() {
                works(super::$server(Over::Unix), TlsVersion::Tls13).await;
            }

            both_runtimes!(t19_rejects_another_key);
            async fn t19_rejects_another_key() {
                for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
                    rejected(super::$server(Over::Unix), "alice", [1; 32], version).await;
                }
            }

            both_runtimes!(t19_rejects_another_user);
            async fn t19_rejects_another_user() {
                for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
                    rejected(super::$server(Over::Unix), "mallory", KEY, version).await;
                }
            }
        })*
    };
}

matrix! { nbdkit qemu }

/// nbdkit under load, and nbdkit that does not fit.
mod other_nbdkit {
    use super::*;

    fn nbdkit_with_certificates() -> Server {
        let certificates = format!("--tls-certificates={}", pki::path("good").display());
        servers::nbdkit(
            Over::Unix,
            &["--tls=require", &certificates, "memory", "1M"],
        )
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn both_directions_can_be_full() {
        let server = nbdkit(Over::Tcp);
        let conn = connection(TlsPsk::new("alice", KEY).unwrap());
        server.connect(&conn).await.unwrap();
        load::verified(&conn, load::HEAVY, 2).await;
        conn.disconnect().await.unwrap();
    }

    both_runtimes!(t18_server_that_ignores_the_key_is_refused_with_tls_1_3);
    /// The server has no keys and goes on with its certificate, which proves nothing: the key was
    /// not looked at.
    async fn t18_server_that_ignores_the_key_is_refused_with_tls_1_3() {
        let server = nbdkit_with_certificates();
        let psk = TlsPsk::new("alice", KEY)
            .unwrap()
            .min_version(TlsVersion::Tls13);
        let result = server.connect(&connection(psk)).await;
        assert_eq!(failure(result), TlsFailure::PskIgnored);
    }

    both_runtimes!(t18_server_without_keys_finds_no_suite_with_tls_1_2);
    async fn t18_server_without_keys_finds_no_suite_with_tls_1_2() {
        let server = nbdkit_with_certificates();
        let psk = TlsPsk::new("alice", KEY)
            .unwrap()
            .max_version(TlsVersion::Tls12);
        let result = server.connect(&connection(psk)).await;
        assert_eq!(failure(result), TlsFailure::PskRejected);
    }

    both_runtimes!(client_with_certificates_is_no_use_to_a_server_with_keys);
    async fn client_with_certificates_is_no_use_to_a_server_with_keys() {
        let server = nbdkit(Over::Tcp);
        let conn = Connection::builder()
            .tls(TlsMode::Require, pki::mutual().build().unwrap())
            .build();
        let result = server.connect(&conn).await;
        assert!(matches!(result, Err(Error::Tls(..))), "{result:?}");
    }
}

#[tokio::test]
async fn t18_server_that_ignores_the_key_is_refused_if_it_is_another_library_too() {
    let (server, stream) = duplex(1 << 16);
    let conn = connection(TlsPsk::new("alice", KEY).unwrap());
    let connecting = conn.aio_connect_stream(stream).unwrap();
    let script = async {
        let mut server = server;
        agree(&mut server).await;
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(wire::config()));
        assert!(acceptor.accept(server).await.is_err());
    };
    let (result, ()) = tokio::join!(connecting, script);
    assert_eq!(failure(result), TlsFailure::PskIgnored);
}

#[test]
fn file_that_others_can_read_is_not_used() {
    for mode in [0o640, 0o604, 0o620, 0o601] {
        let (_dir, path) = keys("alice:00", mode);
        let error = TlsPsk::from_file(&path, Some("alice")).unwrap_err();
        assert!(
            error.to_string().contains(&format!("{mode:04o}")),
            "{error}"
        );
    }
}

#[test]
fn file_without_a_usable_key_is_an_error_that_says_why() {
    for (content, why) in [
        ("", "no key for the user"),
        ("bob:00\n", "no key for the user"),
        ("alice2:00\n", "no key for the user"),
        ("alice:0\n", "not hexadecimal"),
        ("alice:0g\n", "not hexadecimal"),
        ("alice:\n", "1 to 256 bytes"),
    ] {
        let (_dir, path) = keys(content, 0o600);
        let error = TlsPsk::from_file(&path, Some("alice")).unwrap_err();
        assert!(error.to_string().contains(why), "{content:?}: {error}");
    }
    let error = TlsPsk::from_file("/nonexistent/keys", Some("alice")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/keys"), "{error}");
}

#[test]
fn name_and_key_that_do_not_fit_are_errors() {
    assert!(TlsPsk::new("", KEY).is_err());
    assert!(TlsPsk::new("a\0b", KEY).is_err());
    assert!(TlsPsk::new(&"a".repeat(256), KEY).is_err());
    assert!(TlsPsk::new("alice", []).is_err());
    assert!(TlsPsk::new("alice", [0; 257]).is_err());
}

#[test]
fn debug_shows_no_key() {
    let text = format!(
        "{:?}",
        TlsPsk::new("alice", *b"canary-canary-canary").unwrap()
    );
    assert!(text.contains("alice"));
    assert!(!text.contains("canary") && !text.contains("99"), "{text}");
}

/// Greets and upgrades to TLS with the key.
async fn upgrade<S>(mut stream: S, version: SslVersion) -> SslStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    agree(&mut stream).await;
    let mut context = SslContextBuilder::new(SslMethod::tls_server()).unwrap();
    context.set_min_proto_version(Some(version)).unwrap();
    context.set_max_proto_version(Some(version)).unwrap();
    context
        .set_cipher_list("ECDHE-PSK-CHACHA20-POLY1305")
        .unwrap();
    context.set_psk_server_callback(|_, identity, key| {
        assert_eq!(identity, Some(&b"alice"[..]));
        key[..KEY.len()].copy_from_slice(&KEY);
        Ok(KEY.len())
    });
    let ssl = Ssl::new(&context.build()).unwrap();
    let mut stream = SslStream::new(ssl, stream).unwrap();
    Pin::new(&mut stream).accept().await.unwrap();
    stream
}

fn requiring() -> Connection {
    Connection::builder()
        .export_name(SECRET)
        .tls(TlsMode::Require, TlsPsk::new("alice", KEY).unwrap())
        .build()
}

async fn connected(version: SslVersion) -> (Connection, Peer) {
    let (server, stream): (DuplexStream, _) = duplex(1 << 16);
    let conn = requiring();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    let mut peer = Peer::new(upgrade(server, version).await);
    wire::enter(&mut peer).await;
    connecting.await.unwrap();
    (conn, peer)
}

#[tokio::test]
async fn t21_end_without_close_notify_is_a_failure_of_the_connection() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let (conn, peer) = connected(version).await;
        peer.close();
        let error = conn.closed().await;
        assert_eq!(error.kind(), ErrorKind::Disconnected);
        assert!(error.to_string().contains("close_notify"), "{error}");
        assert!(conn.is_dead());
    }
}

#[tokio::test]
async fn end_with_close_notify_is_orderly_if_nothing_is_in_flight() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let (conn, mut peer) = connected(version).await;
        peer.half_close().await.unwrap();
        conn.closed().await;
        assert!(conn.is_closed());
    }
}

#[tokio::test]
async fn t22_end_without_close_notify_is_fine_after_our_goodbye() {
    let (conn, mut peer) = connected(SslVersion::TLS1_3).await;
    let script = async move {
        peer.expect_command(Command::DISC).await.unwrap();
        peer.close();
    };
    let (result, ()) = tokio::join!(conn.disconnect(), script);
    result.unwrap();
    assert!(conn.is_closed());
}

#[tokio::test]
async fn requests_share_records_with_their_data() {
    const REQUESTS: u64 = 32;
    // So large that it is not copied behind the head of its request.
    const SIZE: u64 = 9000;
    let (client, server, tap) = wire::tapped();
    let script = tokio::spawn(async move {
        let mut peer = Peer::new(upgrade(server, SslVersion::TLS1_3).await);
        wire::enter(&mut peer).await;
        peer.speak(ReplyStyle::Simple);
        for _ in 0..REQUESTS {
            peer.expect_command(Command::WRITE).await.unwrap();
        }
    });
    let conn = requiring();
    conn.connect_stream(client).await.unwrap();
    let write = |i| conn.write(i * SIZE, vec![7; SIZE as usize]).into_future();
    let _failed = join_all((0..REQUESTS).map(write)).await;
    script.await.unwrap();
    let (said, _) = tap.await.unwrap();
    let records = wire::records(&said);
    assert!(records <= REQUESTS as usize + 4, "{records} records");
}

/// OpenSSL has a record ready that the socket does not take, of requests that are then given up.
#[tokio::test]
async fn requests_that_are_given_up_do_not_break_the_record_that_waits() {
    const REQUESTS: usize = 1000;
    const SIZE: usize = 1024;
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let (conn, mut peer) = connected(version).await;
        let write = |i: usize| {
            let request = conn.write((i * SIZE) as u64, vec![i as u8; SIZE]);
            tokio::spawn(request.into_future())
        };
        let writes: Vec<_> = (0..REQUESTS).map(write).collect();
        fill(&conn).await;
        let parting = tokio::spawn(conn.disconnect().abandon().into_future());
        while !writes[REQUESTS - 1].is_finished() {
            tokio::task::yield_now().await;
        }
        let mut heard = 0;
        loop {
            let request = peer.expect_request().await.unwrap();
            if request.head.command == Command::DISC {
                break;
            }
            assert_eq!(request.head.offset, (heard * SIZE) as u64);
            assert_eq!(request.payload, vec![heard as u8; SIZE]);
            peer.acknowledge(&request.head).await.unwrap();
            heard += 1;
        }
        peer.close();
        parting.await.unwrap().unwrap();
        for (i, written) in writes.into_iter().enumerate() {
            let unsent = written.await.unwrap().err();
            let delivery = unsent.map(|error| error.delivery());
            let expected = (i >= heard).then_some(Delivery::NotSent);
            assert_eq!(delivery, expected, "{i} of {heard}");
        }
    }
}

/// Waits until the stream takes no more.
async fn fill(conn: &Connection) {
    let mut before = 0;
    loop {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        match conn.stats().bytes_sent {
            sent if sent > 0 && sent == before => return,
            sent => before = sent,
        }
    }
}
