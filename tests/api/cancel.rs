//! Requests that are dropped, at every point.

mod points;
mod random;

use std::sync::Arc;

use bytes::BytesMut;
use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Command, ReplyStyle};
use nbd_client::{Connection, Error};

use crate::support::*;

/// How many kinds of requests [`act`] knows.
const ACTS: usize = 9;

/// What a test can do to a connection and give up half way.
async fn act(conn: &Connection, what: usize) {
    let outcome = match what {
        0 => conn.read(0, 5000).await.map(drop),
        1 => conn.write(0, vec![1; 5000]).await,
        2 => conn.read_into(100, BytesMut::zeroed(300)).await.map(drop),
        3 => conn.trim(0, 4096).await,
        4 => conn.write_zeroes(0, 4096).await,
        5 => conn.flush().await,
        6 => conn.cache(0, 512).await,
        7 => conn.block_status(0, 4096).await.map(drop),
        _ => {
            let mut chunks = conn.read_structured(0, 5000);
            loop {
                let next = std::future::poll_fn(|cx| {
                    futures::Stream::poll_next(std::pin::Pin::new(&mut chunks), cx)
                });
                match next.await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                }
            }
        }
    };
    outcome.unwrap();
}

/// The kinds of requests that there are in this style.
fn acts(style: ReplyStyle) -> impl Iterator<Item = usize> {
    (0..ACTS).filter(move |&what| what != 7 || style != ReplyStyle::Simple)
}

/// A builder for connections that can do all of that.
fn asking(style: ReplyStyle) -> nbd_client::Builder {
    builder(style).meta_context("base:allocation")
}

#[tokio::test]
async fn k01_k02_k03_a_request_dropped_at_any_poll_leaves_the_stream_in_sync() {
    for style in STYLES {
        for capacity in [3, 64, 4096] {
            let export = Export::new(1 << 20);
            let server = Server::new(export.clone());
            let conn = asking(style).build();
            let stream = server.connect_with_capacity(capacity);
            conn.connect_stream(stream).await.unwrap();
            for what in acts(style) {
                for polls in 0..12 {
                    drop_after(polls, act(&conn, what)).await;
                    // It overlaps what was dropped, and is newer.
                    let fill = (what * 16 + polls) as u8;
                    conn.write(0, vec![fill; 64]).await.unwrap();
                    let data = conn.read(0, 64).await.unwrap();
                    assert_eq!(data[..], [fill; 64], "{what} after {polls}");
                }
            }
            conn.disconnect().await.unwrap();
            assert_eq!(conn.in_flight(), 0);
        }
    }
}

#[tokio::test]
async fn k01_a_request_dropped_while_it_waits_for_room_is_never_sent() {
    let export = Export::new(1 << 20);
    let server = Server::new(export.clone());
    let conn = Connection::builder().max_in_flight(1).build();
    conn.connect_stream(server.connect()).await.unwrap();
    server.pause();
    let flush = tokio::spawn(conn.flush().into_future());
    server.held(1).await;
    let dropped = drop_after(3, conn.write(0, vec![1; 512]).into_future()).await;
    assert!(dropped.is_none());
    server.resume();
    flush.await.unwrap().unwrap();
    conn.flush().await.unwrap();
    assert_eq!(export.counters().writes, 0);
}

#[tokio::test]
async fn a_request_that_has_its_turn_holds_nobody_up_if_its_caller_does_not_look() {
    let export = Export::new(1 << 20).block_sizes(1, 4096, 8192);
    let server = Server::new(export.clone());
    let conn = Connection::builder().max_in_flight(2).build();
    conn.connect_stream(server.connect()).await.unwrap();
    // Polled once, and then left alone until all else is done.
    let mut writes: Vec<_> = (0..10)
        .map(|n| conn.write(n * 512, vec![1; 512]).into_future())
        .collect();
    let mut long = Box::pin(conn.read(0, 100_000).into_future());
    for write in &mut writes {
        assert!(drop_after(1, write).await.is_none());
    }
    assert!(drop_after(1, &mut long).await.is_none());
    conn.flush().await.unwrap();
    conn.read(0, 512).await.unwrap();
    assert_eq!(export.counters().writes, 10);
    assert_eq!(long.await.unwrap().len(), 100_000);
    for write in writes {
        write.await.unwrap();
    }
    assert_eq!(conn.in_flight(), 0);
}

#[tokio::test]
async fn k01_a_request_that_is_never_polled_is_never_sent() {
    let export = Export::new(1 << 20);
    let server = Server::new(export.clone());
    let conn = Connection::new();
    conn.connect_stream(server.connect()).await.unwrap();
    drop(conn.write(0, vec![1; 512]).into_future());
    drop(conn.read_structured(0, 512));
    conn.flush().await.unwrap();
    assert_eq!(export.counters().writes, 0);
    assert_eq!(export.counters().reads, 0);
}

#[tokio::test]
async fn k04_a_newer_write_waits_for_an_abandoned_one_it_overlaps() {
    for style in STYLES {
        let (conn, mut peer) = ready(style).await;
        let write = conn.write(4096, vec![1; 512]).into_future();
        assert!(drop_after(1, write).await.is_none());
        let old = peer.expect_command(Command::WRITE).await.unwrap();
        let newer = tokio::spawn(conn.write(4000, vec![2; 100]).into_future());
        settle().await;
        // What does not overlap goes ahead.
        let other = tokio::spawn(conn.write(0, vec![3; 512]).into_future());
        let passed = peer.expect_command(Command::WRITE).await.unwrap();
        assert_eq!(passed.payload[..], [3; 512]);
        peer.acknowledge(&passed.head).await.unwrap();
        other.await.unwrap().unwrap();
        assert!(!newer.is_finished());
        peer.acknowledge(&old.head).await.unwrap();
        let request = peer.expect_command(Command::WRITE).await.unwrap();
        assert_eq!(request.payload[..], [2; 100]);
        peer.acknowledge(&request.head).await.unwrap();
        newer.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn k03_replies_to_dropped_requests_are_counted_until_they_have_come() {
    let (conn, mut peer) = ready(ReplyStyle::Structured).await;
    for _ in 0..10 {
        assert!(
            drop_after(1, conn.read(0, 512).into_future())
                .await
                .is_none()
        );
    }
    assert_eq!(conn.in_flight(), 10);
    for _ in 0..10 {
        let request = peer.expect_command(Command::READ).await.unwrap();
        peer.send_data(&request.head, &[0; 512]).await.unwrap();
    }
    settle().await;
    assert_eq!(conn.in_flight(), 0);
}

#[tokio::test]
async fn a_request_polled_after_it_is_done_fails() {
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::new();
    conn.connect_stream(server.connect()).await.unwrap();
    let mut pending = conn.read(0, 512).into_future();
    (&mut pending).await.unwrap();
    assert_matches!((&mut pending).await, Err(Error::Invalid(_)));
    assert!(conn.is_ready());
}

/// One task: writes to its own part of the export, gives up at random, and looks whether what it
/// reads is what it wrote last.
async fn churn(conn: Connection, seed: u64, rounds: usize) {
    const PART: u64 = 64 << 10;
    let mut random = Random::new(seed + 1);
    let base = seed * PART;
    for round in 0..rounds {
        let length = 1 + random.below(if round % 8 == 0 { 60_000 } else { 2000 });
        let offset = base + random.below(PART - length);
        let polls = random.below(6) as usize;
        let size = usize::try_from(length).unwrap();
        match random.below(4) {
            0 => drop(drop_after(polls, conn.read(offset, size).into_future()).await),
            1 => drop(drop_after(polls, conn.write(offset, vec![9; size]).into_future()).await),
            2 => drop(drop_after(polls, conn.write_zeroes(offset, length).into_future()).await),
            _ => {}
        }
        let fill = (seed as usize * 31 + round) as u8;
        conn.write(offset, vec![fill; size]).await.unwrap();
        let data = conn.read(offset, size).await.unwrap();
        assert!(
            data.iter().all(|&byte| byte == fill),
            "task {seed}, round {round}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn k01_k10_many_tasks_that_give_up_at_random_see_their_own_writes() {
    for (index, capacity) in [100, 4000, 256 << 10].into_iter().enumerate() {
        for style in STYLES {
            let server = Server::new(Export::new(16 * (64 << 10)));
            let conn = builder(style).max_in_flight(12).build();
            conn.connect_stream(server.connect_with_capacity(capacity))
                .await
                .unwrap();
            let rounds = [20, 60, 150][index];
            let tasks: Vec<_> = (0..16)
                .map(|seed| tokio::spawn(churn(conn.clone(), seed, rounds)))
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            conn.disconnect().await.unwrap();
            assert_eq!(conn.in_flight(), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn k10_a_death_at_any_time_answers_everybody() {
    for seed in 0..60 {
        let server = Server::new(Export::new(1 << 20));
        let conn = Connection::builder().max_in_flight(6).build();
        conn.connect_stream(server.connect_with_capacity(5000))
            .await
            .unwrap();
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let tasks: Vec<_> = (0..16)
            .map(|task| {
                let (conn, count) = (conn.clone(), count.clone());
                tokio::spawn(async move {
                    let mut random = Random::new(seed * 100 + task);
                    loop {
                        let size = 1 + random.below(9000) as usize;
                        let done = match random.below(3) {
                            0 => conn.read(0, size).await.map(drop),
                            1 => conn.write(0, vec![1; size]).await,
                            _ => {
                                let read = conn.read(0, size).into_future();
                                drop(drop_after(2, read).await);
                                Ok(())
                            }
                        };
                        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        if let Err(error) = done {
                            break error;
                        }
                        if conn.is_dead() || conn.is_closed() {
                            break conn.closed().await;
                        }
                    }
                })
            })
            .collect();
        while count.load(std::sync::atomic::Ordering::SeqCst) < seed as usize * 7 {
            tokio::task::yield_now().await;
        }
        match seed % 3 {
            0 => server.hang_up(),
            1 => {
                let slow = conn.read(0, 4096).timeout(std::time::Duration::ZERO);
                drop(slow.await);
                server.hang_up();
            }
            _ => drop(conn.disconnect().await),
        }
        for task in tasks {
            let error = task.await.unwrap();
            assert_matches!(
                error,
                Error::Disconnected(..) | Error::Closed(_) | Error::Timeout(..)
            );
        }
        assert_eq!(conn.in_flight(), 0, "seed {seed}");
    }
}
