//! The scripted peer, with the test client at the other end.

use super::*;
use crate::testing::Peer;
use crate::wire::reply::{Reply, status_body};
use crate::wire::{HandshakeFlags, ProtocolError, TransmissionFlags};

const NONE: CommandFlags = CommandFlags::empty();
const INFO: ExportInfo = ExportInfo {
    size: 1000,
    flags: TransmissionFlags::HAS_FLAGS,
};

#[tokio::test]
async fn a_script_can_play_an_honest_server_in_every_style() {
    for (style, option) in [
        (ReplyStyle::Simple, OptionType::LIST),
        (ReplyStyle::Structured, OptionType::STRUCTURED_REPLY),
        (ReplyStyle::Extended, OptionType::EXTENDED_HEADERS),
    ] {
        let (mut peer, stream) = Peer::pair();
        let script = async {
            assert_eq!(peer.handshake(style, INFO, &[(7, "x:y")]).await?, "disk");
            let read = peer.expect_command(Command::READ).await?.head;
            peer.send_data(&read, b"data").await?;
            let write = peer.expect_command(Command::WRITE).await?;
            assert_eq!(write.payload, "payload");
            peer.acknowledge(&write.head).await?;
            let flush = peer.expect_request().await?.head;
            peer.send_error(&flush, Errno::EIO, "broken").await?;
            peer.expect_end().await
        };
        let client = async {
            let mut client = Client::new(stream);
            client.greeting().await;
            client.send_flags(ClientFlags::all()).await;
            assert_eq!(client.bare(option).await, OptionReplyType::ACK);
            let refused = client.bare(OptionType::STARTTLS).await;
            assert_eq!(refused, OptionReplyType::ERR_UNSUP);
            let set =
                OptionRequest::meta_context(OptionType::SET_META_CONTEXT, "disk", &["x:y", "x:z"]);
            let contexts = client.option(set).await;
            assert_eq!(contexts[0].parse_meta_context(), Ok((7, "x:y".into())));
            assert_eq!(contexts.len(), 2);
            assert_eq!(client.go("disk").await, INFO);
            client.style = style;
            assert_eq!(client.read(10, 4).await.data(), b"data");
            assert_eq!(client.write(0, b"payload").await, Answer::ok());
            let answer = client.call(Command::FLUSH, NONE, 0, 0).await;
            assert_eq!(answer.error, Some(Errno::EIO));
        };
        let (script, ()) = tokio::join!(script, client);
        script.unwrap();
    }
}

#[tokio::test]
async fn a_script_can_say_anything() {
    let (mut peer, stream) = Peer::pair();
    let mut client = Client::new(stream);
    client.style = ReplyStyle::Structured;
    peer.speak(ReplyStyle::Structured);
    let sent = client.send(Command::READ, NONE, 100, 20).await;
    let head = peer.expect_request().await.unwrap().head;
    assert_eq!(head, sent);
    let chunks = [
        peer.chunk(&head, ChunkType::OFFSET_HOLE, hole(5000, 9)),
        peer.chunk(
            &head,
            ChunkType::BLOCK_STATUS,
            status_body(false, 3, &[(1, 2)]),
        ),
        Reply::simple(head.cookie, Errno(4711), Bytes::new()),
    ];
    for chunk in chunks {
        peer.send_reply(chunk).await.unwrap();
    }
    let answer = client.answer(sent).await;
    assert_eq!(answer.content, [(5000, Content::Hole(9))]);
    assert_eq!(answer.status[0].context, 3);
    assert_eq!(answer.error, Some(Errno(4711)));
    peer.send_bytes(b"not a reply").await.unwrap();
    peer.close();
    assert_eq!(client.body(11).await, "not a reply");
    assert!(client.is_closed().await);
}

fn hole(offset: u64, length: u32) -> Bytes {
    crate::wire::reply::hole_body(Hole { offset, length })
}

#[tokio::test]
async fn all_bytes_are_kept_even_those_no_one_expected() {
    let (mut peer, mut stream) = Peer::pair();
    stream.write_all(&3u32.to_be_bytes()).await.unwrap();
    stream.write_all(b"leak").await.unwrap();
    let flags = peer.greet(HandshakeFlags::all()).await.unwrap();
    assert_eq!(flags, ClientFlags::all());
    assert_eq!(peer.received(), b"\0\0\0\x03leak");
    assert!(peer.expect_end().await.is_err());
    assert!(matches!(
        peer.expect_request().await,
        Err(CodecError::Protocol(ProtocolError::Magic(_)))
    ));
}

#[tokio::test]
async fn a_half_closed_peer_still_hears_the_client() {
    let (mut peer, stream) = Peer::pair();
    let mut client = Client::new(stream);
    peer.half_close().await.unwrap();
    assert!(client.is_closed().await);
    client.send(Command::FLUSH, NONE, 0, 0).await;
    assert!(peer.expect_command(Command::FLUSH).await.is_ok());
    client.send(Command::TRIM, NONE, 0, 1).await;
    assert!(peer.expect_command(Command::FLUSH).await.is_err());
    drop(client);
    peer.expect_end().await.unwrap();
}

#[tokio::test]
async fn a_client_that_wants_something_else_fails_the_handshake() {
    for (style, last) in [
        (ReplyStyle::Structured, OptionRequest::export_name("disk")),
        (ReplyStyle::Simple, OptionRequest::bare(OptionType::ABORT)),
    ] {
        let (mut peer, stream) = Peer::pair();
        let script = tokio::spawn(async move { peer.handshake(style, INFO, &[]).await });
        let mut client = Client::new(stream);
        client.greeting().await;
        client.send_flags(ClientFlags::empty()).await;
        client.send_option(last).await;
        assert!(script.await.unwrap().is_err());
    }
}
