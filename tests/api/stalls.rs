//! Deadlines for a server that owes replies, on a clock that stands still.

use std::time::Duration;

use nbd_client::testing::Peer;
use nbd_client::wire::{Command, Errno, ReplyStyle};
use nbd_client::{Connection, Delivery, Error, Phase};
use tokio::time::Instant;

use crate::support::*;

/// A connection with a stall deadline of ten seconds, and the peer it talks to.
async fn impatient() -> (Connection, Peer) {
    let style = ReplyStyle::Structured;
    let builder = builder(style).stall_timeout(Duration::from_secs(10));
    ready_with(builder, style).await
}

#[tokio::test(start_paused = true)]
async fn w10_a_silent_server_that_owes_a_reply_is_given_up() {
    let (conn, mut peer) = impatient().await;
    let start = Instant::now();
    let read = conn.read(0, 512).await.map(drop);
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    let error = read.unwrap_err();
    assert_matches!(&error, Error::Timeout(Phase::Stall, _));
    assert_eq!(error.delivery(), Delivery::MaybeSent);
    assert_matches!(conn.closed().await, Error::Timeout(Phase::Stall, _));
    peer.expect_command(Command::READ).await.unwrap();
    peer.expect_end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_request_is_owed_a_reply_too() {
    let (conn, _peer) = impatient().await;
    let start = Instant::now();
    assert!(drop_after(1, conn.flush().into_future()).await.is_none());
    assert_matches!(conn.closed().await, Error::Timeout(Phase::Stall, _));
    assert_eq!(start.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_does_not_stall() {
    let (conn, mut peer) = impatient().await;
    for pause in [3600, 9, 1, 11, 19, 21] {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        assert!(conn.is_ready(), "after {pause} seconds");
        let flush = tokio::spawn(conn.flush().into_future());
        let request = peer.expect_command(Command::FLUSH).await.unwrap();
        tokio::time::sleep(Duration::from_secs(9)).await;
        peer.acknowledge(&request.head).await.unwrap();
        flush.await.unwrap().unwrap();
    }
    // The silence before a request does not count, whenever that comes.
    for pause in [1, 5, 25] {
        let (conn, mut peer) = impatient().await;
        let flush = tokio::spawn(conn.flush().into_future());
        let request = peer.expect_command(Command::FLUSH).await.unwrap();
        peer.acknowledge(&request.head).await.unwrap();
        flush.await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_secs(pause)).await;
        let start = Instant::now();
        assert_matches!(conn.flush().await, Err(Error::Timeout(Phase::Stall, _)));
        assert_eq!(start.elapsed(), Duration::from_secs(10), "{pause}");
    }
}

#[tokio::test(start_paused = true)]
async fn w03_any_byte_starts_the_stall_deadline_anew_and_no_request_does() {
    let (conn, mut peer) = impatient().await;
    let start = Instant::now();
    let read = tokio::spawn(conn.read(0, 512).into_future());
    let request = peer.expect_command(Command::READ).await.unwrap();
    let mut bytes = bytes::BytesMut::new();
    data(ReplyStyle::Structured, &request.head, &[1; 512]).encode(&mut bytes);
    for byte in &bytes[..30] {
        tokio::time::sleep(Duration::from_secs(7)).await;
        peer.send_bytes(std::slice::from_ref(byte)).await.unwrap();
    }
    // What is sent is no sign of life.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let flush = tokio::spawn(conn.flush().into_future());
    assert_matches!(conn.closed().await, Error::Timeout(Phase::Stall, _));
    assert_eq!(start.elapsed(), Duration::from_secs(30 * 7 + 10));
    for result in [read.await.unwrap().map(drop), flush.await.unwrap()] {
        assert_matches!(result, Err(Error::Timeout(Phase::Stall, _)));
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_stall_deadline_a_silent_server_is_waited_for() {
    let (conn, mut peer) = ready(ReplyStyle::Structured).await;
    let flush = tokio::spawn(conn.flush().into_future());
    let request = peer.expect_command(Command::FLUSH).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1_000_000)).await;
    peer.acknowledge(&request.head).await.unwrap();
    flush.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stall_of_what_was_asked_before_goodbye_ends_the_wait() {
    let (conn, _peer) = impatient().await;
    let start = Instant::now();
    let flush = tokio::spawn(conn.flush().into_future());
    settle().await;
    assert_matches!(
        conn.disconnect().await,
        Err(Error::Timeout(Phase::Stall, _))
    );
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    assert_matches!(flush.await.unwrap(), Err(Error::Timeout(..)));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_never_answered_while_others_are_ends_the_connection() {
    let limit = Duration::from_secs(30);
    for style in STYLES {
        let (conn, mut peer) = ready_with(builder(style).reply_timeout(limit), style).await;
        let write = conn.write(0, vec![1; 512]).into_future();
        assert!(drop_after(1, write).await.is_none());
        let lost = peer.expect_command(Command::WRITE).await.unwrap();
        let start = Instant::now();
        let flush = tokio::spawn(conn.flush().into_future());
        let others = async {
            loop {
                let read = tokio::spawn(conn.read(4096, 512).into_future());
                let Ok(request) = peer.expect_command(Command::READ).await else {
                    return read.await.unwrap();
                };
                assert_ne!(request.head.cookie, lost.head.cookie);
                tokio::time::sleep(Duration::from_secs(7)).await;
                let reply = data(style, &request.head, &[1; 512]);
                if peer.send_reply(reply).await.is_ok() {
                    let _ = read.await.unwrap();
                }
            }
        };
        let read = tokio::time::timeout(10 * limit, others).await.unwrap();
        assert!(start.elapsed() >= limit, "{:?}", start.elapsed());
        assert_matches!(conn.closed().await, Error::Timeout(Phase::Reply, _));
        assert_matches!(flush.await.unwrap(), Err(Error::Timeout(Phase::Reply, _)));
        assert_matches!(read.map(drop), Err(Error::Timeout(Phase::Reply, _)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_refused_and_never_taken_ends_the_connection() {
    let limit = Duration::from_secs(30);
    for style in STYLES {
        let (client, server) = tokio::io::duplex(64);
        let builder = builder(style).reply_timeout(limit);
        let (conn, mut peer) = ready_on(builder, style, Peer::new(server), client).await;
        let start = Instant::now();
        let write = tokio::spawn(conn.write(0, vec![7; 4096]).into_future());
        let head = peer.expect_head().await.unwrap();
        peer.send_error(&head, Errno::EPERM, "no").await.unwrap();
        settle().await;
        let flush = tokio::spawn(conn.flush().into_future());
        let end = tokio::time::timeout(10 * limit, conn.closed()).await;
        assert_matches!(end.unwrap(), Error::Timeout(Phase::Reply, _));
        assert!((limit..2 * limit).contains(&start.elapsed()));
        // What the server said of the write stands.
        let refused = write.await.unwrap().unwrap_err();
        assert_matches!(refused, Error::Request(e) if e.errno() == Errno::EPERM);
        assert_matches!(flush.await.unwrap(), Err(Error::Timeout(..)));
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_answered_in_time_are_never_overdue() {
    let builder = builder(ReplyStyle::Structured).reply_timeout(Duration::from_secs(30));
    let (conn, mut peer) = ready_with(builder, ReplyStyle::Structured).await;
    for pause in [0, 1, 3, 29, 3600, 2, 31] {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        let flush = tokio::spawn(conn.flush().into_future());
        let request = peer.expect_command(Command::FLUSH).await.unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        peer.acknowledge(&request.head).await.unwrap();
        flush.await.unwrap().unwrap();
    }
}
