//! Connects over a stream of the program's own. Any `AsyncRead + AsyncWrite` is a transport: an
//! SSH channel, a QUIC stream, or, as here, a pipe in memory with a server in the same process.
//!
//! ```text
//! cargo run --example own_stream
//! ```

use nbd_client::Connection;
use nbd_client::testing::{Export, Server};

#[tokio::main]
async fn main() -> nbd_client::Result<()> {
    // The feature `test-util` has this server, so that tests need neither a port nor a process.
    let disk = Export::new(1 << 20);
    disk.write(512, "from the server");
    let server = Server::new(disk.clone());

    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(async move { server.serve(theirs).await });

    let conn = Connection::new();
    conn.connect_stream(ours).await?;
    let data = conn.read(512, 15).await?;
    println!("the client reads: {}", data.escape_ascii());
    conn.write(1024, "from the client").await?;
    conn.disconnect().await?;

    // `disconnect` has said goodbye, so the server ends well.
    serving.await.expect("no panic").expect("an orderly end");
    let data = disk.contents(1024, 15);
    println!("the server holds: {}", data.escape_ascii());
    Ok(())
}
