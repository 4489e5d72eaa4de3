//! How many requests a stream makes ahead.

use nbd_client::testing::{Export, Server};
use nbd_client::{Chunk, Connection, context};

use futures::StreamExt as _;

use crate::support::*;

async fn connected(disk: &Export) -> (Connection, Server) {
    let server = Server::new(disk.clone());
    let builder = Connection::builder().meta_context(context::BASE_ALLOCATION);
    let conn = builder.build();
    conn.connect_stream(server.connect()).await.unwrap();
    (conn, server)
}

#[tokio::test(start_paused = true)]
async fn it_holds_for_small_requests_too() {
    for (size, depth) in [(512, 9), (1024, 4), (2048, 1), (4096, 3), (8192, 2)] {
        holds(Export::new(1 << 20), size, depth).await;
    }
}

/// Checks how many requests a stream makes ahead.
async fn holds(disk: Export, size: usize, depth: usize) {
    let (conn, server) = connected(&disk).await;
    server.pause();
    let mut stream = conn.read_stream(..).request_size(size).depth(depth);
    assert!(drop_after(1, stream.next()).await.is_none());
    settle().await;
    assert_eq!(disk.counters().reads, depth as u64, "requests of {size}");
    server.resume();
    within(stream.next()).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_holds_for_sizes_that_the_server_bounds() {
    for (size, depth) in [(512, 4), (usize::MAX, 3)] {
        let disk = Export::new(1 << 20).block_sizes(4096, 4096, 64 << 10);
        holds(disk, size, depth).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hole_counts_no_more_than_a_request() {
    let disk = Export::new(1 << 20).allocation(false);
    // A hole, data, and so on.
    let disk = disk.context(
        context::BASE_ALLOCATION,
        (0..1024).map(|n| (1024, (n + 1) % 2 * 3)),
    );
    let (conn, server) = connected(&disk).await;
    server.pause();
    let mut pieces = conn.pieces(..).request_size(1024).depth(4);
    assert!(drop_after(1, pieces.next()).await.is_none());
    settle().await;
    server.release(1);
    let first = within(pieces.next()).await.unwrap().unwrap();
    assert_matches!(
        first,
        Chunk::Hole {
            offset: 0,
            length: 1024
        }
    );
    settle().await;
    assert_eq!(disk.counters().reads, 2, "and as many holes");
}
