//! Every command with every flag, in every style.

use bytes::{Bytes, BytesMut};
use nbd_client::testing::{Export, Server};
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{Command, CommandFlags, Errno, ReplyStyle};
use nbd_client::{Chunk, Connection, Error, Extent, InvalidRequest};

use crate::support::*;

async fn connected(style: ReplyStyle, export: &Export) -> Connection {
    let server = Server::new(export.clone());
    let conn = builder(style).meta_context("base:allocation").build();
    conn.connect_stream(server.connect()).await.unwrap();
    conn
}

/// All that a stream of chunks gives.
async fn collect(mut chunks: nbd_client::Chunks) -> Vec<Result<Chunk, Error>> {
    let mut all = Vec::new();
    let next = |chunks: &mut nbd_client::Chunks, cx: &mut std::task::Context<'_>| {
        futures::Stream::poll_next(std::pin::Pin::new(chunks), cx)
    };
    while let Some(chunk) = std::future::poll_fn(|cx| next(&mut chunks, cx)).await {
        all.push(chunk);
    }
    let again = std::future::poll_fn(|cx| next(&mut chunks, cx)).await;
    assert!(again.is_none(), "a stream that has ended stays so");
    all
}

#[tokio::test]
async fn every_command_is_sent_with_its_flags_and_nothing_else() {
    use CommandFlags as F;
    for style in STYLES {
        let export = Export::new(1 << 20).log_requests(100);
        let conn = connected(style, &export).await;
        let chunked = style != ReplyStyle::Simple;
        let payload = match style {
            ReplyStyle::Extended => F::PAYLOAD_LEN,
            _ => F::empty(),
        };
        let none = F::empty();
        let mut expected = Vec::new();
        let mut expect = |command, flags, offset, length| {
            expected.push((command, flags, offset, length));
        };
        conn.read(512, 100).await.unwrap();
        expect(Command::READ, none, 512, 100);
        conn.write(0, vec![1; 64]).await.unwrap();
        expect(Command::WRITE, payload, 0, 64);
        conn.write(0, vec![1; 64]).fua().await.unwrap();
        expect(Command::WRITE, payload | F::FUA, 0, 64);
        conn.flush().await.unwrap();
        expect(Command::FLUSH, none, 0, 0);
        conn.trim(4096, 512).await.unwrap();
        expect(Command::TRIM, none, 4096, 512);
        conn.trim(4096, 512).fua().await.unwrap();
        expect(Command::TRIM, F::FUA, 4096, 512);
        conn.cache(0, 1 << 20).await.unwrap();
        expect(Command::CACHE, none, 0, 1 << 20);
        conn.write_zeroes(1, 2).await.unwrap();
        expect(Command::WRITE_ZEROES, none, 1, 2);
        conn.write_zeroes(1, 2)
            .fua()
            .no_hole()
            .fast_zero()
            .await
            .unwrap();
        expect(
            Command::WRITE_ZEROES,
            F::FUA | F::NO_HOLE | F::FAST_ZERO,
            1,
            2,
        );
        if chunked {
            conn.read(0, 4096).dont_fragment().await.unwrap();
            expect(Command::READ, F::DF, 0, 4096);
            let buffer = BytesMut::zeroed(10);
            conn.read_into(5, buffer).dont_fragment().await.unwrap();
            expect(Command::READ, F::DF, 5, 10);
            collect(conn.read_structured(0, 64).dont_fragment()).await;
            expect(Command::READ, F::DF, 0, 64);
            conn.block_status(0, 1 << 20).await.unwrap();
            expect(Command::BLOCK_STATUS, none, 0, 1 << 20);
            conn.block_status(0, 1 << 20).req_one().await.unwrap();
            expect(Command::BLOCK_STATUS, F::REQ_ONE, 0, 1 << 20);
        }
        let log: Vec<_> = export
            .log()
            .iter()
            .map(|head| (head.command, head.flags, head.offset, head.length))
            .collect();
        assert_eq!(log, expected, "{style:?}");
    }
}

// P-130, and more: a server of one connection can say nothing of the cookies of another.
#[tokio::test]
async fn cookies_start_anywhere_and_differ() {
    let mut starts = Vec::new();
    for _ in 0..4 {
        let (conn, mut peer) = ready(ReplyStyle::Simple).await;
        let mut cookies = Vec::new();
        for _ in 0..3 {
            let (result, ()) = tokio::join!(conn.flush().into_future(), async {
                let head = peer.expect_request().await.unwrap().head;
                peer.acknowledge(&head).await.unwrap();
                cookies.push(head.cookie);
            });
            result.unwrap();
        }
        starts.push(cookies[0]);
        cookies.dedup();
        assert_eq!(cookies.len(), 3);
    }
    starts.sort_unstable();
    // Two of four are this close once in 2^29 runs.
    assert!(starts.windows(2).all(|two| two[1] - two[0] > 1 << 31));
}

#[tokio::test]
async fn what_is_written_is_read_back_by_every_kind_of_read() {
    for style in STYLES {
        let conn = connected(style, &Export::new(1 << 20)).await;
        let data: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        conn.write(1000, data.clone()).await.unwrap();
        assert_eq!(conn.read(1000, 100_000).await.unwrap()[..], data);
        let buffer = conn.read_into(1000, BytesMut::zeroed(100_000)).await;
        assert_eq!(buffer.unwrap()[..], data);
        let mut whole = vec![0xff; 200_000];
        for chunk in collect(conn.read_structured(0, 200_000)).await {
            let chunk = chunk.unwrap();
            let at = chunk.offset() as usize..(chunk.offset() + chunk.length()) as usize;
            match chunk {
                Chunk::Data { data, .. } => whole[at].copy_from_slice(&data),
                _ => whole[at].fill(0),
            }
        }
        assert_eq!(whole[1000..101_000], data);
        assert!(
            whole[..1000]
                .iter()
                .chain(&whole[101_000..])
                .all(|&b| b == 0)
        );
    }
}

#[tokio::test]
async fn k35_reads_and_writes_above_the_maximum_are_split() {
    for style in STYLES {
        let export = Export::new(1 << 20)
            .block_sizes(512, 512, 8192)
            .log_requests(100);
        let conn = connected(style, &export).await;
        let data: Vec<u8> = (0..40_960u32).map(|i| (i % 253) as u8).collect();
        conn.write(4096, data.clone()).fua().await.unwrap();
        assert_eq!(conn.read(4096, 40_960).await.unwrap()[..], data);
        let buffer = BytesMut::with_capacity(40_960);
        let place = buffer.as_ptr();
        let buffer = conn.read_into(4096, buffer).await.unwrap();
        assert_eq!(buffer[..], data);
        assert_eq!(buffer.as_ptr(), place, "into the buffer itself");
        for head in export.log() {
            assert!(head.length <= 8192);
            let fua = head.flags.contains(CommandFlags::FUA);
            assert_eq!(fua, head.command == Command::WRITE);
        }
        assert_eq!(export.counters().bytes_read, 2 * 40_960);
        let too_long = collect(conn.read_structured(0, 8704)).await;
        assert_matches!(
            &too_long[..],
            [Err(Error::Invalid(InvalidRequest::TooLong { .. }))]
        );
    }
}

#[tokio::test]
async fn a_split_request_fails_if_a_part_does() {
    for style in STYLES {
        let fault = |head: &RequestHead| {
            (head.offset == 8192).then(|| (Errno::EIO, "bad sector".to_owned()))
        };
        let server = Server::builder()
            .export("", Export::new(1 << 20).block_sizes(1, 512, 4096))
            .fail_with(fault)
            .build();
        let conn = builder(style).build();
        conn.connect_stream(server.connect()).await.unwrap();
        let read = conn.read(0, 40_000).await;
        assert_matches!(read, Err(Error::Request(e)) if e.errno() == Errno::EIO);
        let write = conn.write(0, vec![1; 40_000]).await;
        assert_matches!(write, Err(Error::Request(e)) if e.errno() == Errno::EIO);
        assert_eq!(conn.read(0, 4096).await.unwrap().len(), 4096);
        conn.disconnect().await.unwrap();
    }
}

#[tokio::test]
async fn a_buffer_is_used_again_without_another_allocation() {
    for style in STYLES {
        let conn = connected(style, &Export::new(1 << 20)).await;
        for length in [100, 5000, 100_000] {
            let mut buffer = BytesMut::with_capacity(length);
            let (place, length) = (buffer.as_ptr(), buffer.capacity());
            for i in 0..5 {
                conn.write(0, vec![i; length]).await.unwrap();
                buffer = conn.read_into(0, buffer).await.unwrap();
                assert_eq!(buffer[..], vec![i; length]);
                assert_eq!(buffer.as_ptr(), place);
            }
        }
    }
}

#[tokio::test]
async fn k30_errors_of_every_command_are_told_with_their_message() {
    for style in STYLES {
        let server = Server::builder()
            .export("", Export::new(1 << 20))
            .fail_with(|_| Some((Errno::ENOSPC, "disk \x1b[31mfull".to_owned())))
            .build();
        let conn = builder(style).meta_context("base:allocation").build();
        conn.connect_stream(server.connect()).await.unwrap();
        let mut errors = vec![
            conn.read(0, 512).await.unwrap_err(),
            conn.write(0, vec![0; 512]).await.unwrap_err(),
            conn.flush().await.unwrap_err(),
            conn.trim(0, 512).await.unwrap_err(),
            conn.write_zeroes(0, 512).await.unwrap_err(),
            conn.cache(0, 512).await.unwrap_err(),
        ];
        errors.extend(
            collect(conn.read_structured(0, 512))
                .await
                .pop()
                .unwrap()
                .err(),
        );
        if style != ReplyStyle::Simple {
            errors.push(conn.block_status(0, 512).await.unwrap_err());
        }
        for error in errors {
            assert_eq!(error.errno(), Some(28));
            assert!(!error.to_string().contains(char::is_control));
        }
        assert!(conn.is_ready());
    }
}

#[tokio::test]
async fn extents_come_in_order_and_one_if_asked_for_one() {
    const PAGE: u64 = 64 << 10;
    for style in CHUNKED {
        let export = Export::new(1 << 20);
        export.fill(PAGE, PAGE, 1);
        let conn = connected(style, &export).await;
        let status = conn.block_status(0, 3 * PAGE).await.unwrap();
        let extents = status.get("base:allocation").unwrap();
        let hole = Extent::HOLE | Extent::ZERO;
        let expected = [
            Extent::new(0, PAGE, hole),
            Extent::new(PAGE, PAGE, 0),
            Extent::new(2 * PAGE, PAGE, hole),
        ];
        assert_eq!(extents, expected);
        let one = conn.block_status(0, 3 * PAGE).req_one().await.unwrap();
        assert_eq!(one.get("base:allocation").unwrap(), &expected[..1]);
    }
}

/// A connection with extended headers and two contexts, whose ids are 7 and 0.
async fn filtering() -> (Connection, nbd_client::testing::Peer) {
    let style = ReplyStyle::Extended;
    let builder = builder(style)
        .meta_context("base:allocation")
        .meta_context("x:y");
    ready_with(builder, style).await
}

#[tokio::test]
async fn x10_a_choice_of_contexts_is_sent_once_each() {
    let (conn, mut peer) = filtering().await;
    let status = conn
        .block_status(0, 4096)
        .contexts(["x:y", "base:allocation", "x:y"]);
    let (status, ()) = tokio::join!(status.into_future(), async {
        let request = peer.expect_command(Command::BLOCK_STATUS).await.unwrap();
        assert!(request.head.flags.contains(CommandFlags::PAYLOAD_LEN));
        let mut payload = 4096u64.to_be_bytes().to_vec();
        payload.extend([0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(request.payload[..], payload);
        for (id, last) in [(7, false), (0, true)] {
            let body = nbd_client::wire::reply::status_body(true, id, &[(4096, id.into())]);
            let kind = nbd_client::wire::ChunkType::BLOCK_STATUS_EXT;
            let reply = if last {
                peer.last_chunk(&request.head, kind, body)
            } else {
                peer.chunk(&request.head, kind, body)
            };
            peer.send_reply(reply).await.unwrap();
        }
    });
    assert_eq!(status.unwrap().len(), 2);
}

#[tokio::test]
async fn x10_a_choice_of_no_context_is_refused_here() {
    let (conn, peer) = filtering().await;
    let before = peer.received().len();
    let none: [&str; 0] = [];
    let error = conn.block_status(0, 4096).contexts(none).await;
    assert_matches!(error, Err(Error::Invalid(_)));
    let unknown = conn.block_status(0, 4096).contexts(["z:z"]).await;
    assert_matches!(
        unknown,
        Err(Error::Invalid(InvalidRequest::UnknownContext { .. }))
    );
    assert_eq!(peer.received().len(), before);
}

#[tokio::test]
async fn x11_status_of_a_context_that_was_not_chosen_is_a_violation() {
    let (conn, mut peer) = filtering().await;
    let status = conn.block_status(0, 4096).contexts(["x:y"]);
    let (status, ()) = tokio::join!(status.into_future(), async {
        let request = peer.expect_command(Command::BLOCK_STATUS).await.unwrap();
        let body = nbd_client::wire::reply::status_body(true, 7, &[(4096, 0)]);
        let kind = nbd_client::wire::ChunkType::BLOCK_STATUS_EXT;
        let reply = peer.last_chunk(&request.head, kind, body);
        peer.send_reply(reply).await.unwrap();
    });
    let unknown = nbd_client::wire::ProtocolError::UnknownContext(7);
    assert_eq!(violation(status), unknown);
}

#[tokio::test]
async fn payloads_of_every_size_around_the_limits_of_copying_arrive_whole() {
    for style in STYLES {
        let conn = connected(style, &Export::new(1 << 20)).await;
        for around in [4096, 8192, 16_384, 32_768, 65_536, 262_144] {
            for length in [around - 8, around - 1, around, around + 1, around + 28] {
                let data: Bytes = (0..length).map(|i| (i % 249) as u8).collect();
                conn.write(7, data.clone()).await.unwrap();
                assert!(conn.read(7, length).await.unwrap() == data, "{length}");
            }
        }
    }
}
