//! How connections end from this side.

use std::time::Duration;

use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Command, Errno, ReplyStyle};
use nbd_client::{Connection, Delivery, Error, ErrorKind, Phase, State};
use tokio::time::Instant;

use crate::support::*;

const WATCHDOG: Duration = Duration::from_secs(300);

#[tokio::test(start_paused = true)]
async fn w12_disc_follows_at_once_when_the_last_request_is_answered() {
    for style in STYLES {
        let (conn, mut peer) = ready(style).await;
        let flush = tokio::spawn({
            let conn = conn.clone();
            async move { conn.flush().await }
        });
        let request = peer.expect_command(Command::FLUSH).await.unwrap();
        let ends = tokio::spawn(conn.disconnect().into_future());
        settle().await;
        let start = Instant::now();
        assert_matches!(conn.flush().await, Err(Error::Closed(_)));
        peer.acknowledge(&request.head).await.unwrap();
        peer.expect_command(Command::DISC).await.unwrap();
        peer.expect_end().await.unwrap();
        assert_eq!(start.elapsed().as_millis(), 0);
        drop(peer);
        flush.await.unwrap().unwrap();
        ends.await.unwrap().unwrap();
        assert_eq!(conn.state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn r08_after_eshutdown_disc_follows_at_once() {
    for style in STYLES {
        let (conn, mut peer) = ready(style).await;
        let start = Instant::now();
        let (read, ()) = tokio::join!(conn.read(0, 512).into_future(), async {
            let request = peer.expect_command(Command::READ).await.unwrap();
            peer.send_error(&request.head, Errno::ESHUTDOWN, "")
                .await
                .unwrap();
        });
        assert_matches!(read, Err(Error::Request(_)));
        peer.expect_command(Command::DISC).await.unwrap();
        assert_eq!(start.elapsed().as_millis(), 0);
        drop(peer);
        is_shutting_down(&conn.closed().await);
        conn.disconnect().await.unwrap();
    }
}

/// The server is shutting down: it is no failure of the request, which can be made elsewhere.
#[track_caller]
fn is_shutting_down(error: &Error) {
    let failed = error
        .request()
        .map_or_else(String::new, |request| format!("{request} failed: "));
    assert_eq!(
        error.to_string(),
        format!("{failed}the server is shutting down")
    );
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert_eq!(error.delivery(), Delivery::NotSent);
    assert!(error.is_retryable() && error.is_fatal());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r08_after_eshutdown_requests_that_wait_or_come_are_told_why() {
    for style in STYLES {
        let (conn, mut peer) = ready_with(builder(style).max_in_flight(2), style).await;
        let read = || tokio::spawn(conn.read(0, 512).timeout(WATCHDOG).into_future());
        let mut reads = Vec::new();
        let mut heads = Vec::new();
        for _ in 0..2 {
            reads.push(read());
            heads.push(peer.expect_command(Command::READ).await.unwrap().head);
        }
        // No room for these.
        let mut waiting = Vec::new();
        for _ in 0..3 {
            let mut waits = Box::pin(conn.read(0, 512).timeout(WATCHDOG).into_future());
            assert!(drop_after(1, &mut waits).await.is_none());
            waiting.push(waits);
        }
        peer.send_error(&heads[0], Errno::ESHUTDOWN, "")
            .await
            .unwrap();
        let error = reads.remove(0).await.unwrap().unwrap_err();
        assert_matches!(&error, Error::Request(e) if e.errno() == Errno::ESHUTDOWN);
        assert!(error.is_retryable() && error.is_fatal());
        for waits in waiting {
            is_shutting_down(&waits.await.unwrap_err());
        }
        is_shutting_down(&conn.flush().await.unwrap_err());
        // What is in flight is still waited for, and what this side does now changes no cause.
        assert!(conn.is_ready());
        let ends = tokio::spawn(conn.disconnect().timeout(WATCHDOG).into_future());
        peer.send_data(&heads[1], &[1; 512]).await.unwrap();
        reads.remove(0).await.unwrap().unwrap();
        peer.expect_command(Command::DISC).await.unwrap();
        drop(peer);
        ends.await.unwrap().unwrap();
        assert!(conn.is_closed());
        is_shutting_down(&conn.closed().await);
        is_shutting_down(&conn.read(0, 512).await.unwrap_err());
    }
}

#[tokio::test(start_paused = true)]
async fn w11_a_server_that_does_not_close_is_left_at_the_deadline() {
    let (conn, mut peer) = ready(ReplyStyle::Structured).await;
    let start = Instant::now();
    let ends = tokio::spawn(conn.disconnect().into_future());
    peer.expect_command(Command::DISC).await.unwrap();
    // R15: what it says now answers nothing.
    peer.send_bytes(b"nonsense").await.unwrap();
    ends.await.unwrap().unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    assert!(conn.is_closed());
}

#[tokio::test(start_paused = true)]
async fn w12_a_disconnect_gives_up_when_told_to() {
    let (conn, mut peer) = ready(ReplyStyle::Structured).await;
    let flush = tokio::spawn(conn.flush().into_future());
    peer.expect_command(Command::FLUSH).await.unwrap();
    let start = Instant::now();
    let result = conn.disconnect().timeout(Duration::from_secs(2)).await;
    assert_matches!(result, Err(Error::Timeout(Phase::Shutdown, _)));
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert_matches!(flush.await.unwrap(), Err(Error::Timeout(..)));
    assert!(conn.is_dead());
    peer.expect_end().await.unwrap();
}

#[tokio::test]
async fn k07_disconnecting_twice_or_at_the_same_time_is_no_error() {
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::new();
    conn.connect_stream(server.connect()).await.unwrap();
    server.pause();
    let read = tokio::spawn(conn.read(0, 512).into_future());
    server.held(1).await;
    let ends: Vec<_> = (0..5)
        .map(|_| tokio::spawn(conn.disconnect().into_future()))
        .collect();
    settle().await;
    server.resume();
    for end in ends {
        end.await.unwrap().unwrap();
    }
    read.await.unwrap().unwrap();
    conn.disconnect().await.unwrap();
}

// The server cannot have been told: what it had not written out may be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k08_disconnecting_from_a_server_that_has_gone_is_an_error() {
    for style in STYLES {
        for unflushed in [false, true] {
            for noticed in [false, true] {
                let (conn, mut peer) = ready(style).await;
                if unflushed {
                    let write = tokio::spawn(conn.write(0, vec![1; 512]).into_future());
                    let request = peer.expect_command(Command::WRITE).await.unwrap();
                    peer.acknowledge(&request.head).await.unwrap();
                    write.await.unwrap().unwrap();
                }
                drop(peer);
                if noticed {
                    conn.closed().await;
                }
                let error = conn.disconnect().await.unwrap_err();
                assert_matches!(&error, Error::Disconnected(..));
                assert_eq!(error.has_unflushed_writes(), unflushed);
                let cause = conn.closed().await.to_string();
                assert_eq!(error.to_string(), cause);
                assert_eq!(conn.disconnect().await.unwrap_err().to_string(), cause);
            }
        }
    }
}

// The runtime has not looked at its sockets since then, and DISC would still be taken by the system.
#[tokio::test]
async fn k08_a_server_that_went_while_the_program_was_busy_has_gone() {
    for style in STYLES {
        let (conn, mut peer, connecting) = Way::Tcp.connect(builder(style));
        let (connected, greeted) = tokio::join!(connecting, peer.handshake(style, INFO, &[]));
        greeted.unwrap();
        connected.unwrap();
        let (written, ()) = tokio::join!(conn.write(0, vec![1; 512]).into_future(), async {
            let request = peer.expect_command(Command::WRITE).await.unwrap();
            peer.acknowledge(&request.head).await.unwrap();
        });
        written.unwrap();
        drop(peer);
        // Another comes before the runtime has looked.
        let another = tokio::spawn({
            let conn = conn.clone();
            async move {
                drop_after(4, std::future::pending::<()>()).await;
                conn.disconnect().await
            }
        });
        for ended in [
            within(conn.disconnect().into_future()).await,
            within(another).await.unwrap(),
        ] {
            let error = ended.unwrap_err();
            assert_matches!(&error, Error::Disconnected(..));
            assert!(error.has_unflushed_writes());
        }
    }
}

#[tokio::test]
async fn a_disconnect_that_is_dropped_goes_on() {
    let (conn, mut peer) = ready(ReplyStyle::Simple).await;
    let dropped = drop_after(1, conn.disconnect().into_future()).await;
    assert!(dropped.is_none());
    peer.expect_command(Command::DISC).await.unwrap();
    drop(peer);
    assert_matches!(conn.closed().await, Error::Closed(_));
}

#[tokio::test]
async fn k06_dropping_the_last_handle_says_goodbye_and_closes() {
    for style in STYLES {
        let (conn, mut peer) = ready(style).await;
        let clone = conn.clone();
        drop(conn);
        let read = drop_after(1, clone.read(0, 512).into_future()).await;
        assert!(read.is_none());
        drop(clone);
        peer.expect_command(Command::READ).await.unwrap();
        peer.expect_command(Command::DISC).await.unwrap();
        peer.expect_end().await.unwrap();
    }
}

#[tokio::test]
async fn k06_a_goodbye_that_has_to_wait_for_room_is_said_once() {
    for style in STYLES {
        let (conn, mut peer) = narrow(style, 64).await;
        let write = drop_after(1, conn.write(0, vec![1; 1000]).into_future()).await;
        assert!(write.is_none());
        drop(conn);
        peer.expect_command(Command::WRITE).await.unwrap();
        peer.expect_command(Command::DISC).await.unwrap();
        peer.expect_end().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn k06_a_server_that_does_not_read_is_left_without_a_goodbye() {
    let (conn, mut peer) = narrow(ReplyStyle::Simple, 64).await;
    let write = drop_after(1, conn.write(0, vec![1; 4096]).into_future()).await;
    assert!(write.is_none());
    settle().await;
    let start = Instant::now();
    drop(conn);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // What had been written by then, and the end.
    assert!(peer.expect_request().await.is_err());
    assert_eq!(start.elapsed(), Duration::from_secs(1));
}

#[tokio::test]
async fn k06_a_request_keeps_its_connection() {
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::new();
    conn.connect_stream(server.connect()).await.unwrap();
    let read = conn.read(0, 512).into_future();
    drop(conn);
    assert_eq!(read.await.unwrap().len(), 512);
    server.connected(0).await;
}

#[tokio::test]
async fn k11_dropping_the_last_handle_ends_a_handshake_at_any_point() {
    for polls in 0..30 {
        let server = Server::new(Export::new(1 << 20));
        let conn = Connection::new();
        let stream = server.connect_with_capacity(20);
        drop(drop_after(polls, conn.connect_stream(stream)).await);
        drop(conn);
        server.connected(0).await;
    }
}
