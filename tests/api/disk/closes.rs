//! What the end of a disk waits for.

use std::io;
use std::sync::Mutex;

use futures::FutureExt as _;
use nbd_client::testing::{Export, Peer, Server};
use nbd_client::wire::{Command, ReplyStyle};
use nbd_client::{Changes, Connector, Delivery, Error, Phase};
use tokio::time::Instant;

use super::*;
use crate::support::{INFO, assert_matches, settle};

both_runtimes!(close_waits_for_changes_that_were_not_sent_yet);
async fn close_waits_for_changes_that_were_not_sent_yet() {
    let export = Export::new(SIZE);
    let server = Server::new(export.clone());
    let disk = watch(builder().open(Place::of(&server).connector())).await;
    let disk = disk.unwrap();
    server.pause();
    let first = begun(disk.write(0, "first"));
    watch(server.held(1)).await;
    // It waits for the other one.
    let mut later = disk.write(0, "later").into_future();
    assert!((&mut later).now_or_never().is_none());
    let closing = disk.clone();
    let mut close = Box::pin(async move { closing.close().await });
    assert!((&mut close).now_or_never().is_none());
    assert!(disk.ended().is_none(), "it has not ended yet");
    server.resume();
    watch(close).await.unwrap();
    watch(first).await.unwrap().unwrap();
    watch(later).await.unwrap();
    assert_eq!(&export.contents(0, 5)[..], b"later");
    assert_eq!(export.counters().flushes, 0);
    watch(server.connected(0)).await;
    assert_matches!(disk.write(0, "x").await, Err(Error::Closed(_)));
    watch(disk.close()).await.unwrap();
}

both_runtimes!(a_request_that_is_awaited_keeps_the_disk);
async fn a_request_that_is_awaited_keeps_the_disk() {
    let (disk, server, _place) = open(builder()).await;
    server.pause();
    let first = begun(disk.write(0, "first"));
    watch(server.held(1)).await;
    // It waits for the other one.
    let mut later = disk.write(0, "later").into_future();
    assert!((&mut later).now_or_never().is_none());
    let mut chunks = Box::pin(disk.read_structured(4096, 512));
    assert!(
        futures::StreamExt::next(&mut chunks)
            .now_or_never()
            .is_none()
    );
    drop(disk);
    settle().await;
    server.resume();
    watch(first).await.unwrap().unwrap();
    watch(later).await.unwrap();
    let chunk = watch(futures::StreamExt::next(&mut chunks)).await;
    chunk.unwrap().unwrap();
    drop(chunks);
    watch(server.connected(0)).await;
}

both_runtimes!(close_waits_for_changes_that_are_sent_again);
async fn close_waits_for_changes_that_are_sent_again() {
    let (disk, server, place) = open(builder().changes(Changes::Repeat)).await;
    let mut events = disk.events();
    server.pause();
    let write = begun(disk.write(0, "again"));
    watch(server.held(1)).await;
    place.put(None);
    server.hang_up();
    lost(&mut events).await;
    let closing = disk.clone();
    let mut close = Box::pin(async move { closing.close().await });
    assert!((&mut close).now_or_never().is_none());
    let next = Export::new(SIZE);
    place.put(Some(&Server::new(next.clone())));
    watch(close).await.unwrap();
    watch(write).await.unwrap().unwrap();
    assert_eq!(&next.contents(0, 5)[..], b"again");
}

#[tokio::test(start_paused = true)]
async fn close_waits_no_longer_than_was_said() {
    let limit = Duration::from_secs(20);
    let (disk, server, _place) = open(builder().close_timeout(limit)).await;
    server.pause();
    let first = begun(disk.write(0, "first"));
    watch(server.held(1)).await;
    let later = begun(disk.write(0, "later"));
    let begin = Instant::now();
    let error = watch(disk.close()).await.unwrap_err();
    assert_matches!(error, Error::Timeout(Phase::Shutdown, _));
    let waited = begin.elapsed();
    assert!(limit <= waited && waited < limit * 2, "{waited:?}");
    // One was never sent.
    let later = watch(later).await.unwrap().unwrap_err();
    assert_eq!(later.delivery(), Delivery::NotSent, "{later}");
    let first = watch(first).await.unwrap().unwrap_err();
    assert_matches!(first, Error::OutcomeUnknown(_));
    assert!(first.to_string().contains("within 20 s"), "{first}");
    server.resume();
    watch(server.connected(0)).await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_dropped_leaves_a_server_that_is_silent() {
    let limit = Duration::from_secs(20);
    let (mut peer, stream) = Peer::pair();
    let stream = Mutex::new(Some(stream));
    let connector = Connector::stream(move || {
        let stream = stream.lock().unwrap().take();
        async move { stream.ok_or_else(|| io::Error::other("there was one only")) }
    });
    let opening = builder().close_timeout(limit).open(connector);
    let handshake = peer.handshake(ReplyStyle::Structured, INFO, &[]);
    let (disk, greeted) = tokio::join!(watch(opening), handshake);
    greeted.unwrap();
    let disk = disk.unwrap();
    let write = disk.write(0, "x").submit();
    peer.expect_command(Command::WRITE).await.unwrap();
    // A task carries the change to its end.
    drop(write);
    drop(disk);
    let begin = Instant::now();
    watch(peer.expect_end()).await.unwrap();
    assert_eq!(begin.elapsed(), limit);
}
