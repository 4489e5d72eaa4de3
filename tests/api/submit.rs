//! Requests that are queued before anybody waits for them.

use std::time::Duration;

use futures::FutureExt;
use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Command, ReplyStyle};
use nbd_client::{Connection, Delivery, Error, InvalidRequest};
use tokio::time::timeout;

use crate::support::*;

/// Far beyond what anything here takes: whoever waits longer waits for ever.
const WATCHDOG: Duration = Duration::from_secs(60);

both_runtimes!(a_request_is_sent_before_its_future_is_polled);
async fn a_request_is_sent_before_its_future_is_polled() {
    for style in STYLES {
        let (conn, mut peer) = ready(style).await;
        let read = conn.read(512, 4).submit();
        let write = conn.write(0, "late").submit();
        let first = timeout(WATCHDOG, peer.expect_command(Command::READ));
        let head = first.await.expect("it was not sent").unwrap().head;
        peer.send_reply(data(style, &head, b"data")).await.unwrap();
        let head = peer.expect_command(Command::WRITE).await.unwrap().head;
        peer.acknowledge(&head).await.unwrap();
        // The answers may be there by now.
        settle().await;
        assert_eq!(&read.await.unwrap()[..], b"data");
        write.await.unwrap();
        assert_eq!(conn.in_flight(), 0);
    }
}

#[tokio::test]
async fn what_fails_at_once_fails_when_it_is_awaited() {
    let conn = Connection::new();
    let early = conn.read(0, 512).submit();
    conn.connect_stream(Server::new(Export::new(1 << 20)).connect())
        .await
        .unwrap();
    let outside = conn.read(1 << 20, 512).submit();
    let empty = conn.read(1 << 20, 0).submit();
    assert_matches!(
        early.await,
        Err(Error::Invalid(InvalidRequest::State { .. }))
    );
    assert_matches!(
        outside.await,
        Err(Error::Invalid(InvalidRequest::OutOfBounds { .. }))
    );
    assert!(empty.await.unwrap().is_empty());
    let mut twice = conn.read(1 << 20, 0).submit();
    (&mut twice).await.unwrap();
    assert_matches!(
        (&mut twice).await,
        Err(Error::Invalid(InvalidRequest::Argument { .. }))
    );
}

#[tokio::test]
async fn without_room_it_waits_in_line_and_is_sent_though_nobody_polls() {
    let style = ReplyStyle::Structured;
    let (conn, mut peer) = ready_with(builder(style).max_in_flight(1), style).await;
    let first = conn.read(0, 4).submit();
    let given_up = conn.read(4, 4).submit();
    let second = conn.read(8, 4).submit();
    let head = peer.expect_request().await.unwrap().head;
    drop(given_up);
    peer.send_reply(data(style, &head, b"1111")).await.unwrap();
    let next = timeout(WATCHDOG, peer.expect_request());
    let head = next.await.expect("it was not sent").unwrap().head;
    assert_eq!(head.offset, 8, "what was given up in line is not sent");
    peer.send_reply(data(style, &head, b"2222")).await.unwrap();
    assert_eq!(&second.await.unwrap()[..], b"2222");
    assert_eq!(&first.await.unwrap()[..], b"1111");
}

#[tokio::test]
async fn dropping_gives_it_up_and_leaves_the_connection_usable() {
    let (conn, mut peer) = ready(ReplyStyle::Structured).await;
    drop(conn.write(0, "old!").submit());
    let head = peer.expect_command(Command::WRITE).await.unwrap().head;
    let new = conn.write(0, "new!").submit();
    settle().await;
    // It waits for the answer to the one that was given up.
    assert!(peer.expect_request().now_or_never().is_none());
    peer.acknowledge(&head).await.unwrap();
    let head = peer.expect_command(Command::WRITE).await.unwrap().head;
    peer.acknowledge(&head).await.unwrap();
    new.await.unwrap();
}

#[tokio::test]
async fn a_change_of_a_part_of_a_block_goes_all_the_way_by_itself() {
    let export = Export::new(1 << 20).block_sizes(4096, 4096, 1 << 20);
    let server = Server::new(export.clone());
    let conn = Connection::new();
    conn.connect_stream(server.connect()).await.unwrap();
    let write = conn.write(100, "hello").unaligned().submit();
    let written = async {
        while export.contents(100, 5) != b"hello" {
            tokio::task::yield_now().await;
        }
    };
    timeout(WATCHDOG, written)
        .await
        .expect("it was not written");
    write.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn its_deadline_counts_from_the_call() {
    let (conn, mut peer) = ready(ReplyStyle::Structured).await;
    let read = conn.read(0, 512).timeout(Duration::from_secs(5)).submit();
    peer.expect_request().await.unwrap();
    tokio::time::advance(Duration::from_secs(6)).await;
    let error = read.await.unwrap_err();
    assert_matches!(&error, Error::Timeout(..));
    assert_eq!(error.delivery(), Delivery::MaybeSent);
}

#[tokio::test]
async fn after_the_end_it_has_the_cause() {
    let (conn, mut peer) = ready(ReplyStyle::Structured).await;
    let read = conn.read(0, 512).submit();
    peer.expect_request().await.unwrap();
    drop(peer);
    conn.closed().await;
    let late = conn.read(0, 512).submit();
    assert_matches!(read.await, Err(Error::Disconnected(..)));
    let error = late.await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::NotSent);
}
