//! Requests dropped at random, and a look at all data afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nbd_client::Connection;
use nbd_client::testing::{Export, Server};
use tokio::time::timeout;

use super::asking;
use crate::support::*;

const TASKS: u64 = 16;
/// Places that a task writes to, and the bytes of each.
const SLOTS: u64 = 32;
const SLOT: u64 = 512;
/// In each style. With three of them that is over 100 000 in all.
const CANCELLATIONS: usize = 33_400;

/// Begins something inside of a slot and drops it; whether that was before it was done.
async fn give_up(conn: &Connection, random: &mut Random, slot: u64) -> bool {
    let from = random.below(SLOT);
    let length = 1 + random.below(SLOT - from);
    let (offset, size) = (slot + from, usize::try_from(length).unwrap());
    let polls = 1 + random.below(4) as usize;
    match random.below(8) {
        0 | 1 => drop_after(polls, conn.write(offset, vec![0xee; size]).into_future())
            .await
            .is_none(),
        2 => drop_after(polls, conn.write_zeroes(offset, length).into_future())
            .await
            .is_none(),
        3 => drop_after(polls, conn.trim(offset, length).into_future())
            .await
            .is_none(),
        4 => drop_after(polls, conn.flush().into_future())
            .await
            .is_none(),
        5 => {
            let mut chunks = conn.read_structured(offset, size);
            let next = std::future::poll_fn(|cx| {
                futures::Stream::poll_next(std::pin::Pin::new(&mut chunks), cx)
            });
            drop_after(polls, next).await.is_none()
        }
        _ => drop_after(polls, conn.read(offset, size).into_future())
            .await
            .is_none(),
    }
}

/// Gives up at random in its own part of the export; returns what every slot was last written.
async fn churn(
    conn: Connection,
    mut random: Random,
    task: u64,
    cancelled: Arc<AtomicUsize>,
) -> Vec<u8> {
    let base = task * SLOTS * SLOT;
    let mut written = vec![0; SLOTS as usize];
    let mut fill = 0_u8;
    while cancelled.load(Ordering::Relaxed) < CANCELLATIONS {
        let index = random.below(SLOTS);
        let slot = base + index * SLOT;
        for _ in 0..4 {
            let gave_up = give_up(&conn, &mut random, slot).await;
            cancelled.fetch_add(usize::from(gave_up), Ordering::Relaxed);
        }
        fill = fill % 200 + 1;
        conn.write(slot, vec![fill; SLOT as usize]).await.unwrap();
        written[index as usize] = fill;
        // Another one than the one just written, so that it had time to be spoilt.
        let index = random.below(SLOTS);
        let data = conn.read(base + index * SLOT, SLOT as usize).await.unwrap();
        let expected = written[index as usize];
        assert!(data.iter().all(|&byte| byte == expected), "task {task}");
    }
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k01_k04_a_hundred_thousand_requests_dropped_at_random_spoil_nothing() {
    let mut random = Random::seeded(4);
    for (style, capacity) in STYLES.into_iter().zip([200, 4096, 1 << 16]) {
        let export = Export::new(TASKS * SLOTS * SLOT);
        let server = Server::new(export.clone());
        let conn = asking(style).max_in_flight(24).build();
        let stream = server.connect_with_capacity(capacity);
        conn.connect_stream(stream).await.unwrap();
        let cancelled = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let random = Random::new(random.below(u64::MAX));
                tokio::spawn(churn(conn.clone(), random, task, cancelled.clone()))
            })
            .collect();
        let mut written = Vec::new();
        for task in tasks {
            written.extend(task.await.unwrap());
        }
        assert!(cancelled.load(Ordering::Relaxed) >= CANCELLATIONS);
        // All data, through the connection and as the server has it.
        let data = conn.read(0, export.size() as usize).await.unwrap();
        conn.disconnect().await.unwrap();
        assert_eq!(conn.in_flight(), 0);
        for data in [&data[..], &export.contents(0, export.size() as usize)] {
            for (slot, fill) in data.chunks(SLOT as usize).zip(&written) {
                assert!(slot.iter().all(|byte| byte == fill), "{style:?}");
            }
        }
        drop(conn);
        let left = server.connected(0);
        timeout(Duration::from_secs(60), left).await.unwrap();
    }
}
