//! One read after the other, as programs are written first.

use std::time::Duration;

use tokio::time::timeout;

use crate::shared::long;
use crate::shared::process::{descriptors, eventually, in_a_process_of_its_own};
use crate::shared::server::Server;

/// Far longer than any read takes.
const WATCHDOG: Duration = Duration::from_secs(10);

// R18: the answer to a read may be there before the task that wrote the request has taken note
// of that. Reads of 32 KiB and more are received straight into their buffers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn large_reads_one_after_the_other_are_all_answered() {
    let server = Server::nbdkit(&["memory", "1M"]);
    let conn = server.client().build();
    conn.connect_unix(server.socket()).await.unwrap();
    for (length, count) in [
        (32 << 10, 30_000),
        (64 << 10, 30_000),
        (256 << 10, 10_000),
        (1 << 20, 2_000),
    ] {
        for round in 0..count * long::factor() {
            let read = timeout(WATCHDOG, conn.read(0, length)).await;
            let data = read.unwrap_or_else(|_| panic!("read {round} of {length} bytes hangs"));
            assert_eq!(data.unwrap().len(), length);
        }
    }
    conn.disconnect().await.unwrap();
}

// The descriptor that wakes the thread early is there while that is measured, at the latest.
#[test]
fn a_reader_is_woken_early_while_it_reads_piece_by_piece() {
    let name = "nbdkit::sequential::a_reader_is_woken_early_while_it_reads_piece_by_piece";
    if in_a_process_of_its_own(name) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = Server::nbdkit(&["memory", "1M"]);
        let conn = server.client().build();
        conn.connect_unix(server.socket()).await.unwrap();
        conn.read(0, 512).await.unwrap();
        let before = descriptors();
        for is_woken in [true, false, true] {
            // One by one, or many at a time.
            let count = if is_woken { 1 } else { 64 };
            let mut rounds = 0;
            while (descriptors() > before) != is_woken {
                let reads = (0..count).map(|_| conn.read(0, 512).into_future());
                futures::future::try_join_all(reads).await.unwrap();
                rounds += 1;
                assert!(rounds < 10_000, "{is_woken}");
            }
        }
        eventually("it is woken no longer", || descriptors() <= before).await;
        conn.disconnect().await.unwrap();
    });
}
