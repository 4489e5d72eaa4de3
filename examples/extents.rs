//! Prints where an export has data and where it has holes, which a backup need not read.
//!
//! ```text
//! nbdkit -U - data '@1048576 "data" @5242880 1*4096' size=8M --run 'cargo run --example extents -- "$uri"'
//! ```

use futures::TryStreamExt;
use nbd_client::Connection;
use nbd_client::context::{self, Status};

#[tokio::main]
async fn main() -> nbd_client::Result<()> {
    let uri = std::env::args().nth(1);
    let conn = Connection::builder()
        // Metadata contexts are negotiated: name those that are wanted before connecting.
        .meta_context(context::BASE_ALLOCATION)
        .build();
    conn.connect_uri(uri.as_deref().unwrap_or("nbd://localhost"))
        .await?;
    if !conn.export()?.has_context(context::BASE_ALLOCATION) {
        println!("this server does not say where data is");
        return conn.disconnect().await;
    }

    // Any range, whatever its length: the stream asks the server as often as it takes.
    let mut extents = conn.extents(context::BASE_ALLOCATION, ..).merged();
    let mut data = 0;
    while let Some(extent) = extents.try_next().await? {
        let status = extent.status(context::BASE_ALLOCATION);
        println!("{:>12} {:>12} {status}", extent.offset, extent.length);
        if !matches!(status, Status::Allocation { zero: true, .. }) {
            data += extent.length;
        }
    }
    println!("{data} of {} bytes have to be read", conn.size()?);
    conn.disconnect().await
}
