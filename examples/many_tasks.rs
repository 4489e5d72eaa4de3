//! Uses one connection from many tasks at once. The handle is cheap to clone, requests of all
//! tasks are in flight together, and each task gets its own answers.
//!
//! ```text
//! cargo run --release --example many_tasks            # runs nbdkit
//! cargo run --release --example many_tasks -- URI     # overwrites the first 64 MiB
//! ```

use std::time::Instant;

use nbd_client::Connection;
use tokio::task::JoinSet;

const TASKS: u64 = 64;
/// Bytes of one task; they begin at its number times this.
const SHARE: u64 = 1 << 20;
/// Bytes of one request.
const BLOCK: usize = 64 << 10;

#[tokio::main]
async fn main() -> nbd_client::Result<()> {
    let conn = Connection::new();
    match std::env::args().nth(1) {
        Some(uri) => conn.connect_uri(uri.as_str()).await?,
        None => {
            conn.connect_command(["nbdkit", "-s", "memory", "64M"])
                .await?
        }
    }
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..TASKS {
        tasks.spawn(work(conn.clone(), number));
    }
    // The first error ends the example; dropping the set ends the other tasks.
    let mut blocks = 0;
    while let Some(task) = tasks.join_next().await {
        blocks += task.expect("no panic")?;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{blocks} blocks written and read back by {TASKS} tasks in {seconds:.2} s");
    conn.disconnect().await
}

/// Writes a pattern to the share of one task and reads it back; returns the number of blocks.
async fn work(conn: Connection, number: u64) -> nbd_client::Result<u64> {
    let mut blocks = 0;
    for offset in (number * SHARE..(number + 1) * SHARE).step_by(BLOCK) {
        let pattern = vec![number as u8; BLOCK];
        conn.write(offset, pattern.clone()).await?;
        assert_eq!(conn.read(offset, BLOCK).await?, pattern);
        blocks += 1;
    }
    Ok(blocks)
}
