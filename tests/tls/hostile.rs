//! Servers that cut short or flood inside TLS, and goodbyes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nbd_client::testing::Peer;
use nbd_client::wire::option::OptionReply;
use nbd_client::wire::{Command, OptionReplyType, OptionType, ProtocolError, ReplyStyle};
use nbd_client::{Connection, Error, ErrorKind, TlsFailure, TlsMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use crate::tls::wire::{self, agree, builder, failure, requiring, upgrade};

/// Only hangs are found by this.
const WATCHDOG: Duration = Duration::from_secs(60);

/// A connection with a server of this configuration, entered, and the server's end of it.
async fn connected(config: ServerConfig) -> (Connection, Peer) {
    let (server, stream) = duplex(1 << 16);
    let conn = requiring();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    let mut peer = Peer::new(upgrade(server, config).await);
    wire::enter(&mut peer).await;
    connecting.await.unwrap();
    (conn, peer)
}

#[tokio::test]
async fn t21_end_without_close_notify_is_a_failure_while_a_request_is_in_flight() {
    let (conn, mut peer) = connected(wire::config()).await;
    let script = async move {
        peer.expect_command(Command::READ).await.unwrap();
        peer.close();
    };
    let (result, ()) = tokio::join!(conn.read(0, 512), script);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!(error.to_string().contains("close_notify"), "{error}");
    assert!(conn.closed().await.is_retryable());
    assert!(conn.is_dead());
}

#[tokio::test]
async fn end_without_close_notify_is_a_failure_even_if_nothing_is_in_flight() {
    let (conn, peer) = connected(wire::config()).await;
    peer.close();
    assert_eq!(conn.closed().await.kind(), ErrorKind::Disconnected);
    assert!(conn.is_dead());
}

#[tokio::test]
async fn t22_end_without_close_notify_is_fine_after_our_goodbye() {
    let (conn, mut peer) = connected(wire::config()).await;
    let script = async move {
        peer.expect_command(Command::DISC).await.unwrap();
        peer.close();
    };
    let (result, ()) = tokio::join!(conn.disconnect(), script);
    result.unwrap();
    assert!(conn.is_closed());
}

#[tokio::test]
async fn end_with_close_notify_is_orderly_if_nothing_is_in_flight() {
    let (conn, mut peer) = connected(wire::config()).await;
    peer.half_close().await.unwrap();
    conn.closed().await;
    assert!(conn.is_closed());
}

/// A server that reads on its own, up to the end.
async fn raw(mode: TlsMode) -> (Connection, TlsStream<DuplexStream>) {
    let (server, stream) = duplex(1 << 16);
    let conn = builder(mode)
        .opt_mode(true)
        .structured_replies(false)
        .build();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    let server = upgrade(server, wire::config()).await;
    connecting.await.unwrap();
    (conn, server)
}

/// Answers the next option with a demand for TLS; gives the option.
async fn demand_tls(peer: &mut Peer) -> OptionType {
    let option = peer.expect_option().await.unwrap().option;
    let refusal = OptionReply::error(option, OptionReplyType::ERR_TLS_REQD, "");
    peer.send_option_reply(refusal).await.unwrap();
    option
}

/// Says that a demand for TLS in answer to this option was a violation, after which nothing is
/// sent.
#[track_caller]
fn assert_absurd<T: std::fmt::Debug>(result: nbd_client::Result<T>, option: OptionType) {
    let absurd = ProtocolError::UnexpectedOptionReply {
        option,
        reply: OptionReplyType::ERR_TLS_REQD,
    };
    match result {
        Err(Error::Protocol(violation, _)) => assert_eq!(violation, absurd),
        other => panic!("{option}: {other:?}"),
    }
}

#[tokio::test]
async fn t27_tls_cannot_be_required_by_who_has_it() {
    for what in 0..7 {
        let (conn, server) = raw(TlsMode::Require).await;
        let mut peer = Peer::new(server);
        let ask = async {
            match what {
                0 => conn.opt_list().await.map(drop),
                1 => conn.opt_info().await.map(drop),
                2 => conn.opt_go().await,
                3 => conn.opt_list_meta_context(["a:"]).await.map(drop),
                4 => conn.opt_set_meta_context(["a:b"]).await.map(drop),
                5 => conn.opt_structured_reply().await.map(drop),
                _ => conn.opt_extended_headers().await.map(drop),
            }
        };
        let (result, option) = tokio::join!(ask, demand_tls(&mut peer));
        assert_absurd(result, option);
        assert!(conn.is_dead());
        peer.expect_option().await.unwrap_err();
    }
}

// Features are there or not, and contexts too, but this is no way of saying so.
#[tokio::test]
async fn t27_tls_cannot_be_required_while_connecting_with_it() {
    for before in 0..3 {
        let (server, stream) = duplex(1 << 16);
        let conn = builder(TlsMode::Require).meta_context("a:b").build();
        let connecting = conn.aio_connect_stream(stream).unwrap();
        let mut peer = Peer::new(upgrade(server, wire::config()).await);
        for _ in 0..before {
            let option = peer.expect_option().await.unwrap().option;
            let extended = option == OptionType::EXTENDED_HEADERS;
            let reply = if extended {
                OptionReply::error(option, OptionReplyType::ERR_UNSUP, "")
            } else {
                OptionReply::ack(option)
            };
            peer.send_option_reply(reply).await.unwrap();
        }
        let option = demand_tls(&mut peer).await;
        let result = timeout(WATCHDOG, connecting).await.unwrap();
        assert_absurd(result, option);
        peer.expect_option().await.unwrap_err();
    }
}

// Who leaves does not mind how the server agrees.
#[tokio::test]
async fn t27_a_goodbye_may_be_answered_with_anything() {
    let (conn, server) = raw(TlsMode::Require).await;
    let mut peer = Peer::new(server);
    let (result, option) = tokio::join!(conn.opt_abort(), demand_tls(&mut peer));
    result.unwrap();
    assert_eq!(option, OptionType::ABORT);
}

#[tokio::test]
async fn t23_what_follows_close_notify_is_not_heard() {
    let (conn, server) = raw(TlsMode::Require).await;
    let (mut io, mut session) = server.into_inner();
    let asking = tokio::spawn({
        let conn = conn.clone();
        async move { conn.opt_list().await }
    });
    let mut option = [0; 16];
    io.read_exact(&mut option).await.unwrap();
    session.send_close_notify();
    let mut bytes = Vec::new();
    session.write_tls(&mut bytes).unwrap();
    bytes.extend(b"\x17\x03\x03\0\x20and much that nobody should hear");
    io.write_all(&bytes).await.unwrap();
    let error = asking.await.unwrap().unwrap_err();
    assert!(
        matches!(error, Error::Tls(..) | Error::Disconnected(..)),
        "{error}"
    );
    assert!(conn.is_dead());
}

/// Reads to the end, which must have been announced.
async fn hears_goodbye(mut server: TlsStream<DuplexStream>) {
    let mut bytes = Vec::new();
    // Without close_notify this is an error.
    server.read_to_end(&mut bytes).await.unwrap();
}

#[tokio::test]
async fn close_notify_follows_abort() {
    let (conn, mut server) = raw(TlsMode::Require).await;
    let script = async move {
        let mut option = [0; 16];
        server.read_exact(&mut option).await.unwrap();
        assert_eq!(option[8..12], OptionType::ABORT.0.to_be_bytes());
        let reply = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x02\0\0\0\x01\0\0\0\0";
        server.write_all(reply).await.unwrap();
        server.flush().await.unwrap();
        hears_goodbye(server).await;
    };
    let (result, ()) = tokio::join!(conn.opt_abort(), script);
    result.unwrap();
}

#[tokio::test(start_paused = true)]
async fn close_notify_follows_an_abort_that_is_not_answered() {
    let (conn, mut server) = raw(TlsMode::Require).await;
    let script = async move {
        let mut option = [0; 16];
        server.read_exact(&mut option).await.unwrap();
        hears_goodbye(server).await;
    };
    let (result, ()) = tokio::join!(conn.opt_abort(), script);
    result.unwrap();
}

both_runtimes!(close_notify_follows_a_violation_of_the_handshake);
async fn close_notify_follows_a_violation_of_the_handshake() {
    let (conn, mut server) = raw(TlsMode::Require).await;
    let script = async move {
        let mut option = [0; 16];
        server.read_exact(&mut option).await.unwrap();
        server.write_all(&[0x55; 20]).await.unwrap();
        server.flush().await.unwrap();
        hears_goodbye(server).await;
    };
    let (result, ()) = tokio::join!(conn.opt_list(), script);
    assert!(matches!(result, Err(Error::Protocol(..))), "{result:?}");
}

/// Lets the client enter an export, and returns the stream instead of hiding it in a peer.
async fn entered() -> (Connection, TlsStream<DuplexStream>) {
    let (server, stream) = duplex(1 << 16);
    let conn = builder(TlsMode::Require).structured_replies(false).build();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    let mut server = upgrade(server, wire::config()).await;
    let mut go = [0; 16 + 4 + wire::SECRET.len() + 2 + 2];
    server.read_exact(&mut go).await.unwrap();
    let mut reply = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\0\0\0\x03\0\0\0\x0c".to_vec();
    reply.extend(b"\0\0\0\0\0\0\0\x10\0\0\0\x01");
    reply.extend(b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\0\0\0\x01\0\0\0\0");
    server.write_all(&reply).await.unwrap();
    server.flush().await.unwrap();
    connecting.await.unwrap();
    (conn, server)
}

#[tokio::test]
async fn w16_the_end_inside_a_record_loses_the_connection() {
    // The head of a record of 1000 bytes, and some of them.
    let record = [&[0x17, 3, 3, 3, 0xe8][..], &[0x55; 100]].concat();
    for in_flight in [false, true] {
        for cut in [1, 4, 5, 6, 105] {
            let (conn, mut server) = entered().await;
            let read = in_flight.then(|| tokio::spawn(conn.read(0, 512).into_future()));
            if in_flight {
                server.read_exact(&mut [0; 28]).await.unwrap();
            }
            let (mut clear, _) = server.into_inner();
            clear.write_all(&record[..cut]).await.unwrap();
            drop(clear);
            let mut errors = vec![conn.closed().await];
            if let Some(read) = read {
                errors.push(read.await.unwrap().unwrap_err());
            }
            for error in errors {
                let Error::Disconnected(lost, _) = error else {
                    panic!("{error:?}");
                };
                assert_eq!(lost.io().kind(), io::ErrorKind::UnexpectedEof);
            }
            assert!(conn.is_dead());
        }
    }
}

#[tokio::test]
async fn close_notify_follows_disconnect() {
    let (conn, server) = entered().await;
    let (result, ()) = tokio::join!(conn.disconnect(), hears_goodbye(server));
    result.unwrap();
}

#[tokio::test]
async fn close_notify_follows_the_last_handle() {
    let (conn, server) = entered().await;
    drop(conn);
    hears_goodbye(server).await;
}

#[tokio::test]
async fn close_notify_follows_a_violation() {
    let (conn, mut server) = entered().await;
    server.write_all(&[0x55; 64]).await.unwrap();
    server.flush().await.unwrap();
    assert_eq!(conn.closed().await.kind(), ErrorKind::Protocol);
    hears_goodbye(server).await;
}

#[tokio::test]
async fn t30_flood_of_tickets_ends() {
    let mut config = wire::config();
    config.send_tls13_tickets = 10_000;
    let (mut server, stream) = duplex(1 << 16);
    let conn = requiring();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    let script = async {
        agree(&mut server).await;
        // The client may be gone before all are sent.
        let _ = TlsAcceptor::from(Arc::new(config))
            .accept(&mut server)
            .await;
    };
    let (result, ()) = tokio::join!(connecting, script);
    assert_eq!(failure(result), TlsFailure::Handshake);
}

#[tokio::test]
async fn many_tickets_do_no_harm() {
    let mut config = wire::config();
    config.send_tls13_tickets = 50;
    let (server, stream) = duplex(1 << 16);
    let conn = requiring();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    let script = async {
        let mut peer = Peer::new(upgrade(server, config).await);
        wire::enter(&mut peer).await;
        peer.speak(ReplyStyle::Simple);
        let read = peer.expect_request().await.unwrap().head;
        peer.send_data(&read, &[7; 512]).await.unwrap();
    };
    let client = async {
        connecting.await.unwrap();
        conn.read(0, 512).await.unwrap()
    };
    let (data, ()) = tokio::join!(client, script);
    assert_eq!(data, [7; 512][..]);
}

#[tokio::test]
async fn t30_flood_of_key_updates_ends() {
    let (conn, mut server) = entered().await;
    let script = async move {
        for _ in 0..10_000 {
            let (_, session) = server.get_mut();
            if session.refresh_traffic_keys().is_err() || server.flush().await.is_err() {
                break;
            }
        }
        // Drops the server: whoever has not given up yet is told now.
    };
    let (error, ()) = tokio::join!(conn.closed(), script);
    assert!(conn.is_dead(), "{error}");
}

#[tokio::test]
async fn requests_share_records_with_their_data() {
    const REQUESTS: u64 = 32;
    // So large that it is not copied behind the head of its request.
    const SIZE: u64 = 9000;
    let (client, server, tap) = wire::tapped();
    let script = tokio::spawn(async move {
        let mut peer = Peer::new(upgrade(server, wire::config()).await);
        wire::enter(&mut peer).await;
        peer.speak(ReplyStyle::Simple);
        for _ in 0..REQUESTS {
            peer.expect_command(Command::WRITE).await.unwrap();
        }
    });
    let conn = requiring();
    conn.connect_stream(client).await.unwrap();
    let write = |i| conn.write(i * SIZE, vec![7; SIZE as usize]).into_future();
    let _failed = futures::future::join_all((0..REQUESTS).map(write)).await;
    script.await.unwrap();
    let (said, _) = tap.await.unwrap();
    let records = wire::records(&said);
    assert!(records <= REQUESTS as usize + 4, "{records} records");
}
