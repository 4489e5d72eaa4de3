//! W: ends, in order or not.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nbd_client::testing::Peer;
use nbd_client::wire::Command;
use nbd_client::{Connection, Delivery, Error, Result, State};
use tokio::io::duplex;
use tokio::net::{TcpListener, UnixStream};
use tokio::time::Instant;

use crate::flow::{heads, is_timeout, pattern, reads};
use crate::harness::*;

#[track_caller]
fn is_lost<T: std::fmt::Debug>(result: Result<T>) -> io::ErrorKind {
    match result {
        Err(Error::Disconnected(lost, _)) => lost.io().kind(),
        other => panic!("not lost: {other:?}"),
    }
}

#[test]
fn w06_a_server_that_leaves_when_nothing_is_due_closes_the_connection() {
    each(&STYLES, async |style, transport| {
        let (conn, mut peer) = transport.ready(style, Connection::builder()).await;
        let (read, ()) = tokio::join!(conn.read(0, 4).into_future(), async {
            let head = peer.expect_command(Command::READ).await.unwrap().head;
            peer.send_data(&head, b"data").await.unwrap();
        });
        read.unwrap();
        // Over TLS this says close_notify: without that, the end would be a failure.
        peer.half_close().await.unwrap();
        drop(peer);
        is_lost::<()>(Err(conn.closed().await));
        assert_eq!(conn.state(), State::Closed);
        let late = conn.read(0, 4).await;
        assert_eq!(late.as_ref().unwrap_err().delivery(), Delivery::NotSent);
        is_lost(late);
    });
}

both_runtimes!(w07_a_reset_behind_some_replies_answers_everybody_once);
async fn w07_a_reset_behind_some_replies_answers_everybody_once() {
    for style in repeated(&STYLES) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let conn = Connection::new();
        let connecting = conn.aio_connect_tcp("127.0.0.1", port).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        // Closing resets.
        socket2::SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        let mut peer = Peer::new(stream);
        peer.handshake(style, info(SIZE), &[]).await.unwrap();
        connecting.await.unwrap();
        let reads = reads(&conn, 8);
        let heads = heads(&mut peer, Command::READ, 8).await;
        for head in heads.iter().filter(|head| head.offset < 4 * 4096) {
            let data = pattern(head.offset, head.length);
            peer.send_data(head, &data).await.unwrap();
        }
        drop(peer);
        for (i, read) in (0..).zip(reads) {
            match read.await.unwrap() {
                Ok(data) if i < 4 => assert_eq!(data[..], pattern(i * 4096, 4096)),
                // Replies that were not read yet may be lost with the connection.
                result => assert_eq!(is_lost(result), io::ErrorKind::ConnectionReset),
            }
        }
        is_lost::<()>(Err(conn.closed().await));
        assert_eq!((conn.state(), conn.in_flight()), (State::Dead, 0));
    }
}

both_runtimes!(w08_a_server_that_hears_nothing_more_is_lost);
async fn w08_a_server_that_hears_nothing_more_is_lost() {
    for style in repeated(&STYLES) {
        let (client, server) = std::os::unix::net::UnixStream::pair().unwrap();
        let deaf = server.try_clone().unwrap();
        server.set_nonblocking(true).unwrap();
        let mut peer = Peer::new(UnixStream::from_std(server).unwrap());
        let conn = Connection::new();
        let connecting = conn.aio_connect_socket(OwnedFd::from(client)).unwrap();
        peer.handshake(style, info(SIZE), &[]).await.unwrap();
        connecting.await.unwrap();
        let read = tokio::spawn(conn.read(0, 512).into_future());
        peer.expect_command(Command::READ).await.unwrap();
        deaf.shutdown(std::net::Shutdown::Read).unwrap();
        // It could still send: nothing but our writing can tell.
        assert_eq!(is_lost(conn.flush().await), io::ErrorKind::BrokenPipe);
        assert_eq!(is_lost(read.await.unwrap()), io::ErrorKind::BrokenPipe);
        assert_eq!(conn.state(), State::Dead);
        peer.expect_end().await.unwrap();
    }
}

#[test]
fn w10_a_server_that_vanishes_is_given_up_at_the_deadline() {
    paused(&STYLES, async |style| {
        let (client, mut near) = duplex(1 << 16);
        let (mut far, server) = duplex(1 << 16);
        // From some moment on nothing gets through, and nobody is told.
        let (cut, is_cut) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(async move {
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                _ = is_cut => std::future::pending().await,
            }
        });
        let conn = Connection::new();
        let connecting = conn.aio_connect_stream(client).unwrap();
        let mut peer = Peer::new(server);
        peer.handshake(style, info(SIZE), &[]).await.unwrap();
        connecting.await.unwrap();
        cut.send(()).unwrap();
        settle().await;
        let start = Instant::now();
        let patient = tokio::spawn(conn.flush().into_future());
        is_timeout(conn.read(0, 512).timeout(PATIENCE).await);
        assert_eq!(start.elapsed(), PATIENCE);
        is_timeout(patient.await.unwrap());
        assert_eq!(conn.state(), State::Dead);
    });
}

#[test]
fn w11_a_server_that_does_not_close_is_left_at_the_deadline() {
    paused(&STYLES, async |style| {
        let builder = Connection::builder().shutdown_timeout(PATIENCE);
        let (conn, mut peer) = Transport::Duplex.ready(style, builder).await;
        let start = Instant::now();
        let ends = tokio::spawn(conn.disconnect().into_future());
        peer.expect_command(Command::DISC).await.unwrap();
        ends.await.unwrap().unwrap();
        assert_eq!(start.elapsed(), PATIENCE);
        assert_eq!(conn.state(), State::Closed);
    });
}

#[test]
fn w12_disc_waits_for_what_is_in_flight() {
    each_on_one_thread(&STYLES, async |style, transport| {
        let (conn, mut peer) = transport.ready(style, Connection::builder()).await;
        let reads = reads(&conn, 3);
        let heads = heads(&mut peer, Command::READ, 3).await;
        let ends = tokio::spawn(conn.disconnect().into_future());
        settle().await;
        assert!(matches!(conn.flush().await, Err(Error::Closed(_))));
        for head in heads {
            settle().await;
            assert!(!ends.is_finished());
            peer.send_data(&head, &pattern(head.offset, 4096))
                .await
                .unwrap();
        }
        for (i, read) in (0..).zip(reads) {
            assert_eq!(read.await.unwrap().unwrap()[..], pattern(i * 4096, 4096));
        }
        peer.expect_command(Command::DISC).await.unwrap();
        drop(peer);
        ends.await.unwrap().unwrap();
        assert_eq!(conn.state(), State::Closed);
    });
}
