//! Whether a connection is quiet, and whether its server answers.

use std::time::Duration;

use futures::FutureExt;
use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Command, Errno, ReplyStyle, TransmissionFlags};
use nbd_client::{Connection, Error, InvalidRequest};
use tokio::time::timeout;

use crate::support::*;

/// Far beyond what anything here takes: whoever waits longer waits for ever.
const WATCHDOG: Duration = Duration::from_secs(60);

both_runtimes!(settled_waits_for_changes_begun_before_and_sends_nothing);
async fn settled_waits_for_changes_begun_before_and_sends_nothing() {
    for style in STYLES {
        let (conn, mut peer) = ready(style).await;
        // With nothing to wait for, it does not wait.
        timeout(WATCHDOG, conn.settled()).await.unwrap().unwrap();
        // One that is given up, and one that is not.
        drop(conn.write(0, "old").submit());
        let trim = conn.trim(4096, 4096).submit();
        let read = conn.read(0, 4).submit();
        let write = peer.expect_command(Command::WRITE).await.unwrap().head;
        let trimmed = peer.expect_command(Command::TRIM).await.unwrap().head;
        let reading = peer.expect_command(Command::READ).await.unwrap().head;
        let mut settled = Box::pin(conn.settled());
        let mut given_up = Box::pin(conn.settled());
        assert!(settled.as_mut().now_or_never().is_none());
        assert!(given_up.as_mut().now_or_never().is_none());
        let later = conn.write(8192, "later").submit();
        let other = peer.expect_command(Command::WRITE).await.unwrap().head;
        drop(given_up);
        peer.acknowledge(&trimmed).await.unwrap();
        trim.await.unwrap();
        assert!(settled.as_mut().now_or_never().is_none());
        // It fails, which is an answer.
        peer.send_error(&write, Errno::EIO, "").await.unwrap();
        timeout(WATCHDOG, settled).await.unwrap().unwrap();
        assert_eq!(conn.in_flight(), 2, "a read, and a later write");
        assert!(
            peer.expect_request().now_or_never().is_none(),
            "nothing is sent"
        );
        peer.send_reply(data(style, &reading, b"read"))
            .await
            .unwrap();
        peer.acknowledge(&other).await.unwrap();
        later.await.unwrap();
        read.await.unwrap();
    }
}

#[tokio::test]
async fn settled_waits_for_changes_that_wait_for_room() {
    let style = ReplyStyle::Structured;
    let (conn, mut peer) = ready_with(builder(style).max_in_flight(1), style).await;
    let read = conn.read(0, 4).submit();
    let write = conn.write(0, "wait").submit();
    let given_up = conn.write(0, "drop").submit();
    let head = peer.expect_command(Command::READ).await.unwrap().head;
    let mut settled = Box::pin(conn.settled());
    assert!(settled.as_mut().now_or_never().is_none());
    peer.send_reply(data(style, &head, b"read")).await.unwrap();
    let head = peer.expect_command(Command::WRITE).await.unwrap().head;
    drop(given_up);
    assert!(settled.as_mut().now_or_never().is_none());
    peer.acknowledge(&head).await.unwrap();
    timeout(WATCHDOG, settled).await.unwrap().unwrap();
    read.await.unwrap();
    write.await.unwrap();
}

both_runtimes!(what_was_answered_before_the_end_is_settled_after_it);
async fn what_was_answered_before_the_end_is_settled_after_it() {
    for breaks in [false, true] {
        let (conn, mut peer) = ready(ReplyStyle::Structured).await;
        let write = conn.write(0, "data").submit();
        let request = peer.expect_command(Command::WRITE).await.unwrap();
        peer.acknowledge(&request.head).await.unwrap();
        write.await.unwrap();
        let unanswered = breaks.then(|| conn.write(0, "more").submit());
        if breaks {
            peer.expect_command(Command::WRITE).await.unwrap();
        }
        drop(peer);
        conn.closed().await;
        assert_eq!(conn.settled().await.is_err(), breaks);
        drop(unanswered);
    }
}

#[tokio::test]
async fn settled_has_the_cause_of_the_end() {
    let new = Connection::new();
    let state = new.settled().await.unwrap_err();
    assert_matches!(state, Error::Invalid(InvalidRequest::State { .. }));
    let (conn, mut peer) = ready(ReplyStyle::Structured).await;
    let write = conn.write(0, "data").submit();
    peer.expect_command(Command::WRITE).await.unwrap();
    let settled = tokio::spawn({
        let conn = conn.clone();
        async move { conn.settled().await }
    });
    settle().await;
    drop(peer);
    let cause = timeout(WATCHDOG, settled).await.unwrap().unwrap();
    assert_matches!(cause, Err(Error::Disconnected(..)));
    assert_matches!(write.await, Err(Error::Disconnected(..)));
    assert_matches!(conn.settled().await, Err(Error::Disconnected(..)));
}

fn server(export: &Export, errno: Option<Errno>) -> Server {
    Server::builder()
        .export("", export.clone())
        .fail_with(move |_| errno.map(|errno| (errno, String::new())))
        .build()
}

async fn connect(export: &Export, errno: Option<Errno>) -> Connection {
    let conn = Connection::new();
    let stream = server(export, errno).connect();
    conn.connect_stream(stream).await.unwrap();
    conn
}

both_runtimes!(a_ping_is_one_small_read);
async fn a_ping_is_one_small_read() {
    for (export, length) in [
        (Export::new(1 << 20), 512),
        (Export::new(100), 100),
        (Export::new(1 << 20).block_sizes(4096, 4096, 1 << 20), 4096),
        (Export::new(1000).block_sizes(4096, 4096, 1 << 20), 1000),
    ] {
        let export = export.log_requests(2);
        let conn = connect(&export, None).await;
        conn.ping().await.unwrap();
        let log = export.log();
        assert_eq!(log.len(), 1);
        let head = &log[0];
        assert_eq!(
            (head.command, head.offset, head.length),
            (Command::READ, 0, length)
        );
    }
}

#[tokio::test]
async fn a_refusal_is_an_answer_but_the_end_is_none() {
    let export = Export::new(1 << 20);
    let conn = connect(&export, Some(Errno::EIO)).await;
    conn.ping().await.unwrap();
    let conn = connect(&export, Some(Errno::ESHUTDOWN)).await;
    let error = conn.ping().await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let (conn, peer) = ready(ReplyStyle::Simple).await;
    drop(peer);
    assert_matches!(conn.ping().await, Err(Error::Disconnected(..)));
    let new = Connection::new();
    assert_matches!(new.ping().await, Err(Error::Invalid(_)));
}

#[tokio::test]
async fn an_export_of_nothing_is_flushed() {
    let export = Export::new(0).log_requests(2);
    let conn = connect(&export, None).await;
    conn.ping().await.unwrap();
    assert_eq!(export.log()[0].command, Command::FLUSH);
    let poor = Export::new(0).flags(TransmissionFlags::HAS_FLAGS);
    let conn = connect(&poor, None).await;
    let error = conn.ping().await.unwrap_err();
    assert_matches!(error, Error::Invalid(InvalidRequest::NotNegotiated(_)));
    assert!(conn.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_silent_is_not_alive_and_may_come_back() {
    let style = ReplyStyle::Structured;
    let (conn, mut peer) = ready(style).await;
    let silent = timeout(Duration::from_secs(5), conn.ping()).await;
    assert!(silent.is_err());
    let head = peer.expect_command(Command::READ).await.unwrap().head;
    peer.send_reply(data(style, &head, &[0; 512]))
        .await
        .unwrap();
    let pong = tokio::spawn({
        let conn = conn.clone();
        async move { conn.ping().await }
    });
    let head = peer.expect_command(Command::READ).await.unwrap().head;
    peer.send_reply(data(style, &head, &[0; 512]))
        .await
        .unwrap();
    pong.await.unwrap().unwrap();
}
