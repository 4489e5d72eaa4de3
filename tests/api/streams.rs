//! Streams that read a range in order: exact cover, read-ahead, zeroes that are not read.

use std::future::{IntoFuture, ready};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use nbd_client::testing::{Builder, Export, ReplyOrder, Server};
use nbd_client::wire::{Command, Errno};
use nbd_client::{Chunk, Connection, Error, Extent, InvalidRequest, context};

use crate::shared::long;
use crate::support::*;

const SIZE: usize = 3 << 20;
const DIRTY: &str = "qemu:dirty-bitmap:b";

/// Content in which each byte tells its place.
fn content() -> Vec<u8> {
    (0..SIZE).map(|i| (i % 251 + i / 4096 % 5) as u8).collect()
}

async fn connect(server: Builder, disk: &Export, contexts: &[&str]) -> (Connection, Server) {
    let server = server.export("", disk.clone()).build();
    let mut builder = Connection::builder();
    for context in contexts {
        builder = builder.meta_context(*context);
    }
    let conn = builder.build();
    conn.connect_stream(server.connect()).await.unwrap();
    (conn, server)
}

/// A server that answers late and in another order.
fn unruly(random: &mut Random) -> Builder {
    let delays = random.below(1000);
    Server::builder()
        .reply_order(ReplyOrder::Random(random.below(1000)))
        .latency_with(move |head| {
            Duration::from_micros(head.offset.wrapping_mul(delays).wrapping_add(head.length) % 900)
        })
}

/// Collects a stream, whose items must come in time and must not be empty.
async fn collect(stream: impl Stream<Item = nbd_client::Result<Bytes>>) -> Vec<u8> {
    let all = stream.try_fold(Vec::new(), |mut all, bytes| {
        assert!(!bytes.is_empty());
        all.extend_from_slice(&bytes);
        ready(Ok(all))
    });
    within(all).await.unwrap()
}

/// A range of the export, often a short one or one that begins or ends where the export does.
fn range(random: &mut Random, size: u64) -> Range<u64> {
    let start = match random.below(4) {
        0 => 0,
        1 => size - random.below(2),
        _ => random.below(size),
    };
    let end = match random.below(4) {
        0 => size,
        1 => size.min(start + random.below(3)),
        _ => start + random.below(size - start + 1),
    };
    start..end
}

#[tokio::test(start_paused = true)]
async fn any_range_is_read_in_order_with_any_block_size() {
    let mut random = Random::seeded(1);
    let content = content();
    for _ in 0..200 * long::factor() {
        let size = SIZE - random.below(600) as usize;
        let block = [1, 512, 4096, 65_536][random.below(4) as usize];
        let most = block.max(1 << (12 + random.below(10)));
        let preferred = block.max(4096);
        let disk = Export::from_contents(&content[..size]).block_sizes(
            block,
            preferred,
            most.max(preferred),
        );
        let (conn, _server) = connect(unruly(&mut random), &disk, &[]).await;
        let range = range(&mut random, size as u64);
        let (request, depth) = (1 + random.below(400_000), 1 + random.below(9));
        println!("{range:?} of {size}, blocks of {block}, requests of {request}, depth {depth}");
        let stream = conn.read_stream(range.clone());
        let stream = stream.request_size(request as usize).depth(depth as usize);
        let bytes = collect(stream).await;
        assert!(bytes == content[range.start as usize..range.end as usize]);
    }
}

/// Streams over a socket of the system.
async fn a_stream_is_read_over_a_socket() {
    let content = content();
    let server = Server::new(Export::from_contents(&content).block_sizes(512, 4096, 1 << 20));
    let listening = server.listen_tcp("127.0.0.1:0").await.unwrap();
    let conn = Connection::connect(listening.uri()).await.unwrap();
    let two = tokio::join!(
        collect(conn.read_stream(..)),
        collect(conn.read_stream(1000..))
    );
    assert!(two.0 == content && two.1 == content[1000..]);
}

both_runtimes!(a_stream_is_read_over_a_socket);

#[tokio::test(start_paused = true)]
async fn nothing_is_requested_before_the_first_poll_and_no_more_than_the_depth_after() {
    let disk = Export::new(100 << 20).log_requests(1000);
    let (conn, server) = connect(Server::builder(), &disk, &[]).await;
    server.pause();
    let mut stream = conn.read_stream(..);
    settle().await;
    assert_eq!(disk.counters().requests(), 0);
    for taken in 0..5 {
        assert!(drop_after(1, stream.next()).await.is_none());
        settle().await;
        // One more item has been taken than was answered; what comes next is on its way.
        assert_eq!(disk.counters().reads, 4 + taken);
        server.release(1);
        let bytes = within(stream.next()).await.unwrap().unwrap();
        assert_eq!(bytes.len(), 256 << 10);
        settle().await;
        assert_eq!(disk.counters().reads, 5 + taken, "without another poll");
    }
    let lengths = disk.log();
    assert!(lengths.iter().all(|head| head.length == 256 << 10));
    // What is in flight is dropped with the stream, and its answers are thrown away.
    assert_eq!(conn.in_flight(), 4);
    drop(stream);
    server.resume();
    within(conn.read(0, 512).into_future()).await.unwrap();
    settle().await;
    assert_eq!(conn.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_depth_limits_the_bytes_of_small_requests() {
    let disk = Export::new(1 << 20);
    let (conn, server) = connect(Server::builder(), &disk, &[]).await;
    server.pause();
    let extents = stream::iter((0..1000).map(|n| Ok(Extent::new(n * 1024, 100, 0))));
    let mut pieces = conn.read_extents(extents).request_size(65_536).depth(2);
    assert!(drop_after(1, pieces.next()).await.is_none());
    settle().await;
    assert_eq!(disk.counters().reads, 32, "each counts 4 KiB");
}

#[tokio::test(start_paused = true)]
async fn what_was_read_comes_before_the_error_and_nothing_after() {
    let server = Server::builder().fail_with(|head| {
        let fails = head.command == Command::READ && head.offset == 512 << 10;
        fails.then(|| (Errno::EIO, "bad sector".into()))
    });
    let (conn, _server) = connect(
        server.reply_order(ReplyOrder::Reversed),
        &Export::new(4 << 20),
        &[],
    )
    .await;
    let mut stream = conn.read_stream(..);
    for _ in 0..2 {
        assert_eq!(
            within(stream.next()).await.unwrap().unwrap().len(),
            256 << 10
        );
    }
    match within(stream.next()).await.unwrap() {
        Err(Error::Request(error)) => assert_eq!(error.offset(), 512 << 10),
        other => panic!("{other:?}"),
    }
    assert!(within(stream.next()).await.is_none());
    assert!(conn.read(0, 512).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn ranges_that_cannot_be_read_are_errors() {
    let disk = Export::new(1 << 20);
    let (conn, _server) = connect(Server::builder(), &disk, &[]).await;
    let outside = |result: Option<nbd_client::Result<()>>| {
        assert_matches!(
            result,
            Some(Err(Error::Invalid(InvalidRequest::OutOfBounds {
                command: Command::READ,
                ..
            })))
        );
    };
    for range in [0..(1 << 20) + 1, (1 << 20) + 1..u64::MAX] {
        outside(conn.read_stream(range.clone()).map_ok(drop).next().await);
        outside(conn.pieces(range.clone()).map_ok(drop).next().await);
        let extent = Extent::new(range.start, range.end - range.start, 0);
        let mut pieces = conn.read_extents(stream::iter([Ok(extent)])).map_ok(drop);
        outside(within(pieces.next()).await);
        assert!(within(pieces.next()).await.is_none());
    }
    #[allow(clippy::reversed_empty_ranges, reason = "it is a mistake")]
    let mistaken = 9..5;
    let errors = [
        conn.read_stream(mistaken.clone()).map_ok(drop).next().await,
        conn.pieces(mistaken).map_ok(drop).next().await,
    ];
    for error in errors {
        let error = error.unwrap().unwrap_err();
        assert_matches!(
            error,
            Error::Invalid(InvalidRequest::Argument { what: "range", .. })
        );
        assert_eq!(
            error.to_string(),
            "invalid range: it ends at 5, before it starts at 9"
        );
    }
    for range in [5..5, 1 << 20..1 << 20] {
        assert!(conn.read_stream(range.clone()).next().await.is_none());
        assert!(conn.pieces(range).next().await.is_none());
    }
    assert_eq!(disk.counters().requests(), 0);
    let unconnected = Connection::new();
    assert_matches!(
        unconnected.read_stream(..).next().await,
        Some(Err(Error::Invalid(InvalidRequest::State { .. })))
    );
}

/// The pieces of a stream as one whole; checks that they have no gaps.
fn whole(pieces: &[Chunk], start: u64) -> Vec<u8> {
    let mut all = Vec::new();
    for piece in pieces {
        assert_eq!(piece.offset(), start + all.len() as u64);
        assert!(piece.length() > 0);
        match piece {
            Chunk::Data { data, .. } => all.extend_from_slice(data),
            Chunk::Hole { length, .. } => all.resize(all.len() + *length as usize, 0),
            _ => unreachable!(),
        }
    }
    all
}

#[tokio::test(start_paused = true)]
async fn zeroes_are_returned_without_being_read() {
    let mut random = Random::seeded(2);
    for _ in 0..100 * long::factor() {
        let size = 4 << 20;
        let block = [1, 512, 4096][random.below(3) as usize];
        let disk = Export::new(size).block_sizes(block, 4096, 1 << 20);
        for _ in 0..random.below(12) {
            let offset = random.below(size - 70_000);
            disk.fill(offset, 1 + random.below(70_000), 1 + random.below(9) as u8);
        }
        let server = unruly(&mut random).max_extents(1 + random.below(5) as usize);
        let (conn, _server) = connect(server, &disk, &[context::BASE_ALLOCATION]).await;
        let range = range(&mut random, size);
        let request = 4096 + random.below(100_000) as usize;
        let pieces = conn.pieces(range.clone()).request_size(request);
        let pieces: Vec<_> = within(pieces.try_collect()).await.unwrap();
        let expected = disk.contents(range.start, (range.end - range.start) as usize);
        assert!(whole(&pieces, range.start) == expected);
        let is_hole = |piece: &Chunk| matches!(piece, Chunk::Hole { .. });
        assert!(!pieces.windows(2).any(|two| two.iter().all(is_hole)));
        let data: u64 = pieces
            .iter()
            .filter(|p| !is_hole(p))
            .map(Chunk::length)
            .sum();
        let allocated = conn.extents(context::BASE_ALLOCATION, range.clone());
        let allocated = allocated.try_filter(|extent| ready(!extent.is_zero()));
        let allocated = allocated.try_fold(0, |sum, extent| ready(Ok(sum + extent.length)));
        assert_eq!(data, allocated.await.unwrap());
        let rounded = pieces.len() as u64 * 2 * u64::from(block);
        assert!(disk.counters().bytes_read <= data + rounded);
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_context_everything_is_read() {
    let disk = Export::new(1 << 20);
    disk.fill(70_000, 10, 1);
    let (conn, _server) = connect(Server::builder(), &disk, &[]).await;
    let pieces: Vec<_> = within(conn.pieces(5..).try_collect()).await.unwrap();
    assert!(
        pieces
            .iter()
            .all(|piece| matches!(piece, Chunk::Data { .. }))
    );
    assert!(whole(&pieces, 5) == disk.contents(5, (1 << 20) - 5));
    assert_eq!(disk.counters().statuses, 0);
}

#[tokio::test(start_paused = true)]
async fn extents_that_a_bitmap_marks_are_read_and_no_others() {
    let disk = Export::new(1 << 20).context(DIRTY, (0..1024).map(|n| (1000, n % 3 / 2)));
    disk.fill(0, 1 << 20, 7);
    let (conn, _server) = connect(Server::builder().max_extents(5), &disk, &[DIRTY]).await;
    let dirty = conn.extents(DIRTY, ..50_000);
    let dirty = dirty.try_filter(|extent| ready(extent.is_dirty()));
    let pieces: Vec<_> = within(conn.read_extents(dirty).try_collect())
        .await
        .unwrap();
    let expected: Vec<_> = (0..50).filter(|n| n % 3 == 2).map(|n| n * 1000).collect();
    let offsets: Vec<_> = pieces.iter().map(Chunk::offset).collect();
    assert_eq!(offsets, expected);
    for piece in &pieces {
        assert_matches!(piece, Chunk::Data { data, .. } if data[..] == [7; 1000]);
    }
    assert_eq!(disk.counters().bytes_read, expected.len() as u64 * 1000);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_extents_is_the_last_item() {
    let (conn, server) = connect(Server::builder(), &Export::new(1 << 20), &[]).await;
    let error = conn.read(1 << 20, 1).await.unwrap_err();
    let extents = [
        Ok(Extent::new(9, 9, 0)),
        Err(error),
        Ok(Extent::new(0, 9, 0)),
    ];
    let mut pieces = conn.read_extents(stream::iter(extents));
    assert_eq!(within(pieces.next()).await.unwrap().unwrap().offset(), 9);
    assert_matches!(within(pieces.next()).await, Some(Err(Error::Invalid(_))));
    assert!(within(pieces.next()).await.is_none());
    // A failure of the server in the middle of all that.
    let mut stream = conn.read_stream(..);
    server.pause();
    assert!(drop_after(2, stream.next()).await.is_none());
    server.hang_up();
    assert_matches!(
        within(stream.next()).await,
        Some(Err(Error::Disconnected(..)))
    );
    assert!(within(stream.next()).await.is_none());
}

#[tokio::test]
async fn reading_begins_before_all_of_a_large_disk_is_known() {
    let disk = Export::new(1 << 50).allocation(false);
    // All of it is data, and without extended headers a status tells of 4 GiB.
    let disk = disk.context(context::BASE_ALLOCATION, [(1 << 50, 0)]);
    let server = Server::builder().export("", disk.clone()).build();
    let builder = Connection::builder().meta_context(context::BASE_ALLOCATION);
    let conn = builder.extended_headers(false).build();
    conn.connect_stream(server.connect()).await.unwrap();
    let mut pieces = conn.pieces(..);
    let first = pieces.try_next().await.unwrap().unwrap();
    assert_eq!(first.offset(), 0);
    assert!(disk.counters().statuses <= 2);
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_pieces_is_that_of_their_block_status_too() {
    let (conn, server) = connect(
        Server::builder(),
        &Export::new(1 << 20),
        &[context::BASE_ALLOCATION],
    )
    .await;
    server.pause();
    let mut pieces = conn.pieces(..).timeout(Duration::from_secs(1));
    let error = within(pieces.next()).await.unwrap().unwrap_err();
    assert_matches!(&error, Error::Timeout(..));
    let text = error.to_string();
    assert!(text.contains("BLOCK_STATUS"), "{text}");
}
