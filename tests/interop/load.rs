//! Much at once on one connection.

use std::time::Duration;

use nbd_client::Connection;
use tokio::task::JoinSet;
use tokio::time::timeout;

const TASKS: u64 = 64;
const ROUNDS: u64 = 8;
const BLOCK: usize = 256 << 10;

/// How large an export must be for [`mix`].
pub(crate) const SIZE: u64 = TASKS * 2 * BLOCK as u64;

/// 64 tasks write and read 256 KiB each, at the same time, over and over.
///
/// A client that does not read while it writes, or the other way round, hangs here: both
/// directions are full. The deadline is there to say so.
pub(crate) async fn mix(conn: &Connection) {
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        tasks.spawn(work(conn.clone(), task));
    }
    let all = async {
        while let Some(result) = tasks.join_next().await {
            result.unwrap();
        }
    };
    let result = timeout(Duration::from_secs(120), all).await;
    result.expect("reads and writes hold each other up");
}

/// Each task has two blocks: it writes one while it reads the other back.
async fn work(conn: Connection, task: u64) {
    let place = |round: u64| (task * 2 + round % 2) * BLOCK as u64;
    let content = |round: u64| {
        let word = (task << 32 | round).to_be_bytes();
        word.repeat(BLOCK / word.len())
    };
    conn.write(place(0), content(0)).await.unwrap();
    for round in 1..=ROUNDS {
        let write = conn.write(place(round), content(round));
        let read = conn.read(place(round - 1), BLOCK);
        let ((), data) = tokio::try_join!(write, read).unwrap();
        assert!(data == content(round - 1), "task {task}, round {round}");
    }
    let data = conn.read(place(ROUNDS), BLOCK).await.unwrap();
    assert!(data == content(ROUNDS), "task {task}, in the end");
}
