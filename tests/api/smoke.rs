use std::time::Duration;

use nbd_client::Connection;
use nbd_client::testing::{Export, Server};

#[tokio::test]
async fn data_that_was_written_is_read_back() {
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::new();
    conn.connect_stream(server.connect()).await.unwrap();
    assert!(conn.is_ready());
    conn.write(4096, vec![7; 65536]).await.unwrap();
    let data = conn.read(0, 128 << 10).await.unwrap();
    assert!(data[4096..4096 + 65536].iter().all(|&b| b == 7));
    assert!(data[..4096].iter().all(|&b| b == 0));
    conn.flush().await.unwrap();
    conn.disconnect().await.unwrap();
    assert!(conn.is_closed());
}

#[tokio::test]
async fn deadlines_can_be_as_far_away_as_time_goes() {
    let server = Server::new(Export::new(512));
    let conn = Connection::builder()
        .handshake_timeout(Duration::MAX)
        .shutdown_timeout(Duration::MAX)
        .build();
    conn.connect_stream(server.connect()).await.unwrap();
    conn.read(0, 512).timeout(Duration::MAX).await.unwrap();
    let disconnect = conn.disconnect().timeout(Duration::MAX);
    disconnect.await.unwrap();
}
