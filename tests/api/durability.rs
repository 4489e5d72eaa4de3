//! What a flush covers, and what is said of acknowledged writes that none has covered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Command, Errno, TransmissionFlags};
use nbd_client::{Connection, Delivery, Error, ErrorKind};

use crate::support::*;

/// A connection to a server that holds all replies back, and the disk behind it.
async fn held() -> (Connection, Server, Export) {
    let export = Export::new(1 << 20).block_sizes(1, 4096, 8192);
    let server = Server::new(export.clone());
    let conn = Connection::builder().max_in_flight(5).build();
    conn.connect_stream(server.connect()).await.unwrap();
    server.pause();
    (conn, server, export)
}

#[tokio::test]
async fn a_flush_waits_for_changes_of_other_tasks_and_abandoned_ones() {
    let (conn, server, export) = held().await;
    assert!(
        drop_after(1, conn.write(0, vec![1; 512]).into_future())
            .await
            .is_none()
    );
    let changes = [
        tokio::spawn(conn.write(512, vec![1; 512]).into_future()),
        tokio::spawn(conn.trim(4096, 512).into_future()),
        tokio::spawn(conn.write_zeroes(8192, 512).into_future()),
        // In three parts, of which two wait for room.
        tokio::spawn(conn.write(16384, vec![1; 20_000]).into_future()),
    ];
    settle().await;
    let flush = tokio::spawn(conn.flush().into_future());
    settle().await;
    let late = tokio::spawn(conn.write(0, vec![2; 512]).into_future());
    for _ in 0..6 {
        server.held(1).await;
        assert_eq!(export.counters().flushes, 0);
        server.release(1);
        settle().await;
    }
    // The last of them, the flush, and the write that came too late and overlaps the abandoned one.
    server.resume();
    flush.await.unwrap().unwrap();
    for change in changes {
        change.await.unwrap().unwrap();
    }
    late.await.unwrap().unwrap();
    let counters = export.counters();
    assert_eq!((counters.flushes, counters.writes), (1, 6));
}

#[tokio::test]
async fn later_writes_pass_a_flush_that_waits() {
    let (conn, server, export) = held().await;
    let first = tokio::spawn(conn.write(0, vec![1; 512]).into_future());
    server.held(1).await;
    let flush = tokio::spawn(conn.flush().into_future());
    settle().await;
    for n in 1..5 {
        tokio::spawn(conn.write(n * 512, vec![1; 512]).into_future());
    }
    server.held(5).await;
    assert_eq!(export.counters().flushes, 0);
    // The first is answered, and the flush leaves, although four are not.
    server.release(1);
    server.received(6).await;
    assert_eq!(export.counters().flushes, 1);
    first.await.unwrap().unwrap();
    server.resume();
    flush.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_acknowledged_is_unflushed_until_a_flush_has_covered_it() {
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::new();
    assert!(!conn.has_unflushed_writes());
    conn.connect_stream(server.connect()).await.unwrap();
    conn.read(0, 512).await.unwrap();
    conn.cache(0, 512).await.unwrap();
    conn.write(0, vec![1; 512]).fua().await.unwrap();
    assert!(!conn.has_unflushed_writes());
    for what in 0..3 {
        match what {
            0 => conn.write(0, vec![1; 512]).await.unwrap(),
            1 => conn.trim(0, 512).await.unwrap(),
            _ => conn.write_zeroes(0, 512).await.unwrap(),
        }
        assert!(conn.has_unflushed_writes());
        // Durable by itself, it covers nothing else.
        conn.write(512, vec![1; 512]).fua().await.unwrap();
        assert!(conn.has_unflushed_writes());
        conn.flush().await.unwrap();
        assert!(!conn.has_unflushed_writes());
    }
    // What was acknowledged after the flush had been sent is not covered.
    server.pause();
    let flush = tokio::spawn(conn.flush().into_future());
    server.held(1).await;
    let write = tokio::spawn(conn.write(0, vec![1; 512]).into_future());
    server.held(2).await;
    server.resume();
    flush.await.unwrap().unwrap();
    write.await.unwrap().unwrap();
    assert!(conn.has_unflushed_writes());
}

/// A server that answers these commands as told.
fn failing(fails: impl Fn(Command) -> bool + Send + Sync + 'static) -> Server {
    Server::builder()
        .export("", Export::new(1 << 20))
        .fail_with(move |head| fails(head.command).then(|| (Errno::EIO, "bad disk".into())))
        .build()
}

#[tokio::test]
async fn a_write_that_fails_is_nothing_to_flush_and_does_not_keep_a_flush_from_leaving() {
    let server = failing(|command| command == Command::WRITE);
    let conn = Connection::new();
    conn.connect_stream(server.connect()).await.unwrap();
    let (write, flush) = tokio::join!(
        conn.write(0, vec![1; 512]).into_future(),
        conn.flush().into_future()
    );
    assert_matches!(write, Err(Error::Request(_)));
    flush.unwrap();
    assert!(!conn.has_unflushed_writes());
}

#[tokio::test]
async fn a_connection_that_is_lost_says_whether_acknowledged_writes_were_flushed() {
    for flushed in [false, true] {
        let server = Server::new(Export::new(1 << 20));
        let conn = Connection::new();
        conn.connect_stream(server.connect()).await.unwrap();
        conn.write(0, vec![1; 512]).await.unwrap();
        if flushed {
            conn.flush().await.unwrap();
        }
        server.pause();
        let read = tokio::spawn(conn.read(0, 512).into_future());
        server.held(1).await;
        server.hang_up();
        let errors = [
            read.await.unwrap().unwrap_err(),
            conn.closed().await,
            conn.write(0, vec![1; 512]).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Disconnected);
            assert_eq!(error.has_unflushed_writes(), !flushed, "{error}");
            assert_eq!(error.to_string().contains("flushed"), !flushed, "{error}");
        }
        assert_eq!(conn.has_unflushed_writes(), !flushed);
    }
}

#[tokio::test(start_paused = true)]
async fn so_does_one_that_ends_at_a_deadline_or_by_its_own_goodbye() {
    for how in 0..3 {
        let server = Server::new(Export::new(1 << 20));
        let conn = Connection::new();
        conn.connect_stream(server.connect()).await.unwrap();
        conn.write(0, vec![1; 512]).await.unwrap();
        let second = Duration::from_secs(1);
        server.pause();
        match how {
            0 => {
                let error = conn.flush().timeout(second).await.unwrap_err();
                assert_eq!(error.delivery(), Delivery::MaybeSent);
                assert!(error.has_unflushed_writes(), "{error}");
            }
            1 => {
                let read = tokio::spawn(conn.read(0, 512).into_future());
                server.held(1).await;
                let error = conn.disconnect().timeout(second).await.unwrap_err();
                assert!(error.has_unflushed_writes(), "{error}");
                assert!(read.await.unwrap().unwrap_err().has_unflushed_writes());
            }
            _ => conn.disconnect().await.unwrap(),
        }
        assert!(conn.closed().await.has_unflushed_writes(), "{how}");
    }
}

#[tokio::test]
async fn after_a_failed_flush_no_flush_succeeds_until_that_is_acknowledged() {
    let flushes = Arc::new(AtomicUsize::new(0));
    let count = flushes.clone();
    let server = failing(move |command| {
        command == Command::FLUSH && count.fetch_add(1, Ordering::SeqCst) == 1
    });
    let conn = Connection::new();
    conn.connect_stream(server.connect()).await.unwrap();
    conn.write(0, vec![1; 512]).await.unwrap();
    conn.flush().await.unwrap();
    conn.write(0, vec![2; 512]).await.unwrap();
    let first = conn.flush().await.unwrap_err();
    assert_matches!(&first, Error::Request(_));
    assert!(first.has_unflushed_writes());
    // To the server all is well again. Nobody else knows, whichever handle is used.
    let other = conn.clone();
    for _ in 0..2 {
        other.write(0, vec![3; 512]).await.unwrap();
        let later = other.flush().await.unwrap_err();
        assert_matches!(&later, Error::DurabilityUnknown(e) if e.errno() == Errno::EIO);
        assert_eq!((later.kind(), later.errno()), (ErrorKind::Request, Some(5)));
        assert!(later.has_unflushed_writes() && !later.is_retryable());
        assert!(later.to_string().contains("bad disk"), "{later}");
        assert!(conn.is_ready());
    }
    assert_eq!(flushes.load(Ordering::SeqCst), 4, "each was sent");
    conn.clear_flush_error();
    conn.flush().await.unwrap();
    assert!(!conn.has_unflushed_writes());
}

#[tokio::test]
async fn a_failed_flush_of_nothing_leaves_no_doubt() {
    let flushes = AtomicUsize::new(0);
    let server = failing(move |command| {
        command == Command::FLUSH && flushes.fetch_add(1, Ordering::SeqCst) == 0
    });
    let conn = Connection::new();
    conn.connect_stream(server.connect()).await.unwrap();
    assert_matches!(conn.flush().await, Err(Error::Request(_)));
    assert!(!conn.has_unflushed_writes());
    conn.write(0, vec![1; 512]).await.unwrap();
    conn.flush().await.unwrap();
}

/// An export that offers everything but these flags.
fn without(flags: TransmissionFlags) -> Export {
    Export::new(1 << 20)
        .block_sizes(1, 4096, 8192)
        .flags(all_flags() - flags)
        .log_requests(100)
}

async fn change(conn: &Connection, what: usize) -> nbd_client::Result<()> {
    match what {
        0 => conn.write(0, vec![1; 512]).fua().await,
        1 => conn.trim(0, 512).fua().await,
        2 => conn.write_zeroes(0, 512).fua().no_hole().await,
        // In three parts.
        _ => conn.write(0, vec![1; 20_000]).fua().await,
    }
}

#[tokio::test]
async fn fua_that_is_not_offered_is_made_up_for_by_a_flush_if_asked_to() {
    for style in STYLES {
        for what in 0..4 {
            let export = without(TransmissionFlags::SEND_FUA);
            let server = Server::new(export.clone());
            let conn = builder(style).emulate_fua(true).build();
            conn.connect_stream(server.connect()).await.unwrap();
            change(&conn, what).await.unwrap();
            assert!(!conn.has_unflushed_writes());
            let log = export.log();
            let last = log.last().unwrap();
            assert_eq!(last.command, Command::FLUSH, "{what}");
            assert_eq!(log.len(), if what == 3 { 4 } else { 2 });
            assert_eq!(export.counters().fua, 0);
        }
    }
}

#[tokio::test]
async fn fua_is_sent_where_it_is_offered_and_refused_where_it_cannot_be_had() {
    use TransmissionFlags as F;
    for (missing, emulate) in [
        (F::empty(), true),
        (F::SEND_FUA, false),
        (F::SEND_FUA | F::SEND_FLUSH, true),
    ] {
        for what in 0..4 {
            let export = without(missing);
            let server = Server::new(export.clone());
            let conn = Connection::builder().emulate_fua(emulate).build();
            conn.connect_stream(server.connect()).await.unwrap();
            let result = change(&conn, what).await;
            let counters = export.counters();
            assert_eq!(counters.flushes, 0);
            if missing.is_empty() {
                result.unwrap();
                assert_eq!(counters.fua, counters.requests());
            } else {
                let error = result.unwrap_err();
                assert!(error.to_string().contains("FUA"), "{error}");
                assert_eq!(error.kind(), ErrorKind::Invalid);
                assert_eq!(counters.requests(), 0);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_of_a_change_and_its_flush_is_the_result() {
    for fails in [Command::WRITE, Command::FLUSH] {
        let export = without(TransmissionFlags::SEND_FUA);
        let server = Server::builder()
            .export("", export.clone())
            .fail_with(move |head| (head.command == fails).then(|| (Errno::EIO, String::new())))
            .build();
        let conn = Connection::builder().emulate_fua(true).build();
        conn.connect_stream(server.connect()).await.unwrap();
        let write = conn.write(0, vec![1; 512]).fua().await;
        assert_matches!(&write, Err(Error::Request(e)) if e.command() == fails);
        let is_flush = fails == Command::FLUSH;
        assert_eq!(export.counters().flushes, u64::from(is_flush));
        assert_eq!(write.unwrap_err().has_unflushed_writes(), is_flush);
        // What is wrong with the request itself is found before anything is sent.
        let outside = conn.write(1 << 20, vec![1; 512]).fua().await;
        assert_matches!(outside, Err(Error::Invalid(_)));
    }
    // One deadline for both.
    let server = Server::new(without(TransmissionFlags::SEND_FUA));
    let conn = Connection::builder().emulate_fua(true).build();
    conn.connect_stream(server.connect()).await.unwrap();
    server.pause();
    server.release(1);
    let write = conn.write(0, vec![1; 512]).fua();
    let late = write.timeout(Duration::from_secs(1)).await.unwrap_err();
    assert_matches!(&late, Error::Timeout(..));
    assert_eq!(late.delivery(), Delivery::MaybeSent);
    assert!(late.has_unflushed_writes());
}
