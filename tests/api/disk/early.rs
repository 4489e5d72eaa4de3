//! Flushes that a disk makes by itself, and what the next one says of them.

use std::sync::atomic::{AtomicBool, Ordering};

use nbd_client::testing::{Builder, Export, Server};
use nbd_client::{Error, wire::Command, wire::Errno};

use super::several::{Busy, over};
use super::*;
use crate::support::{assert_matches, settle};

/// Fails the first flush, if it is to.
fn failing(export: &Export, fails: bool) -> Builder {
    let fails = AtomicBool::new(fails);
    Server::builder()
        .export("", export.clone())
        .fail_with(move |request| {
            let is_it = request.command == Command::FLUSH && fails.swap(false, Ordering::SeqCst);
            is_it.then(|| (Errno::EIO, "bad disk".into()))
        })
}

/// The next flushes say that one has failed, until it is forgiven.
async fn says_so(disk: &Disk) {
    for _ in 0..2 {
        let flush = watch(disk.flush().into_future()).await;
        assert_matches!(flush, Err(Error::DurabilityUnknown(lost)) if lost.failure().is_some());
    }
    disk.clear_flush_error();
    watch(disk.flush().into_future()).await.unwrap();
}

both_runtimes!(a_failed_flush_of_a_full_journal_is_told_by_the_next_one);
async fn a_failed_flush_of_a_full_journal_is_told_by_the_next_one() {
    let export = Export::new(SIZE);
    let server = failing(&export, true).build();
    let disk = builder().journal(8192);
    let disk = watch(disk.open(Place::of(&server).connector())).await;
    let disk = disk.unwrap();
    // The second flush begins when all is known of the first one.
    watch(async {
        while export.counters().flushes < 2 {
            disk.write(0, vec![1; 8192]).await.unwrap();
        }
    })
    .await;
    says_so(&disk).await;
}

both_runtimes!(a_failed_flush_before_a_read_is_told_by_the_next_one);
async fn a_failed_flush_before_a_read_is_told_by_the_next_one() {
    let exports = [shared(), shared()];
    let servers = [(0, true), (1, false)].map(|(at, fails)| failing(&exports[at], fails).build());
    let disk = over(builder(), &servers).await;
    watch(disk.write(0, "one").into_future()).await.unwrap();
    let busy = Busy::link(&disk, &servers[0]).await;
    watch(disk.write(4096, "two").into_future()).await.unwrap();
    busy.end().await;
    // It needs a flush, which the first link takes.
    watch(disk.read(0, 8192).into_future()).await.unwrap();
    let flushes = exports.each_ref().map(|export| export.counters().flushes);
    assert_eq!(flushes, [1, 0]);
    // The next one goes over the other link, which knows of no failure.
    let busy = Busy::link(&disk, &servers[0]).await;
    says_so(&disk).await;
    assert_eq!(exports[0].counters().flushes, 1);
    busy.end().await;
}

// Each change that is not next to another one is remembered until it is flushed.
#[tokio::test]
async fn too_much_to_be_remembered_is_flushed() {
    const MOST: u64 = 1 << 16;
    let export = Export::new(4 * MOST);
    let server = failing(&export, true).build();
    let disk = watch(builder().open(Place::of(&server).connector())).await;
    let disk = disk.unwrap();
    let write = async |at: u64| watch(disk.write(2 * at, "x").into_future()).await.unwrap();
    for at in 0..MOST {
        write(at).await;
    }
    settle().await;
    assert_eq!(export.counters().flushes, 0);
    watch(async {
        for at in (MOST..2 * MOST).cycle() {
            write(at).await;
            if export.counters().flushes >= 2 {
                break;
            }
        }
    })
    .await;
    says_so(&disk).await;
    assert_eq!(disk.status().unflushed_bytes, 0);
}
