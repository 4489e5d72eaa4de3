//! What is said in clear, to servers that refuse TLS or cheat before it begins: as good as
//! nothing.

use std::time::Duration;

use nbd_client::testing::Peer;
use nbd_client::wire::option::{ExportInfo, Greeting, OptionReply};
use nbd_client::wire::reply::ReplyStyle;
use nbd_client::wire::{
    HandshakeFlags, OptionReplyType, OptionType, ProtocolError, TransmissionFlags,
};
use nbd_client::{Error, ErrorKind, Phase, TlsFailure, TlsMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

use crate::tls::wire::{self, SECRET, agree, builder, failure, only, requiring};

const INFO: ExportInfo = ExportInfo {
    size: 1 << 20,
    flags: TransmissionFlags::HAS_FLAGS,
};

/// All that the client sends until it closes.
async fn rest(stream: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// Refuses `STARTTLS` so, and returns all that the client said, with its error.
async fn refused(reply: OptionReplyType) -> (Vec<u8>, Error) {
    let (mut peer, stream) = Peer::pair();
    let conn = requiring();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    peer.greet(HandshakeFlags::all()).await.unwrap();
    let option = peer.expect_option().await.unwrap().option;
    let refusal = OptionReply::error(option, reply, "no");
    peer.send_option_reply(refusal).await.unwrap();
    let option = peer.expect_option().await.unwrap().option;
    peer.send_option_reply(OptionReply::ack(option))
        .await
        .unwrap();
    let error = connecting.await.unwrap_err();
    peer.expect_end().await.unwrap();
    (peer.received().to_vec(), error)
}

#[tokio::test]
async fn t01_refusal_leads_to_abort_and_nothing_else() {
    for reply in [
        OptionReplyType::ERR_UNSUP,
        OptionReplyType::ERR_POLICY,
        OptionReplyType::ERR_INVALID,
        OptionReplyType::ERR_PLATFORM,
        OptionReplyType::ERR_SHUTDOWN,
        OptionReplyType(0x8000_4242),
    ] {
        let (received, error) = refused(reply).await;
        assert_eq!(received, only(&[OptionType::STARTTLS, OptionType::ABORT]));
        let Error::Refused(refusal) = error else {
            panic!("{error}");
        };
        assert_eq!(refusal.option(), OptionType::STARTTLS);
        assert_eq!(refusal.reply(), reply);
    }
}

#[tokio::test(start_paused = true)]
async fn t01_refusal_is_told_even_if_the_server_keeps_silent_after_it() {
    let (mut peer, stream) = Peer::pair();
    let conn = requiring();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    peer.greet(HandshakeFlags::all()).await.unwrap();
    let option = peer.expect_option().await.unwrap().option;
    wire::refuse(&mut peer, option).await;
    let error = connecting.await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
}

#[tokio::test]
async fn t02_refusal_is_accepted_by_who_only_prefers_tls() {
    let (mut peer, stream) = Peer::pair();
    let conn = builder(TlsMode::Prefer).build();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    peer.greet(HandshakeFlags::all()).await.unwrap();
    let option = peer.expect_option().await.unwrap().option;
    assert_eq!(option, OptionType::STARTTLS);
    wire::refuse(&mut peer, option).await;
    wire::enter(&mut peer).await;
    connecting.await.unwrap();
    assert!(!conn.is_tls());
    assert!(conn.tls_info().is_none());
}

both_runtimes!(t02_a_server_that_shuts_down_is_not_told_the_name_in_clear);
async fn t02_a_server_that_shuts_down_is_not_told_the_name_in_clear() {
    let (mut peer, stream) = Peer::pair();
    let conn = builder(TlsMode::Prefer).build();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    peer.greet(HandshakeFlags::all()).await.unwrap();
    let option = peer.expect_option().await.unwrap().option;
    let refusal = OptionReply::error(option, OptionReplyType::ERR_SHUTDOWN, "");
    peer.send_option_reply(refusal).await.unwrap();
    let abort = peer.expect_option().await.unwrap().option;
    peer.send_option_reply(OptionReply::ack(abort))
        .await
        .unwrap();
    let error = connecting.await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
    peer.expect_end().await.unwrap();
    let expected = only(&[OptionType::STARTTLS, OptionType::ABORT]);
    assert_eq!(peer.received(), expected);
}

#[tokio::test]
async fn t25_server_without_fixed_newstyle_is_told_nothing() {
    let (mut peer, stream) = Peer::pair();
    let conn = requiring();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    let greeting = Greeting::Newstyle(HandshakeFlags::NO_ZEROES);
    peer.send_greeting(greeting).await.unwrap();
    assert_eq!(failure(connecting.await), TlsFailure::NotPossible);
    peer.expect_end().await.unwrap();
    assert_eq!(peer.received(), b"");
}

#[tokio::test]
async fn t26_oldstyle_server_is_told_nothing() {
    let (mut peer, stream) = Peer::pair();
    let conn = requiring();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    peer.send_greeting(Greeting::Oldstyle(INFO)).await.unwrap();
    assert_eq!(failure(connecting.await), TlsFailure::NotPossible);
    peer.expect_end().await.unwrap();
    assert_eq!(peer.received(), b"");
}

#[tokio::test]
async fn oldstyle_server_is_accepted_by_who_only_prefers_tls() {
    let (mut peer, stream) = Peer::pair();
    let conn = builder(TlsMode::Prefer).build();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    peer.send_greeting(Greeting::Oldstyle(INFO)).await.unwrap();
    connecting.await.unwrap();
    assert!(!conn.is_tls());
}

#[tokio::test]
async fn t03_agreement_with_data_is_a_violation() {
    let (mut peer, stream) = Peer::pair();
    let conn = requiring();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    peer.greet(HandshakeFlags::all()).await.unwrap();
    peer.expect_option().await.unwrap();
    let reply = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x05\0\0\0\x01\0\0\0\x01!";
    peer.send_bytes(reply).await.unwrap();
    let error = connecting.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(peer.received(), only(&[OptionType::STARTTLS]));
}

#[tokio::test]
async fn t04_replies_that_were_slipped_in_before_tls_are_not_heard() {
    let (mut peer, stream) = Peer::pair();
    let conn = requiring();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    peer.greet(HandshakeFlags::all()).await.unwrap();
    peer.expect_option().await.unwrap();
    let mut forged = bytes::BytesMut::new();
    OptionReply::ack(OptionType::STARTTLS).encode(&mut forged);
    OptionReply::ack(OptionType::EXTENDED_HEADERS).encode(&mut forged);
    peer.send_bytes(&forged).await.unwrap();
    match connecting.await.unwrap_err() {
        Error::Protocol(ProtocolError::ClearBytesBeforeTls(20), _) => {}
        error => panic!("{error}"),
    }
    peer.expect_end().await.unwrap();
    assert_eq!(peer.received(), only(&[OptionType::STARTTLS]));
}

/// Agrees to TLS, then sends these bytes instead; returns what the client said after that.
async fn instead_of_tls(bytes: &[u8]) -> (Vec<u8>, nbd_client::Result<()>) {
    let (mut server, stream) = tokio::io::duplex(1 << 20);
    let conn = requiring();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    agree(&mut server).await;
    // What follows cannot have been read together with the agreement.
    let mut hello = [0; 5];
    server.read_exact(&mut hello).await.unwrap();
    server.write_all(bytes).await.unwrap();
    server.shutdown().await.unwrap();
    let result = connecting.await;
    let mut said = hello.to_vec();
    said.extend(rest(&mut server).await);
    (said, result)
}

#[tokio::test]
async fn t05_what_is_no_tls_fails_and_nothing_follows_in_clear() {
    let mut forged = bytes::BytesMut::new();
    OptionReply::ack(OptionType::EXTENDED_HEADERS).encode(&mut forged);
    for bytes in [
        &forged[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0x55; 4096],
        // Alerts: handshake_failure, protocol_version, close_notify.
        b"\x15\x03\x03\0\x02\x02\x28",
        b"\x15\x03\x01\0\x02\x02\x46",
        b"\x15\x03\x03\0\x02\x01\0",
    ] {
        no_tls(bytes).await;
    }
}

/// These bytes instead of TLS are a failure of it, after which nothing is said in clear.
async fn no_tls(bytes: &[u8]) -> TlsFailure {
    let (said, result) = instead_of_tls(bytes).await;
    let start = String::from_utf8_lossy(&bytes[..7]).into_owned();
    // A TLS handshake record, and at most an alert after it.
    assert_eq!(said[..3], [0x16, 3, 1]);
    let length = 5 + usize::from(u16::from_be_bytes([said[3], said[4]]));
    assert!(said.len() <= length + 7, "{start:?}: {:?}", &said[length..]);
    assert!(!contains(&said, b"IHAVEOPT"));
    assert!(!contains(&said, SECRET.as_bytes()));
    failure(result)
}

#[tokio::test]
async fn t17_a_server_with_old_versions_only_is_refused() {
    for minor in [0, 1, 2] {
        // SSL 3.0 and TLS 1.0 and 1.1: the hello of such a server …
        let mut hello = b"\x16\x03\x02\0\x2a\x02\0\0\x26\x03".to_vec();
        hello[2] = minor;
        hello.push(minor);
        hello.extend([7; 32]);
        hello.extend(b"\0\0\x2f\0");
        no_tls(&hello).await;
        // … and what it says to one that is too new.
        let alert = [0x15, 3, minor, 0, 2, 2, 70];
        assert_eq!(no_tls(&alert).await, TlsFailure::Handshake);
    }
}

#[tokio::test]
async fn t30_a_flood_of_empty_records_ends() {
    no_tls(&b"\x16\x03\x03\0\0".repeat(10_000)).await;
}

pub(crate) fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

both_runtimes!(t06_reset_after_the_agreement_is_a_failure_of_tls);
async fn t06_reset_after_the_agreement_is_a_failure_of_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let conn = requiring();
    let connecting = conn.aio_connect_tcp("127.0.0.1", port).unwrap();
    let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
    agree(&mut stream).await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    assert_eq!(failure(connecting.await), TlsFailure::Closed);
}

#[tokio::test(start_paused = true)]
async fn t07_silence_after_the_agreement_ends_with_the_deadline() {
    let (mut server, stream) = tokio::io::duplex(1 << 16);
    let conn = requiring();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    agree(&mut server).await;
    match connecting.await.unwrap_err() {
        Error::Timeout(Phase::Tls, _) => {}
        error => panic!("{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn t07_dripping_after_the_agreement_ends_with_the_deadline() {
    let (mut server, stream) = tokio::io::duplex(1 << 16);
    let conn = requiring();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    agree(&mut server).await;
    let drip = async {
        // A record of 16 KiB that never comes to its end.
        let record = b"\x16\x03\x03\x40\0\x02\0\x3f\xfc"
            .iter()
            .chain(&[0; 16000]);
        for byte in record {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if server.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    };
    let (result, ()) = tokio::join!(connecting, drip);
    match result.unwrap_err() {
        Error::Timeout(Phase::Tls, _) => {}
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn t27_server_that_insists_on_tls_says_so_to_who_has_it_switched_off() {
    let (mut peer, stream) = Peer::pair();
    let conn = builder(TlsMode::Disable).build();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    let script = async move {
        peer.greet(HandshakeFlags::all()).await.unwrap();
        loop {
            let option = peer.expect_option().await.unwrap().option;
            if option == OptionType::ABORT {
                return;
            }
            let refusal = OptionReply::error(option, OptionReplyType::ERR_TLS_REQD, "");
            peer.send_option_reply(refusal).await.unwrap();
        }
    };
    let (result, ()) = tokio::join!(connecting, script);
    let Err(Error::Refused(refusal)) = result else {
        panic!("{result:?}");
    };
    assert_eq!(refusal.reply(), OptionReplyType::ERR_TLS_REQD);
}

#[tokio::test]
async fn nothing_of_an_encrypted_session_can_be_read_on_the_way() {
    const CANARY: &[u8] = b"canary-data-canary-data";
    let (client, server, tap) = wire::tapped();
    let script = tokio::spawn(async move {
        let mut peer = Peer::new(wire::upgrade(server, wire::config()).await);
        wire::enter(&mut peer).await;
        peer.speak(ReplyStyle::Simple);
        let write = peer.expect_request().await.unwrap();
        assert!(contains(&write.payload, CANARY));
        peer.acknowledge(&write.head).await.unwrap();
        let read = peer.expect_request().await.unwrap();
        peer.send_data(&read.head, CANARY).await.unwrap();
    });
    let conn = requiring();
    conn.connect_stream(client).await.unwrap();
    conn.write(0, CANARY).await.unwrap();
    let data = conn.read(0, CANARY.len()).await.unwrap();
    assert_eq!(&data[..], CANARY);
    drop(conn);
    script.await.unwrap();

    let (there, back) = tap.await.unwrap();
    let clear = only(&[OptionType::STARTTLS]);
    assert_eq!(there[..clear.len()], clear);
    assert_eq!(there[clear.len()..][..3], [0x16, 3, 1]);
    for heard in [&there, &back] {
        assert!(!contains(heard, SECRET.as_bytes()));
        assert!(!contains(heard, b"canary"));
    }
}
