//! Ceilings on what a server may send: where they are, lower, and higher.

use bytes::{BufMut, BytesMut};
use futures::{FutureExt, StreamExt, TryStreamExt};
use nbd_client::testing::{Export, Peer, Server};
use nbd_client::wire::option::{Info, OptionReply};
use nbd_client::wire::reply::{Reply, data_body, error_body, status_body};
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{
    ChunkType, Command, Errno, HandshakeFlags, InfoType, OptionReplyType, OptionType,
    ProtocolError, ReplyStyle,
};
use nbd_client::{Connection, Error, InvalidRequest, Limits, Result, Strict};

use crate::support::*;

/// The defaults, but for what `change` does.
fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// What an option makes of these replies to it.
async fn answered<T>(
    limits: Limits,
    replies: Vec<OptionReply>,
    option: impl AsyncFnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    let (mut peer, stream) = Peer::pair();
    let conn = Connection::builder()
        .opt_mode(true)
        .structured_replies(false)
        .limits(limits)
        .build();
    let (connected, greeted) = tokio::join!(
        conn.connect_stream(stream),
        peer.greet(HandshakeFlags::all())
    );
    greeted.unwrap();
    connected.unwrap();
    let script = async {
        let option = peer.expect_option().await.unwrap().option;
        for reply in replies.into_iter().chain([OptionReply::ack(option)]) {
            let _ = peer.send_option_reply(reply).await;
        }
    };
    tokio::join!(option(&conn), script).0
}

fn too_many<T: std::fmt::Debug>(result: Result<T>, option: OptionType) {
    assert_eq!(violation(result), ProtocolError::TooManyReplies(option));
}

#[tokio::test]
async fn the_exports_of_a_list_are_bounded_in_number() {
    let list = async |most, count: usize| {
        let limits = limits(|limits| limits.listed_exports = most);
        let replies = vec![OptionReply::server("disk", ""); count];
        answered(limits, replies, async |conn| conn.opt_list().await).await
    };
    for most in [0, 3, 10_001] {
        assert_eq!(list(most, most as usize).await.unwrap().len() as u32, most);
        too_many(list(most, most as usize + 1).await, OptionType::LIST);
    }
}

#[tokio::test]
async fn the_exports_of_a_list_are_bounded_in_bytes() {
    let list = async |most, count: usize| {
        let limits = limits(|limits| limits.listed_bytes = most);
        // With its length in front: 1 KiB.
        let export = OptionReply::server(&"n".repeat(20), &"d".repeat(1000));
        let replies = vec![export; count];
        answered(limits, replies, async |conn| conn.opt_list().await).await
    };
    for most in [4 << 10, 9 << 20] {
        let count = most as usize >> 10;
        assert_eq!(list(most, count).await.unwrap().len(), count);
        too_many(list(most, count + 1).await, OptionType::LIST);
    }
}

#[tokio::test]
async fn contexts_are_bounded_in_number() {
    let option = OptionType::LIST_META_CONTEXT;
    let list = async |most, count: u32| {
        let limits = limits(|limits| limits.contexts = most);
        let context = |id| OptionReply::meta_context(option, id, "x:y");
        let replies = (0..count).map(context).collect();
        let list = async |conn: &Connection| conn.opt_list_meta_context(["x:"]).await;
        answered(limits, replies, list).await
    };
    for most in [0, 3, 1025] {
        assert_eq!(list(most, most).await.unwrap().len() as u32, most);
        too_many(list(most, most + 1).await, option);
    }
}

fn export_info() -> OptionReply {
    OptionReply::info(OptionType::GO, &Info::Export(INFO))
}

fn unknown_info(length: usize) -> OptionReply {
    let mut payload = BytesMut::new();
    payload.put_u16(InfoType(77).0);
    payload.resize(length, 0);
    OptionReply {
        option: OptionType::GO,
        reply: OptionReplyType::INFO,
        payload: payload.freeze(),
    }
}

#[tokio::test]
async fn pieces_of_information_are_bounded_in_number_and_size() {
    let go = async |replies| {
        let go = async |conn: &Connection| conn.opt_go().await;
        answered(Limits::default(), replies, go).await
    };
    go(vec![export_info(); 64]).await.unwrap();
    too_many(go(vec![export_info(); 65]).await, OptionType::GO);

    let replies = |length| vec![unknown_info(length), export_info()];
    go(replies(64 << 10)).await.unwrap();
    let over = violation(go(replies((64 << 10) + 1)).await);
    assert_matches!(over, ProtocolError::Length { .. });
}

/// A connection with these limits that is ready for all commands.
async fn limited(style: ReplyStyle, limits: Limits) -> (Connection, Peer) {
    let builder = builder(style)
        .meta_context("base:allocation")
        .limits(limits);
    ready_with(builder, style).await
}

#[tokio::test]
async fn longer_reads_and_writes_than_a_payload_may_be_are_split() {
    for (most, block, sent) in [
        (4096, None, 4096),
        (5000, Some((512, 8192)), 4608),
        (1, Some((512, 4096)), 512),
        (0, None, 1),
        (u32::MAX, Some((1, u32::MAX)), u32::MAX),
    ] {
        let mut export = Export::new(1 << 20).log_requests(1 << 15);
        if let Some((minimum, maximum)) = block {
            export = export.block_sizes(minimum, minimum.max(512), maximum);
        }
        let server = Server::new(export.clone());
        let conn = Connection::builder()
            .limits(limits(|limits| limits.payload = most))
            .build();
        conn.connect_stream(server.connect()).await.unwrap();
        assert_eq!(
            conn.export().unwrap().max_payload(),
            sent,
            "{most} {block:?}"
        );
        conn.write(0, vec![7; 9216]).await.unwrap();
        assert_eq!(conn.read(0, 9216).await.unwrap()[..], [7; 9216]);
        let log = export.log();
        let longest = log.iter().map(|request| request.length).max().unwrap();
        assert_eq!(longest, 9216.min(sent.into()), "{most}");
    }
}

/// A connection to an export that says it is as large as any can be.
async fn boundless(limits: Limits) -> (Connection, Export) {
    let export = Export::new(i64::MAX as u64);
    let server = Server::new(export.clone());
    let conn = Connection::builder().limits(limits).build();
    conn.connect_stream(server.connect()).await.unwrap();
    (conn, export)
}

/// The connection goes on, and nothing was sent before.
async fn assert_usable(conn: &Connection, export: &Export) {
    assert_eq!(export.counters().requests(), 0);
    assert_eq!(conn.read(0, 512).await.unwrap()[..], [0; 512]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_of_all_that_a_hostile_export_claims_is_refused() {
    let (conn, export) = boundless(Limits::default()).await;
    for length in [(1 << 30) + 1, 1 << 40, 1 << 62, i64::MAX as usize] {
        let error = conn.read(0, length).await.unwrap_err();
        let expected = InvalidRequest::TooLong {
            command: Command::READ,
            length: length as u64,
            limit: 1 << 30,
        };
        assert!(error.to_string().contains(&length.to_string()), "{error}");
        assert!(error.to_string().contains("use several"), "{error}");
        assert_matches!(error, Error::Invalid(invalid) if invalid == expected);
    }
    let error = conn.read(0, usize::MAX).await.unwrap_err();
    assert_matches!(error, Error::Invalid(InvalidRequest::OutOfBounds { .. }));
    conn.set_strict(Strict::all() - Strict::BOUNDS);
    let error = conn.read(0, usize::MAX).await.unwrap_err();
    assert_matches!(error, Error::Invalid(InvalidRequest::TooLong { .. }));
    assert_usable(&conn, &export).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_for_which_there_is_no_memory_is_refused() {
    let (conn, export) = boundless(limits(|limits| limits.read = u64::MAX)).await;
    conn.set_strict(Strict::all() - Strict::BOUNDS);
    // More than any address space has.
    for length in [1 << 50, 1 << 62, usize::MAX] {
        let error = conn.read(0, length).await.unwrap_err();
        assert_eq!(error.errno(), Some(12), "ENOMEM");
        let expected = InvalidRequest::OutOfMemory {
            length: length as u64,
        };
        assert_matches!(&error, Error::Invalid(invalid) if *invalid == expected);
        let error = std::io::Error::from(error);
        assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory);
    }
    assert_usable(&conn, &export).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_bounded_unless_they_bring_their_buffer() {
    for most in [0, 1000, 100_000_000] {
        let (conn, _) = boundless(limits(|limits| limits.read = most)).await;
        let most = most as usize;
        let error = conn.read(0, most + 1).await.unwrap_err();
        assert_matches!(error, Error::Invalid(InvalidRequest::TooLong { .. }));
        let buffer = BytesMut::with_capacity(most + 1);
        assert!(conn.read_into(0, buffer).await.unwrap().len() > most);
        if most > 0 {
            assert_eq!(conn.read(0, most).await.unwrap().len(), most);
        }
    }
}

#[tokio::test]
async fn extents_are_bounded_in_number() {
    const MOST: usize = 1 << 20;
    for style in CHUNKED {
        for over in [0, 1] {
            let (conn, mut peer) = limited(style, Limits::default()).await;
            let script = async {
                let head = peer
                    .expect_command(Command::BLOCK_STATUS)
                    .await
                    .unwrap()
                    .head;
                let extents = vec![(1, 0); MOST + over];
                let extended = style == ReplyStyle::Extended;
                let kind = match extended {
                    true => ChunkType::BLOCK_STATUS_EXT,
                    false => ChunkType::BLOCK_STATUS,
                };
                let body = status_body(extended, 7, &extents);
                let _ = peer.send_reply(peer.last_chunk(&head, kind, body)).await;
            };
            let status = conn.block_status(0, 1 << 20).into_future();
            let (status, ()) = tokio::join!(status, script);
            match over {
                0 => assert_eq!(status.unwrap().len(), 1),
                _ => assert_matches!(violation(status), ProtocolError::Length { .. }),
            }
        }
    }
}

/// What a read of `length` bytes makes of these chunks and an error at the end.
async fn read_answered(
    style: ReplyStyle,
    length: usize,
    chunks: impl Fn(&Peer, &RequestHead) -> Vec<Reply>,
) -> Error {
    let (conn, mut peer) = limited(style, Limits::default()).await;
    let script = async {
        let head = peer.expect_command(Command::READ).await.unwrap().head;
        for chunk in chunks(&peer, &head) {
            let _ = peer.send_reply(chunk).await;
        }
        let _ = peer.send_error(&head, Errno::EIO, "the end").await;
    };
    let read = conn.read(0, length).into_future();
    tokio::join!(read, script).0.unwrap_err()
}

#[tokio::test]
async fn error_chunks_are_bounded_in_number() {
    for style in CHUNKED {
        let errors = |count| {
            move |peer: &Peer, head: &RequestHead| {
                let body = error_body(Errno::EPERM, "", None);
                vec![peer.chunk(head, ChunkType::ERROR, body); count]
            }
        };
        // The error at the end is one more.
        let just = read_answered(style, 512, errors(63)).await;
        assert_matches!(just, Error::Request(_));
        let over = read_answered(style, 512, errors(64)).await;
        assert_eq!(violation::<()>(Err(over)), ProtocolError::TooManyErrors);
    }
}

/// Every second byte, so many times.
fn pieces(count: u32) -> impl Fn(&Peer, &RequestHead) -> Vec<Reply> {
    move |peer, head| {
        let piece = |i| {
            let body = data_body(u64::from(2 * i + 1), &[0]);
            peer.chunk(head, ChunkType::OFFSET_DATA, body)
        };
        (0..count).map(piece).collect()
    }
}

#[tokio::test]
async fn fragments_of_a_read_are_bounded_in_number() {
    for style in CHUNKED {
        // 64, or one for each 512 bytes.
        for (length, most) in [(512, 64), (32 << 10, 64), (64 << 10, 128)] {
            let just = read_answered(style, length, pieces(most)).await;
            assert_matches!(just, Error::Request(_));
            let over = read_answered(style, length, pieces(most + 1)).await;
            assert_eq!(violation::<()>(Err(over)), ProtocolError::TooFragmented);
        }
    }
}

#[tokio::test]
async fn pieces_that_nobody_takes_are_bounded_in_number() {
    for style in CHUNKED {
        for over in [0, 1] {
            let (conn, mut peer) = limited(style, Limits::default()).await;
            let mut chunks = conn.read_structured(0, 64 << 10);
            // A first poll sends it; nothing is taken until all has come.
            assert!(chunks.next().now_or_never().is_none());
            let head = peer.expect_command(Command::READ).await.unwrap().head;
            for at in 0..4096 + over {
                let body = data_body(at, &[0]);
                let _ = peer
                    .send_reply(peer.chunk(&head, ChunkType::OFFSET_DATA, body))
                    .await;
            }
            let _ = peer.send_error(&head, Errno::EIO, "the end").await;
            while conn.in_flight() > 0 {
                settle().await;
            }
            let end = chunks.try_collect::<Vec<_>>().await.unwrap_err();
            match over {
                0 => assert_matches!(end, Error::Request(_)),
                _ => assert_eq!(violation::<()>(Err(end)), ProtocolError::TooFragmented),
            }
        }
    }
}
