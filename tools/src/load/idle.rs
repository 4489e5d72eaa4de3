//! What connections cost that do nothing.

use std::time::Duration;

use nbd_client::Result;

use super::{Args, connect, report};

/// Longer than connections wait before they give memory back.
const WAIT: Duration = Duration::from_secs(3);

/// Connects, reads a little, waits, and reports the memory of this process.
pub(crate) async fn run(args: &Args) -> Result<()> {
    // What the first connection needs is needed once.
    let first = connect(args).await?;
    first.read(0, args.bs).await?;
    let before = report::memory_kib("VmRSS:");
    let mut connections = Vec::with_capacity(args.conns);
    for _ in 0..args.conns {
        connections.push(connect(args).await?);
    }
    for conn in &connections {
        let reads = (0..args.qd).map(|_| tokio::spawn(conn.read(0, args.bs).into_future()));
        for read in reads.collect::<Vec<_>>() {
            let read = read.await;
            read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        }
    }
    let peak = report::memory_kib("VmRSS:");
    tokio::time::sleep(WAIT).await;
    let after = report::memory_kib("VmRSS:");
    report::print_idle(args.conns, before, peak, after, args.json);
    for conn in connections {
        conn.disconnect().await?;
    }
    first.disconnect().await
}
