//! Much at once on one connection.

use std::time::Duration;

use nbd_client::Connection;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// So many tasks that a client that does not read while it writes, or the other way round, hangs:
/// both directions are full.
pub(crate) const HEAVY: u64 = 64;

const BLOCK: usize = 256 << 10;
const PAGE: usize = 4096;

/// How large an export must be for [`verified`].
pub(crate) const SIZE: u64 = HEAVY * 2 * BLOCK as u64;

/// That many tasks write and read 256 KiB each, at the same time, over and over, and look at
/// every byte.
pub(crate) async fn verified(conn: &Connection, tasks: u64, rounds: u64) {
    let mut running = JoinSet::new();
    for task in 0..tasks {
        running.spawn(work(conn.clone(), task, rounds));
    }
    let all = async {
        while let Some(result) = running.join_next().await {
            result.unwrap();
        }
    };
    let result = timeout(Duration::from_secs(120), all).await;
    result.expect("reads and writes hold each other up");
}

/// Each task has two blocks: it writes one while it reads the other back.
async fn work(conn: Connection, task: u64, rounds: u64) {
    let place = |round: u64| (task * 2 + round % 2) * BLOCK as u64;
    let content = |round| content(task, round);
    conn.write(place(0), content(0)).await.unwrap();
    for round in 1..=rounds {
        let write = conn.write(place(round), content(round));
        let read = conn.read(place(round - 1), BLOCK);
        let ((), data) = tokio::try_join!(write, read).unwrap();
        assert!(data == content(round - 1), "task {task}, round {round}");
    }
    let data = conn.read(place(rounds), BLOCK).await.unwrap();
    assert!(data == content(rounds), "task {task}, in the end");
}

/// No two pages are alike.
fn content(task: u64, round: u64) -> Vec<u8> {
    let pages = (0..BLOCK / PAGE).map(|page| {
        let word = task << 48 | round << 40 | page as u64;
        word.to_be_bytes().repeat(PAGE / 8)
    });
    pages.collect::<Vec<_>>().concat()
}
