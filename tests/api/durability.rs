//! What a flush covers.

use nbd_client::Connection;
use nbd_client::testing::{Export, Server};

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
