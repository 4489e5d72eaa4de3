//! Deadlines, on a clock that stands still.

use std::time::Duration;

use nbd_client::testing::{Export, Server};
use nbd_client::{Connection, Error, InvalidRequest};

use crate::support::*;

#[test]
fn k09_a_deadline_without_a_runtime_is_an_error() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::new();
    runtime
        .block_on(async { conn.connect_stream(server.connect()).await })
        .unwrap();
    let second = Duration::from_secs(1);
    let is_refused = |error: Error| {
        assert_matches!(error, Error::Invalid(InvalidRequest::NoRuntime(_)));
    };
    block_on(async {
        conn.read(0, 512).await.unwrap();
        is_refused(conn.read(0, 512).timeout(second).await.unwrap_err());
        let mut chunks = conn.read_structured(0, 512).timeout(second);
        let chunk = std::future::poll_fn(|cx| {
            futures::Stream::poll_next(std::pin::Pin::new(&mut chunks), cx)
        });
        is_refused(chunk.await.unwrap().unwrap_err());
        is_refused(conn.disconnect().timeout(second).await.unwrap_err());
        conn.disconnect().await.unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn the_longest_deadlines_are_no_deadlines() {
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::builder()
        .handshake_timeout(Duration::MAX)
        .shutdown_timeout(Duration::MAX)
        .build();
    conn.connect_stream(server.connect()).await.unwrap();
    conn.read(0, 512).timeout(Duration::MAX).await.unwrap();
    conn.disconnect().timeout(Duration::MAX).await.unwrap();
}
