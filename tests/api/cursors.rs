//! Cursors: an export as a file of Tokio.

mod parts;
mod random;
mod settings;

use std::io::{self, ErrorKind, SeekFrom};
use std::time::Duration;

use nbd_client::testing::{Builder, Export, ReplyOrder, Server};
use nbd_client::wire::{Command, Errno, TransmissionFlags};
use nbd_client::{Connection, Cursor, Error, InvalidRequest};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::support::*;

async fn connect(server: Builder, disk: &Export) -> (Connection, Server) {
    let server = server.export("", disk.clone()).build();
    let conn = Connection::new();
    conn.connect_stream(server.connect()).await.unwrap();
    (conn, server)
}

/// Content in which each byte tells its place.
fn content(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i % 251 + i / 4096 % 5) as u8).collect()
}

/// The error of this crate that an error of the system holds.
#[track_caller]
fn inner(error: &io::Error) -> &Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.expect("it holds the error of the crate")
}

const fn is_file<T: Send + Unpin + std::fmt::Debug + 'static>(_: &T) {}

#[tokio::test(start_paused = true)]
async fn reading_in_order_reads_ahead_more_and_more() {
    let disk = Export::new(64 << 20).log_requests(10_000);
    let (conn, server) = connect(Server::builder(), &disk).await;
    server.pause();
    let mut cursor = conn.cursor();
    is_file(&cursor);
    let mut taken = 0;
    let mut depths = Vec::new();
    while taken < 100 {
        assert!(drop_after(1, cursor.fill_buf()).await.is_none());
        settle().await;
        depths.push(disk.counters().reads - taken);
        server.release(1);
        let length = within(cursor.fill_buf()).await.unwrap().len();
        assert_eq!(length, 256 << 10);
        cursor.consume(length);
        taken += 1;
    }
    assert!(depths.is_sorted(), "{depths:?}");
    depths.dedup();
    assert_eq!((depths[0], depths[depths.len() - 1]), (4, 32));
}

#[tokio::test(start_paused = true)]
async fn a_seek_keeps_what_is_there_and_otherwise_reads_only_what_is_wanted() {
    let disk = Export::from_contents(content(16 << 20)).log_requests(10_000);
    let (conn, _server) = connect(Server::builder(), &disk).await;
    let mut cursor = conn.cursor();
    let mut two = [0; 2];
    within(cursor.read_exact(&mut two)).await.unwrap();
    settle().await;
    // The answer that was taken has made room for one more request.
    let first = disk.counters().reads;
    assert_eq!(first, 5);
    for place in [0, 100_000, 5, 262_143, 262_144, 800_000, (1 << 20) - 2] {
        within(cursor.seek(SeekFrom::Start(place))).await.unwrap();
        within(cursor.read_exact(&mut two)).await.unwrap();
        assert!(disk.contents(place, 2) == two, "at {place}");
    }
    let lengths = |from: u64| -> Vec<_> {
        let log = disk.log();
        log[from as usize..]
            .iter()
            .map(|head| head.length)
            .collect()
    };
    assert!(
        disk.log().iter().map(|head| head.offset).is_sorted(),
        "nothing is read twice"
    );
    // Elsewhere.
    for (place, wanted, expected) in [
        (9 << 20, 2, vec![64 << 10]),
        (3 << 20, 100_000, vec![100_000]),
        (12 << 20, 1 << 20, vec![256 << 10; 4]),
    ] {
        settle().await;
        let before = disk.counters().reads;
        let mut buffer = vec![0; wanted];
        within(cursor.seek(SeekFrom::Start(place))).await.unwrap();
        within(cursor.read_exact(&mut buffer)).await.unwrap();
        settle().await;
        assert_eq!(lengths(before), expected);
        assert!(disk.contents(place, wanted) == buffer);
    }
    // Whoever goes on is read ahead for.
    let before = disk.counters().reads;
    within(cursor.read_exact(&mut two)).await.unwrap();
    settle().await;
    assert_eq!(lengths(before), [256 << 10; 5]);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_must_not_read_ahead_does_not() {
    let disk = Export::new(1 << 20).log_requests(100);
    let (conn, _server) = connect(Server::builder(), &disk).await;
    let mut cursor = conn.cursor().max_read_ahead(0);
    for _ in 0..4 {
        within(cursor.read_exact(&mut [0; 65_536])).await.unwrap();
    }
    settle().await;
    let log: Vec<_> = disk
        .log()
        .iter()
        .map(|head| (head.offset, head.length))
        .collect();
    assert_eq!(
        log,
        [0, 65_536, 131_072, 196_608].map(|offset| (offset, 65_536))
    );
}

#[tokio::test(start_paused = true)]
async fn reads_see_what_was_written_before() {
    for behind in [0, 1 << 20] {
        let disk = Export::new(4 << 20);
        let server = Server::builder().latency_with(|head| match head.command {
            Command::WRITE => Duration::from_millis(50),
            _ => Duration::from_millis(1),
        });
        let (conn, _server) = connect(server.reply_order(ReplyOrder::Reversed), &disk).await;
        let mut cursor = conn.cursor().write_behind(behind);
        let mut two = [0; 2];
        // Read ahead, then write where that was.
        within(cursor.read_exact(&mut two)).await.unwrap();
        within(cursor.write_all(&[1; 100])).await.unwrap();
        within(cursor.seek(SeekFrom::Start(500_000))).await.unwrap();
        within(cursor.write_all(&[2; 100])).await.unwrap();
        for (place, expected) in [(1, [0, 1]), (101, [1, 0]), (499_999, [0, 2])] {
            within(cursor.seek(SeekFrom::Start(place))).await.unwrap();
            within(cursor.read_exact(&mut two)).await.unwrap();
            assert_eq!(two, expected, "{behind} at {place}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_its_answer_and_says_what_failed() {
    let disk = Export::new(1 << 20);
    let fails = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let failing = fails.clone();
    let server = Server::builder().fail_with(move |head| {
        let fails =
            head.command == Command::WRITE && failing.load(std::sync::atomic::Ordering::Relaxed);
        fails.then(|| (Errno::ENOSPC, "full".into()))
    });
    let (conn, server) = connect(server, &disk).await;
    let mut cursor = conn.cursor();
    within(cursor.seek(SeekFrom::Start(4096))).await.unwrap();
    let error = within(cursor.write(&[1; 512])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_matches!(inner(&error), Error::Request(error) if error.offset() == 4096);
    // It can be repeated: the position is the same.
    fails.store(false, std::sync::atomic::Ordering::Relaxed);
    server.pause();
    assert!(drop_after(5, cursor.write(&[1; 512])).await.is_none());
    server.resume();
    assert_eq!(within(cursor.write(&[1; 512])).await.unwrap(), 512);
    assert_eq!(disk.counters().writes, 2, "the same write was waited for");
    assert_eq!(cursor.position(), 4608);
    within(cursor.flush()).await.unwrap();
    assert_eq!(disk.counters().flushes, 0);
    let read_only = Export::new(1 << 20).read_only(true);
    let (conn, _server) = connect(Server::builder(), &read_only).await;
    let mut cursor = conn.cursor().write_behind(1 << 20);
    let error = within(cursor.write(&[1; 512])).await.unwrap_err();
    assert_matches!(inner(&error), Error::Invalid(InvalidRequest::ReadOnly(_)));
    within(cursor.shutdown()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_given_up_comes_before_the_next() {
    let disk = Export::new(1 << 20);
    let server = Server::builder().latency_with(|head| match head.length {
        600 => Duration::from_secs(5),
        _ => Duration::from_millis(1),
    });
    let (conn, _server) = connect(server, &disk).await;
    let mut cursor = conn.cursor();
    assert!(drop_after(3, cursor.write(&[1; 600])).await.is_none());
    within(cursor.write_all(&[2; 512])).await.unwrap();
    within(cursor.flush()).await.unwrap();
    assert_eq!(disk.contents(511, 2), [2, 1]);
    assert_eq!(cursor.position(), 512);
}

#[tokio::test(start_paused = true)]
async fn writes_behind_are_joined_and_bounded() {
    let disk = Export::new(4 << 20).log_requests(100);
    let (conn, server) = connect(Server::builder(), &disk).await;
    server.pause();
    let mut cursor = conn.cursor().write_behind(512 << 10);
    within(cursor.seek(SeekFrom::Start(100))).await.unwrap();
    for n in 0..512 {
        within(cursor.write_all(&[n as u8; 1024])).await.unwrap();
    }
    settle().await;
    let log: Vec<_> = disk
        .log()
        .iter()
        .map(|head| (head.offset, head.length))
        .collect();
    assert_eq!(log, [(100, 256 << 10), (100 + (256 << 10), 256 << 10)]);
    assert!(drop_after(3, cursor.write(&[1; 1024])).await.is_none());
    assert_eq!(cursor.position(), 100 + (512 << 10), "nothing was taken");
    server.resume();
    // Elsewhere, which does not wait for anything.
    within(cursor.seek(SeekFrom::Start(3 << 20))).await.unwrap();
    within(cursor.write_all(&[5; 10])).await.unwrap();
    assert_eq!(disk.contents(3 << 20, 10), [0; 10]);
    within(cursor.flush()).await.unwrap();
    assert_eq!(disk.contents(3 << 20, 10), [5; 10]);
    for n in 0..512 {
        assert_eq!(disk.contents(100 + n * 1024, 1024), [n as u8; 1024]);
    }
}

both_runtimes!(writes_behind_in_two_places_reach_both);
async fn writes_behind_in_two_places_reach_both() {
    let disk = Export::new(1 << 20).block_sizes(512, 4096, 1 << 20);
    let (conn, _server) = connect(Server::builder(), &disk).await;
    let mut cursor = conn.cursor().write_behind(1 << 20);
    for (place, text) in [(1000, "one"), (5000, "two"), (1000, "ONE"), (1003, "two")] {
        cursor.seek(SeekFrom::Start(place)).await.unwrap();
        cursor.write_all(text.as_bytes()).await.unwrap();
    }
    cursor.flush().await.unwrap();
    assert_eq!(disk.contents(1000, 7), b"ONEtwo\0");
    assert_eq!(disk.contents(4999, 5), b"\0two\0");
}

#[tokio::test(start_paused = true)]
async fn a_failure_behind_the_callers_back_stays_and_names_its_offset() {
    let disk = Export::new(4 << 20);
    let server = Server::builder().fail_with(|head| {
        let fails = head.command == Command::WRITE && head.offset == 1 << 20;
        fails.then(|| (Errno::EIO, "bad sector".into()))
    });
    let (conn, _server) = connect(server, &disk).await;
    let mut cursor = conn.cursor().write_behind(8 << 20);
    within(cursor.seek(SeekFrom::Start(1 << 20))).await.unwrap();
    within(cursor.write_all(&[1; 1000])).await.unwrap();
    let mut errors = vec![within(cursor.flush()).await];
    errors.push(within(cursor.write_all(&[1; 10])).await);
    errors.push(within(cursor.flush()).await);
    errors.push(within(cursor.shutdown()).await);
    errors.push(within(cursor.read(&mut [0; 10])).await.map(drop));
    for error in errors {
        let error = error.unwrap_err();
        assert_matches!(inner(&error), Error::Request(error) if error.offset() == 1 << 20);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_flushes_the_export_and_covers_only_what_was_before() {
    for behind in [0, 1 << 20] {
        let disk = Export::new(1 << 20);
        let (conn, server) = connect(Server::builder(), &disk).await;
        let mut cursor = conn.cursor().write_behind(behind);
        within(cursor.read(&mut [0; 10])).await.unwrap();
        within(cursor.shutdown()).await.unwrap();
        assert_eq!(disk.counters().flushes, 0, "nothing was written");
        within(cursor.write_all(&[1; 10])).await.unwrap();
        within(cursor.flush()).await.unwrap();
        server.pause();
        assert!(drop_after(3, cursor.shutdown()).await.is_none());
        settle().await;
        assert_eq!(disk.counters().flushes, 1);
        // It is given up, and then something is written.
        server.resume();
        within(cursor.write_all(&[2; 10])).await.unwrap();
        within(cursor.shutdown()).await.unwrap();
        assert_eq!(disk.counters().flushes, 2);
        within(cursor.shutdown()).await.unwrap();
        assert_eq!(disk.counters().flushes, 2);
    }
    let flags = all_flags() - TransmissionFlags::SEND_FLUSH;
    let (conn, _server) = connect(Server::builder(), &Export::new(1 << 20).flags(flags)).await;
    let mut cursor = conn.cursor();
    within(cursor.write_all(&[1; 10])).await.unwrap();
    let error = within(cursor.shutdown()).await.unwrap_err();
    assert_matches!(
        inner(&error),
        Error::Invalid(InvalidRequest::Unsupported(_))
    );
}

/// Copies with Tokio's functions, over sockets.
async fn tokio_copies_in_both_directions() {
    let content = content(5_000_000);
    let disk = Export::from_contents(&content);
    let server = Server::new(disk.clone());
    let listening = server.listen_tcp("127.0.0.1:0").await.unwrap();
    let conn = Connection::connect(listening.uri()).await.unwrap();
    let mut found = Vec::new();
    let count = within(tokio::io::copy(&mut conn.cursor(), &mut found)).await;
    assert_eq!(count.unwrap(), 5_000_000);
    assert!(found == content);
    found.clear();
    let count = within(tokio::io::copy_buf(&mut conn.cursor(), &mut found)).await;
    assert_eq!(count.unwrap(), 5_000_000);
    assert!(found == content);
    for (round, behind) in [0, 1 << 20].into_iter().enumerate() {
        let content: Vec<u8> = content
            .iter()
            .map(|byte| byte ^ round as u8 ^ 255)
            .collect();
        let mut cursor = conn.cursor().write_behind(behind);
        let count = match round {
            0 => within(tokio::io::copy(&mut &content[..], &mut cursor)).await,
            _ => within(tokio::io::copy_buf(&mut &content[..], &mut cursor)).await,
        };
        assert_eq!(count.unwrap(), 5_000_000);
        within(cursor.shutdown()).await.unwrap();
        assert!(disk.contents(0, 5_000_000) == content);
    }
    let flushes = disk.counters().flushes;
    assert_eq!(flushes, 2);
    // From one export to another.
    let target = Export::new(5_000_000);
    let (other, _server) = connect(Server::builder(), &target).await;
    let mut cursor = other.cursor().write_behind(1 << 20);
    within(tokio::io::copy_buf(&mut conn.cursor(), &mut cursor))
        .await
        .unwrap();
    within(cursor.shutdown()).await.unwrap();
    assert!(disk.contents(0, 5_000_000) == target.contents(0, 5_000_000));
}

both_runtimes!(tokio_copies_in_both_directions);
