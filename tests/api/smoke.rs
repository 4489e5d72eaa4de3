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
