//! Sinks that write data and zeroes: order, bounds, flushes, failures.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use futures::{Sink, SinkExt, StreamExt, stream};
use nbd_client::testing::{Builder, Export, ReplyOrder, Server};
use nbd_client::wire::{Command, Errno, TransmissionFlags};
use nbd_client::{Chunk, Connection, Error, InvalidRequest, WriteSink, context};

use crate::shared::long;
use crate::support::*;

async fn connect(server: Builder, disk: &Export) -> (Connection, Server) {
    let server = server.export("", disk.clone()).build();
    let builder = Connection::builder().meta_context(context::BASE_ALLOCATION);
    let conn = builder.build();
    conn.connect_stream(server.connect()).await.unwrap();
    (conn, server)
}

fn data(offset: u64, length: usize, byte: u8) -> Chunk {
    Chunk::Data {
        offset,
        data: vec![byte; length].into(),
    }
}

const fn hole(offset: u64, length: u64) -> Chunk {
    Chunk::Hole { offset, length }
}

/// Stores a piece in a model of the export.
fn apply(model: &mut [u8], piece: &Chunk) {
    let start = piece.offset() as usize;
    let place = &mut model[start..start + piece.length() as usize];
    match piece {
        Chunk::Data { data, .. } => place.copy_from_slice(data),
        _ => place.fill(0),
    }
}

/// Polls a sink until it is closed, or so often.
async fn close(sink: &mut WriteSink, polls: usize) -> Option<nbd_client::Result<()>> {
    drop_after(polls, poll_fn(|cx| Pin::new(&mut *sink).poll_close(cx))).await
}

#[tokio::test(start_paused = true)]
async fn one_item_may_be_in_flight_whatever_the_limit() {
    let disk = Export::new(4096);
    let (conn, _server) = connect(Server::builder(), &disk).await;
    let mut sink = conn.write_sink().max_in_flight_bytes(0);
    for offset in [0, 512] {
        within(sink.send(data(offset, 512, 1))).await.unwrap();
    }
    within(sink.close()).await.unwrap();
    assert_eq!(disk.contents(0, 1024), [1; 1024]);
}

#[tokio::test(start_paused = true)]
async fn pieces_are_written_in_order_however_they_overlap() {
    let mut random = Random::seeded(3);
    for _ in 0..100 * long::factor() {
        let block = [1, 512, 4096][random.below(3) as usize];
        let size = 256 * u64::from(block) + random.below(2) * 100;
        let mut disk = Export::new(size).block_sizes(block, 4096, 64 << 10);
        if random.below(3) == 0 {
            disk = disk.flags(all_flags() - TransmissionFlags::SEND_WRITE_ZEROES);
        }
        let delays = random.below(1000);
        let server = Server::builder()
            .reply_order(ReplyOrder::Random(random.below(1000)))
            .latency_with(move |head| {
                let mixed = (head.cookie ^ head.offset).wrapping_mul(delays);
                Duration::from_micros(mixed % 900)
            });
        let (conn, _server) = connect(server, &disk).await;
        let mut model = vec![0; size as usize];
        let limit = 1 + random.below(100_000) as usize;
        let mut sink = conn.write_sink().max_in_flight_bytes(limit);
        for n in 0..random.below(60) {
            let offset = match random.below(2) {
                0 => random.below(256) * u64::from(block),
                _ => random.below(size),
            };
            let length = match random.below(4) {
                0 => size - offset,
                1 => random.below(3),
                2 => random.below(9000),
                _ => (1 + random.below(20)) * u64::from(block),
            };
            let length = length.min(size - offset);
            let piece = match random.below(3) {
                0 => hole(offset, length),
                _ => data(offset, length as usize, n as u8 + 1),
            };
            apply(&mut model, &piece);
            within(sink.feed(piece)).await.unwrap();
            if random.below(20) == 0 {
                within(sink.flush()).await.unwrap();
                assert!(disk.contents(0, size as usize) == model);
            }
        }
        within(sink.close()).await.unwrap();
        assert!(disk.contents(0, size as usize) == model);
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_is_in_flight_than_the_limit() {
    let disk = Export::new(1 << 30);
    let (conn, server) = connect(Server::builder(), &disk).await;
    server.pause();
    let mut sink = conn.write_sink().max_in_flight_bytes(64 << 10);
    for n in 0..4 {
        within(sink.feed(data(n << 20, 16 << 10, 1))).await.unwrap();
    }
    assert!(drop_after(3, sink.feed(data(0, 512, 1))).await.is_none());
    settle().await;
    assert_eq!(disk.counters().writes, 4);
    server.release(1);
    within(sink.feed(hole(10 << 20, 100 << 20))).await.unwrap();
    // A run of zeroes brings no data, and counts as little.
    for n in 0..3 {
        within(sink.feed(hole((200 + n) << 20, 1 << 20)))
            .await
            .unwrap();
    }
    assert!(drop_after(3, sink.feed(data(0, 512, 1))).await.is_none());
    assert_eq!((disk.counters().writes, disk.counters().zeroes), (4, 4));
    server.resume();
    within(sink.flush()).await.unwrap();
    assert_eq!(disk.counters().flushes, 0);
}

#[tokio::test(start_paused = true)]
async fn zeroes_are_data_where_the_server_has_no_command_for_them() {
    let flags = all_flags() - TransmissionFlags::SEND_WRITE_ZEROES;
    let disk = Export::new(10 << 20).flags(flags).log_requests(100);
    disk.fill(0, 10 << 20, 1);
    let (conn, server) = connect(Server::builder(), &disk).await;
    server.pause();
    let mut sink = conn.write_sink().max_in_flight_bytes(1 << 20);
    within(sink.feed(hole(512, 3 << 20))).await.unwrap();
    assert!(close(&mut sink, 3).await.is_none());
    settle().await;
    assert_eq!(disk.counters().writes, 4, "within the limit");
    server.resume();
    within(sink.close()).await.unwrap();
    assert!(disk.contents(512, 3 << 20).iter().all(|&byte| byte == 0));
    assert_eq!(disk.contents(511, 1), [1]);
    assert_eq!(disk.contents(512 + (3 << 20), 1), [1]);
    let counters = disk.counters();
    assert_eq!((counters.writes, counters.zeroes), (12, 0));
}

#[tokio::test(start_paused = true)]
async fn closing_flushes_once_and_only_what_was_written() {
    let disk = Export::new(1 << 20);
    let (conn, server) = connect(Server::builder(), &disk).await;
    let mut sink = conn.write_sink();
    within(sink.close()).await.unwrap();
    assert_eq!(disk.counters().flushes, 0, "nothing was written");
    server.pause();
    within(sink.feed(data(0, 512, 1))).await.unwrap();
    assert!(close(&mut sink, 3).await.is_none());
    settle().await;
    assert_eq!(disk.counters().flushes, 0, "the write is not answered");
    server.release(1);
    settle().await;
    assert!(close(&mut sink, 3).await.is_none());
    settle().await;
    assert_eq!(disk.counters().flushes, 1);
    // This flush was given up: it does not cover what is written now.
    within(sink.feed(data(512, 512, 1))).await.unwrap();
    server.resume();
    within(sink.close()).await.unwrap();
    assert_eq!(disk.counters().flushes, 2);
    within(sink.close()).await.unwrap();
    assert_eq!(disk.counters().flushes, 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_names_its_offset_and_stays() {
    let disk = Export::new(1 << 20).log_requests(100);
    let server = Server::builder().fail_with(|head| {
        let fails = head.command == Command::WRITE && head.offset == 8192;
        fails.then(|| (Errno::ENOSPC, "full".into()))
    });
    let (conn, _server) = connect(server, &disk).await;
    let mut sink = conn.write_sink().max_in_flight_bytes(1);
    let pieces = (0..8).map(|n| Ok(data(n * 4096, 4096, 1)));
    let result = within(stream::iter(pieces).forward(&mut sink)).await;
    for result in [result, sink.flush().await, sink.close().await] {
        match result {
            Err(Error::Request(error)) => assert_eq!(error.offset(), 8192),
            other => panic!("{other:?}"),
        }
    }
    settle().await;
    assert_eq!(disk.log().len(), 3, "nothing is sent after it");
    assert!(conn.write(0, "more").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_or_flushed_is_an_error() {
    let (conn, _server) = connect(Server::builder(), &Export::new(1 << 20)).await;
    let mut sink = conn.write_sink();
    within(sink.feed(data((1 << 20) - 1, 2, 1))).await.unwrap();
    assert_matches!(
        within(sink.flush()).await,
        Err(Error::Invalid(InvalidRequest::OutOfBounds { .. }))
    );
    let mut sink = conn.write_sink();
    within(sink.feed(hole(u64::MAX - 5, 5))).await.unwrap();
    assert_matches!(
        within(sink.flush()).await,
        Err(Error::Invalid(InvalidRequest::OutOfBounds { .. }))
    );
    // Zeroes that are written are refused as a whole, too.
    let disk = Export::new(1 << 20).flags(all_flags() - TransmissionFlags::SEND_WRITE_ZEROES);
    let (conn, _server) = connect(Server::builder(), &disk).await;
    for length in [(1 << 20) + 1, u64::MAX] {
        let mut sink = conn.write_sink();
        within(sink.feed(hole(0, length))).await.unwrap();
        assert_matches!(
            within(sink.flush()).await,
            Err(Error::Invalid(InvalidRequest::OutOfBounds { .. }))
        );
    }
    assert_eq!(disk.counters().writes, 0);
    let flags = all_flags() - TransmissionFlags::SEND_FLUSH;
    let (conn, _server) = connect(Server::builder(), &Export::new(1 << 20).flags(flags)).await;
    let mut sink = conn.write_sink();
    within(sink.close()).await.unwrap();
    within(sink.send(data(0, 2, 1))).await.unwrap();
    assert_matches!(
        within(sink.close()).await,
        Err(Error::Invalid(InvalidRequest::Unsupported(Command::FLUSH)))
    );
    let mut sink = Connection::new().write_sink();
    assert_matches!(
        within(sink.send(data(0, 2, 1))).await,
        Err(Error::Invalid(InvalidRequest::State { .. }))
    );
}

/// A copy of a sparse export over sockets of the system.
async fn a_sparse_export_is_copied_without_its_zeroes() {
    let disk = Export::new(64 << 20);
    let mut random = Random::seeded(4);
    for _ in 0..20 {
        let offset = random.below((64 << 20) - 300_000);
        disk.fill(offset, 1 + random.below(300_000), 1 + random.below(9) as u8);
    }
    let target = Export::new(64 << 20);
    let (source, _source) = connect(Server::builder(), &disk).await;
    let server = Server::new(target.clone());
    let listening = server.listen_tcp("127.0.0.1:0").await.unwrap();
    let conn = Connection::connect(listening.uri()).await.unwrap();
    within(source.pieces(..).forward(conn.write_sink()))
        .await
        .unwrap();
    for at in (0..64 << 20).step_by(1 << 20) {
        assert!(disk.contents(at, 1 << 20) == target.contents(at, 1 << 20));
    }
    assert!(target.counters().bytes_written < 20 << 20);
    assert_eq!(target.counters().flushes, 1);
}

both_runtimes!(a_sparse_export_is_copied_without_its_zeroes);

#[tokio::test]
async fn a_piece_that_could_not_be_read_is_not_written() {
    let bad = Server::builder()
        .export("", Export::new(1 << 20))
        .fail_with(|_| Some((Errno::EIO, String::new())))
        .build();
    let (from, to) = (Connection::new(), Connection::new());
    from.connect_stream(bad.connect()).await.unwrap();
    let target = Export::new(1 << 20);
    let good = Server::new(target.clone());
    to.connect_stream(good.connect()).await.unwrap();
    let error = from.read_structured(0, 4096).next().await.unwrap().unwrap();
    let mut sink = to.write_sink();
    let refused = sink.send(error).await.unwrap_err();
    assert_matches!(
        &refused,
        Error::Invalid(InvalidRequest::Argument { what: "chunk", .. })
    );
    assert_eq!(
        refused.to_string(),
        "invalid chunk: the piece at offset 0 could not be read: EIO"
    );
    assert_eq!(target.counters().requests(), 0);
}
