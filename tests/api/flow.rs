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
