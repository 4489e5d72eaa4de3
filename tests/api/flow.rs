//! Bytes in both directions at any pace.

use nbd_client::testing::{Export, Peer, Server};
use nbd_client::wire::{Command, Errno, HandshakeFlags, ReplyStyle};
use nbd_client::{Connection, Error};
use tokio::io::BufStream;
use tokio::time::Instant;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_stream_that_buffers_is_flushed_when_it_can_be() {
    let server = Server::new(Export::new(1 << 20));
    let stream = server.connect_with_capacity(16);
    let conn = Connection::new();
    // It takes a whole request, and passes on no more than the pipe holds.
    let stream = BufStream::with_capacity(4096, 4096, stream);
    conn.connect_stream(stream).await.unwrap();
    let start = Instant::now();
    for offset in [0, 512] {
        conn.write(offset, vec![1; 512]).await.unwrap();
    }
    let reads = futures::future::join_all((0..8).map(|_| conn.read(0, 1024).into_future())).await;
    assert!(reads.into_iter().all(|data| data.unwrap()[..] == [1; 1024]));
    assert_eq!(start.elapsed().as_millis(), 0);
}

#[tokio::test(start_paused = true)]
async fn r18_an_early_error_is_told_as_soon_as_the_payload_is_written() {
    for style in STYLES {
        let (conn, mut peer) = narrow(style, 64).await;
        let start = Instant::now();
        let write = tokio::spawn({
            let conn = conn.clone();
            async move { conn.write(0, vec![7; 4096]).await }
        });
        let head = peer.expect_head().await.unwrap();
        peer.send_error(&head, Errno::EPERM, "no").await.unwrap();
        settle().await;
        assert_eq!(conn.in_flight(), 1, "its payload is still due");
        let request = peer.expect_command(Command::WRITE).await.unwrap();
        assert_eq!(&request.payload[..], [7; 4096]);
        let error = write.await.unwrap().unwrap_err();
        assert_matches!(error, Error::Request(e) if e.errno() == Errno::EPERM);
        assert_eq!(start.elapsed().as_millis(), 0);
        assert_eq!(conn.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_told_although_a_violation_came_right_behind_it() {
    for style in STYLES {
        let (conn, mut peer) = ready(style).await;
        let read = |offset| tokio::spawn(conn.read(offset, 4).into_future());
        let first = read(0);
        let request = peer.expect_command(Command::READ).await.unwrap();
        let second = read(8);
        let other = peer.expect_command(Command::READ).await.unwrap();
        let mut bytes = bytes::BytesMut::new();
        data(style, &request.head, b"good").encode(&mut bytes);
        bytes.extend_from_slice(b"nonsense");
        peer.send_bytes(&bytes).await.unwrap();
        assert_eq!(&first.await.unwrap().unwrap()[..], b"good");
        violation(second.await.unwrap());
        assert_ne!(other.head.cookie, request.head.cookie);
    }
}

#[tokio::test(start_paused = true)]
async fn g11_what_was_sent_ahead_of_any_request_ends_the_connection() {
    let (mut peer, stream) = Peer::pair();
    let conn = builder(ReplyStyle::Simple)
        .handshake_flags(HandshakeFlags::all())
        .build();
    let script = async {
        peer.greet(HandshakeFlags::all()).await.unwrap();
        let go = peer.expect_option().await.unwrap();
        let reply = nbd_client::wire::option::OptionReply::error(
            go.option,
            nbd_client::wire::OptionReplyType::ERR_UNSUP,
            "",
        );
        peer.send_option_reply(reply).await.unwrap();
        peer.expect_option().await.unwrap();
        // NO_ZEROES was agreed, and here they are.
        let mut bytes = bytes::BytesMut::new();
        INFO.encode(true, &mut bytes);
        peer.send_bytes(&bytes).await.unwrap();
    };
    let start = Instant::now();
    let (_, ()) = tokio::join!(conn.connect_stream(stream), script);
    assert_matches!(conn.closed().await, Error::Protocol(..));
    assert_eq!(start.elapsed().as_millis(), 0);
}
