//! What a flush says after a connection was lost.

use nbd_client::testing::{Export, Server};
use nbd_client::{Error, wire::Command};

use super::*;
use crate::support::assert_matches;

both_runtimes!(a_flush_says_once_what_may_be_lost);
async fn a_flush_says_once_what_may_be_lost() {
    let (disk, server, _place) = open(builder()).await;
    let mut events = disk.events();
    disk.write(0, vec![1; 512]).await.unwrap();
    disk.flush().await.unwrap();
    disk.write(4096, vec![1; 512]).await.unwrap();
    disk.write_zeroes(8192, 512).await.unwrap();
    server.hang_up();
    recovered(&mut events).await;
    let error = watch(disk.flush().into_future()).await.unwrap_err();
    assert_matches!(&error, Error::DurabilityUnknown(lost) if lost.ranges() == [4096..4608, 8192..8704]);
    assert!(!error.is_fatal() && error.has_unflushed_writes());
    watch(disk.flush().into_future()).await.unwrap();
}

both_runtimes!(a_journal_is_written_again_before_anything_else);
async fn a_journal_is_written_again_before_anything_else() {
    let (disk, server, place) = open(builder().journal(1 << 20)).await;
    let mut events = disk.events();
    disk.write(0, "durable").await.unwrap();
    disk.flush().await.unwrap();
    disk.write(4096, "volatile").await.unwrap();
    assert_eq!(disk.status().journal_bytes, 8);
    // A server that has lost what was not flushed.
    let export = Export::new(SIZE);
    export.write(0, "durable");
    place.put(Some(&Server::new(export.clone())));
    server.hang_up();
    recovered(&mut events).await;
    assert_eq!(&export.contents(4096, 8)[..], b"volatile");
    watch(disk.flush().into_future()).await.unwrap();
    assert_eq!(disk.status().journal_bytes, 0);
}

both_runtimes!(a_journal_that_was_being_written_again_is_still_kept);
async fn a_journal_that_was_being_written_again_is_still_kept() {
    let (disk, server, place) = open(builder().journal(1 << 20)).await;
    let mut events = disk.events();
    watch(disk.write(4096, "volatile").into_future())
        .await
        .unwrap();
    // Two servers that have lost it. The first is gone while it is written again.
    let last = Server::new(Export::new(SIZE));
    let (next, after) = (place.clone(), last.clone());
    let busy = Server::builder()
        .export("", Export::new(SIZE))
        .hang_up_on(move |request| {
            next.put(Some(&after));
            request.command == Command::WRITE
        })
        .build();
    place.put(Some(&busy));
    server.hang_up();
    recovered(&mut events).await;
    let found = watch(disk.read(4096, 8).into_future()).await.unwrap();
    assert_eq!(&found[..], b"volatile");
    watch(disk.flush().into_future()).await.unwrap();
}

both_runtimes!(a_journal_that_is_full_is_flushed);
async fn a_journal_that_is_full_is_flushed() {
    let server = Server::new(Export::new(SIZE).log_requests(100));
    let place = Place::of(&server);
    let disk = builder()
        .journal(4096)
        .open(place.connector())
        .await
        .unwrap();
    for at in 0..5 {
        disk.write(at * 4096, vec![1; 4096]).await.unwrap();
    }
    watch(async {
        while disk.status().journal_bytes > 4096 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

both_runtimes!(a_flush_waits_for_changes_that_were_begun_before_it);
async fn a_flush_waits_for_changes_that_were_begun_before_it() {
    let server = Server::new(Export::new(SIZE).log_requests(100));
    let place = Place::of(&server);
    let disk = builder().open(place.connector()).await.unwrap();
    server.pause();
    let write = begun(disk.write(0, "data"));
    watch(server.held(1)).await;
    let flush = begun(disk.flush());
    let read = begun(disk.read(0, 4));
    watch(server.held(2)).await;
    server.resume();
    watch(flush).await.unwrap().unwrap();
    watch(write).await.unwrap().unwrap();
    watch(read).await.unwrap().unwrap();
}

both_runtimes!(a_failed_flush_taints_the_disk_until_it_is_forgiven);
async fn a_failed_flush_taints_the_disk_until_it_is_forgiven() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let fails = Arc::new(AtomicBool::new(true));
    let once = fails.clone();
    let server = Server::builder()
        .export("", Export::new(SIZE))
        .fail_with(move |request| {
            let fails = request.command == Command::FLUSH && once.swap(false, Ordering::Relaxed);
            fails.then(|| (nbd_client::wire::Errno::EIO, "bad".into()))
        })
        .build();
    let place = Place::of(&server);
    let disk = builder().open(place.connector()).await.unwrap();
    disk.write(0, "x").await.unwrap();
    assert_matches!(disk.flush().await, Err(Error::Request(_)));
    for _ in 0..2 {
        assert_matches!(disk.flush().await, Err(Error::DurabilityUnknown(lost)) if lost.failure().is_some());
    }
    let mut events = disk.events();
    server.hang_up();
    recovered(&mut events).await;
    assert_matches!(
        watch(disk.flush().into_future()).await,
        Err(Error::DurabilityUnknown(_))
    );
    disk.clear_flush_error();
    watch(disk.flush().into_future()).await.unwrap();
}
