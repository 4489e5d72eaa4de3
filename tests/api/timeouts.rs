//! Deadlines of requests, on a clock that stands still.

use std::time::Duration;

use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Command, Errno};
use nbd_client::{Connection, Delivery, Error, InvalidUse, Phase};
use tokio::time::Instant;

use crate::support::*;

#[test]
fn k09_a_deadline_without_a_runtime_is_an_error() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::new();
    runtime
        .block_on(async { conn.connect_stream(server.connect()).await })
        .unwrap();
    let second = Duration::from_secs(1);
    let is_refused = |error: Error| {
        assert_matches!(error, Error::InvalidUse(InvalidUse::NoRuntime(_)));
    };
    block_on(async {
        conn.read(0, 512).await.unwrap();
        is_refused(conn.read(0, 512).timeout(second).await.unwrap_err());
        let mut chunks = conn.read_structured(0, 512).timeout(second);
        let chunk = std::future::poll_fn(|cx| {
            futures::Stream::poll_next(std::pin::Pin::new(&mut chunks), cx)
        });
        is_refused(chunk.await.unwrap().unwrap_err());
        is_refused(conn.disconnect().timeout(second).await.unwrap_err());
        conn.disconnect().await.unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn the_longest_deadlines_are_no_deadlines() {
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::builder()
        .handshake_timeout(Duration::MAX)
        .shutdown_timeout(Duration::MAX)
        .stall_timeout(Duration::MAX)
        .busy_poll(Duration::MAX)
        .build();
    conn.connect_stream(server.connect()).await.unwrap();
    conn.read(0, 512).timeout(Duration::MAX).await.unwrap();
    conn.disconnect().timeout(Duration::MAX).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn k12_r17_a_request_that_is_not_answered_in_time_ends_the_connection() {
    for style in STYLES {
        let (conn, mut peer) = ready(style).await;
        let other = tokio::spawn(conn.flush().into_future());
        settle().await;
        let start = Instant::now();
        let slow = conn.read(0, 512).timeout(Duration::from_secs(3));
        let (slow, ()) = tokio::join!(slow.into_future(), async {
            let request = peer.expect_command(Command::FLUSH).await.unwrap();
            let read = peer.expect_command(Command::READ).await.unwrap();
            assert_ne!(request.head.cookie, read.head.cookie);
            // It stalls in the middle of the reply.
            let mut bytes = bytes::BytesMut::new();
            data(style, &read.head, &[1; 512]).encode(&mut bytes);
            peer.send_bytes(&bytes[..100]).await.unwrap();
        });
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        for result in [slow.map(drop), other.await.unwrap()] {
            let error = result.unwrap_err();
            assert_matches!(&error, Error::Timeout(Phase::Request, _));
            assert_eq!(error.delivery(), Delivery::MaybeSent);
            assert!(error.is_fatal());
        }
        assert_matches!(conn.closed().await, Error::Timeout(..));
        assert!(conn.is_dead());
        peer.expect_end().await.unwrap();
    }
}

/// Connects to a server that answers nothing, with a deadline for all requests.
async fn connected_to_silence(timeout: Duration) -> (Connection, Server) {
    let server = Server::new(Export::new(1 << 20));
    let builder = Connection::builder().request_timeout(timeout);
    let conn = builder.meta_context("base:allocation").build();
    conn.connect_stream(server.connect()).await.unwrap();
    server.pause();
    (conn, server)
}

#[tokio::test(start_paused = true)]
async fn every_request_has_the_deadline_of_its_connection() {
    let limit = Duration::from_secs(3);
    for what in 0..8 {
        let (conn, _server) = connected_to_silence(limit).await;
        let start = Instant::now();
        let request = async {
            match what {
                0 => conn.read(0, 512).await.map(drop),
                1 => conn.write(0, vec![1; 512]).await,
                2 => conn.flush().await,
                3 => conn.block_status(0, 512).await.map(drop),
                // Its parts have it together.
                4 => conn.read(0, 1 << 20).await.map(drop),
                5 => {
                    let mut chunks = conn.read_structured(0, 512);
                    let chunk = futures::StreamExt::next(&mut chunks).await;
                    chunk.unwrap().map(drop)
                }
                6 => conn.read(0, 512).submit().await.map(drop),
                _ => {
                    let mut extents = conn.extents("base:allocation", ..);
                    let extent = futures::StreamExt::next(&mut extents).await;
                    extent.unwrap().map(drop)
                }
            }
        };
        let watched = tokio::time::timeout(10 * limit, request).await;
        let error = watched.unwrap().unwrap_err();
        assert_matches!(&error, Error::Timeout(Phase::Request, _));
        assert_eq!(start.elapsed(), limit, "{what}");
        assert!(error.to_string().contains("within 3 s"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn deadline_of_a_request_wins_over_that_of_its_connection() {
    let (short, long) = (Duration::from_secs(1), Duration::from_secs(9));
    for (default, own) in [(long, short), (short, long)] {
        let (conn, _server) = connected_to_silence(default).await;
        let start = Instant::now();
        conn.read(0, 512).timeout(own).await.unwrap_err();
        assert_eq!(start.elapsed(), own);
        let (conn, _server) = connected_to_silence(default).await;
        let start = Instant::now();
        let mut chunks = conn.read_structured(0, 512).timeout(own);
        let chunk = futures::StreamExt::next(&mut chunks);
        let chunk = tokio::time::timeout(10 * long, chunk).await.unwrap();
        chunk.unwrap().unwrap_err();
        assert_eq!(start.elapsed(), own);
    }
}

#[tokio::test(start_paused = true)]
async fn deadline_of_a_connection_can_be_lifted() {
    for (default, own) in [
        (Duration::from_secs(1), Some(Duration::MAX)),
        (Duration::MAX, None),
    ] {
        let (conn, server) = connected_to_silence(default).await;
        let mut flush = conn.flush();
        let mut chunks = conn.read_structured(0, 512);
        if let Some(own) = own {
            flush = flush.timeout(own);
            chunks = chunks.timeout(own);
        }
        let both = async move { tokio::join!(flush, futures::StreamExt::next(&mut chunks)) };
        let both = tokio::spawn(async move { both.await.0 });
        server.held(2).await;
        tokio::time::advance(Duration::from_secs(1 << 30)).await;
        settle().await;
        assert!(!both.is_finished());
        server.resume();
        both.await.unwrap().unwrap();
    }
}

/// It was not sent, and the connection goes on.
#[track_caller]
fn expired_alone(error: &Error) {
    assert_matches!(error, Error::Timeout(Phase::Request, _));
    assert_eq!(error.delivery(), Delivery::NotSent);
    assert!(!error.is_fatal() && error.ending().is_none());
    let text = error.to_string();
    assert!(text.ends_with(", before it was sent"), "{text}");
    let request = error.request().unwrap();
    assert!(
        text.starts_with(&format!("{request} timed out after ")),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_got_room_expires_alone() {
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::builder().max_in_flight(1).build();
    conn.connect_stream(server.connect()).await.unwrap();
    server.pause();
    let flush = tokio::spawn(conn.flush().into_future());
    server.held(1).await;
    let error = conn
        .write(0, vec![1; 512])
        .timeout(Duration::from_secs(1))
        .await
        .unwrap_err();
    expired_alone(&error);
    let second = Duration::from_secs(1);
    let mut chunks = conn.read_structured(0, 512).timeout(second);
    let last = futures::StreamExt::next(&mut chunks).await;
    expired_alone(&last.unwrap().unwrap_err());
    server.resume();
    flush.await.unwrap().unwrap();
    conn.read(0, 512).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_split_request_that_never_got_room_expires_alone() {
    let export = Export::new(1 << 20).block_sizes(1, 4096, 8192);
    let server = Server::new(export.clone());
    let conn = Connection::builder().max_in_flight(1).build();
    conn.connect_stream(server.connect()).await.unwrap();
    server.pause();
    let flush = tokio::spawn(conn.flush().into_future());
    server.held(1).await;
    let second = Duration::from_secs(1);
    let write = conn.write(0, vec![1; 100_000]).timeout(second).await;
    let read = conn.read(0, 100_000).timeout(second).await;
    for error in [write.unwrap_err(), read.unwrap_err()] {
        expired_alone(&error);
    }
    server.resume();
    flush.await.unwrap().unwrap();
    conn.read(0, 100_000).await.unwrap();
    assert_eq!(export.counters().writes, 0);
}

#[tokio::test(start_paused = true)]
async fn k12_a_split_request_of_which_a_part_was_sent_ends_the_connection() {
    let server = Server::new(Export::new(1 << 20).block_sizes(1, 4096, 8192));
    let conn = Connection::builder().max_in_flight(1).build();
    conn.connect_stream(server.connect()).await.unwrap();
    server.pause();
    let second = Duration::from_secs(1);
    let write = conn.write(0, vec![1; 100_000]).timeout(second).await;
    let error = write.unwrap_err();
    assert_matches!(&error, Error::Timeout(Phase::Request, _));
    assert_eq!(error.delivery(), Delivery::MaybeSent);
    assert_matches!(conn.closed().await, Error::Timeout(Phase::Request, _));
}

#[tokio::test]
async fn a_split_request_that_never_got_room_was_not_sent_when_the_connection_is_lost() {
    let server = Server::new(Export::new(1 << 20).block_sizes(1, 4096, 8192));
    let conn = Connection::builder().max_in_flight(1).build();
    conn.connect_stream(server.connect()).await.unwrap();
    server.pause();
    let flush = tokio::spawn(conn.flush().into_future());
    server.held(1).await;
    let write = tokio::spawn(conn.write(0, vec![1; 100_000]).into_future());
    settle().await;
    server.hang_up();
    assert_matches!(flush.await.unwrap(), Err(Error::Disconnected(..)));
    let error = write.await.unwrap().unwrap_err();
    assert_matches!(&error, Error::Disconnected(..));
    assert_eq!(error.delivery(), Delivery::NotSent);
}

#[tokio::test(start_paused = true)]
async fn r20_a_write_that_is_refused_early_and_never_read_expires() {
    for style in STYLES {
        let (conn, mut peer) = narrow(style, 64).await;
        let write = conn.write(0, vec![7; 4096]).timeout(Duration::from_secs(2));
        let write = tokio::spawn(write.into_future());
        let head = peer.expect_head().await.unwrap();
        peer.send_error(&head, Errno::EPERM, "no").await.unwrap();
        // The answer is there, but the request is not: that is the end of the connection.
        let error = write.await.unwrap().unwrap_err();
        assert_matches!(error, Error::Timeout(..) | Error::Request(_));
        assert_matches!(conn.closed().await, Error::Timeout(..));
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_met_does_nothing() {
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::new();
    conn.connect_stream(server.connect()).await.unwrap();
    conn.read(0, 512)
        .timeout(Duration::from_secs(1))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(conn.is_ready());
    conn.read(0, 512).await.unwrap();
}
