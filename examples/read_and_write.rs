//! Reads and writes an export: with FUA, with a flush, with a deadline, into a buffer, in chunks.
//! It overwrites the first 64 KiB of the export.
//!
//! ```text
//! nbdkit -U - memory 64M --run 'cargo run --example read_and_write -- "$uri"'
//! ```

use std::time::Duration;

use bytes::BytesMut;
use futures::TryStreamExt;
use nbd_client::Connection;

const KIB: usize = 1024;

#[tokio::main]
async fn main() -> nbd_client::Result<()> {
    let uri = std::env::args().nth(1);
    let conn = Connection::connect(uri.as_deref().unwrap_or("nbd://localhost")).await?;
    let export = conn.export()?;
    println!("{:?} has {} bytes", export.name(), export.size());

    // A request is a future: it is sent when it is awaited.
    conn.write_zeroes(0, 64 * 1024).await?;
    conn.write(0, "hello").await?;
    // Durable once it is answered, where the server has FUA; otherwise after the flush below.
    let world = conn.write(32, "world");
    let world = if export.can_fua() { world.fua() } else { world };
    world.await?;
    if export.can_flush() {
        // Covers every change that was answered before.
        conn.flush().timeout(Duration::from_secs(30)).await?;
    }

    // Two reads in flight at the same time.
    let (hello, world) = tokio::try_join!(conn.read(0, 5), conn.read(32, 5))?;
    println!("{} {}", hello.escape_ascii(), world.escape_ascii());

    // Into a buffer of the caller's, which comes back filled.
    let buffer = conn.read_into(0, BytesMut::with_capacity(KIB)).await?;
    println!("{} bytes in one buffer", buffer.len());

    // Piece by piece, as the server sends them: data and holes.
    let mut chunks = conn.read_structured(0, 64 * KIB);
    while let Some(chunk) = chunks.try_next().await? {
        println!("{chunk:?}");
    }
    conn.disconnect().await
}
