//! Counts of requests by command.

use std::time::Duration;

use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Command, Errno, ReplyStyle};
use nbd_client::{CommandStats, Connection, Latency};

use crate::support::*;

async fn connect(measures: bool) -> Connection {
    let server = Server::builder()
        .export("", Export::new(8 << 20).block_sizes(512, 4096, 1 << 20))
        .fail_with(|head| {
            let fails = head.command == Command::TRIM && head.offset == 0;
            fails.then(|| (Errno::EIO, String::new()))
        })
        .build();
    let conn = Connection::builder()
        .measure_latency(measures)
        .meta_context("base:allocation")
        .build();
    conn.connect_stream(server.connect()).await.unwrap();
    conn
}

fn counts(stats: CommandStats) -> (u64, u64, u64) {
    (stats.requests, stats.errors, stats.bytes)
}

both_runtimes!(requests_are_counted_by_command);
async fn requests_are_counted_by_command() {
    for measures in [false, true] {
        let conn = connect(measures).await;
        conn.read(0, 4096).await.unwrap();
        // Three messages.
        conn.read(0, 3 << 20).await.unwrap();
        conn.write(512, vec![1; 512]).await.unwrap();
        conn.write(100, vec![1; 50]).unaligned().await.unwrap();
        conn.flush().await.unwrap();
        conn.trim(0, 512).await.unwrap_err();
        conn.trim(512, 1024).await.unwrap();
        conn.write_zeroes(0, 4096).await.unwrap();
        conn.cache(0, 512).await.unwrap();
        conn.block_status(0, 4096).await.unwrap();
        // These are not sent.
        conn.read(0, 0).await.unwrap();
        conn.read(1, 1).await.unwrap_err();
        let stats = conn.stats();
        for (command, expected) in [
            (Command::READ, (4, 0, 4096 + (3 << 20))),
            (Command::WRITE, (2, 0, 1024)),
            (Command::FLUSH, (1, 0, 0)),
            (Command::TRIM, (2, 1, 1024)),
            (Command::WRITE_ZEROES, (1, 0, 4096)),
            (Command::CACHE, (1, 0, 512)),
            (Command::BLOCK_STATUS, (1, 0, 4096)),
            (Command::DISC, (0, 0, 0)),
            (Command(99), (0, 0, 0)),
        ] {
            let found = stats.command(command);
            assert_eq!(counts(found), expected, "{command}");
            let measured: u64 = found.latency.counts.iter().sum();
            let requests = if measures { found.requests } else { 0 };
            assert_eq!(measured, requests, "{command}");
            assert_eq!(
                found.latency.sum > Duration::ZERO,
                requests > 0,
                "{command}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_given_up_or_lost_counts_once_it_is_over() {
    let (conn, mut peer) = ready(ReplyStyle::Structured).await;
    let reads = |conn: &Connection| counts(conn.stats().command(Command::READ));
    drop(conn.read(0, 4).submit());
    let lost = conn.read(8, 4).submit();
    let head = peer.expect_request().await.unwrap().head;
    assert_eq!(reads(&conn), (0, 0, 0));
    peer.send_reply(data(ReplyStyle::Structured, &head, b"data"))
        .await
        .unwrap();
    settle().await;
    assert_eq!(reads(&conn), (1, 0, 4));
    drop(peer);
    lost.await.unwrap_err();
    conn.closed().await;
    assert_eq!(reads(&conn), (2, 1, 4), "they stay known after the end");
}

#[tokio::test]
async fn latency_is_from_the_moment_of_queueing_to_the_answer() {
    let style = ReplyStyle::Structured;
    let builder = builder(style).measure_latency(true);
    let (conn, mut peer) = ready_with(builder, style).await;
    let read = conn.read(0, 4).submit();
    let head = peer.expect_request().await.unwrap().head;
    let begun = std::time::Instant::now();
    // Not a wait for anything, but time that passes.
    while begun.elapsed() < Duration::from_millis(2) {
        std::hint::spin_loop();
    }
    peer.send_reply(data(style, &head, b"data")).await.unwrap();
    read.await.unwrap();
    let latency = conn.stats().command(Command::READ).latency;
    assert!(latency.sum >= Duration::from_millis(2), "{latency:?}");
    let index = latency.counts.iter().position(|&count| count == 1).unwrap();
    // At least in the class from 1.024 ms to 4.096 ms.
    assert!(index >= 4, "{latency:?}");
    assert!(index == 11 || latency.sum < Latency::BOUNDS[index]);
    assert!(latency.sum >= Latency::BOUNDS[index - 1]);
}
