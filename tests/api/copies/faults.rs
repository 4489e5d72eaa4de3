//! Servers that fail, and servers that are lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::support::settle;
use nbd_client::wire::{Command, Errno};
use nbd_client::{Connector, Retry, Side};

both_runtimes!(a_read_that_fails_ends_the_copy_and_names_the_place);

async fn a_read_that_fails_ends_the_copy_and_names_the_place() {
    let server = bad_sectors(&sparse(1 << 20), &[524_288]);
    let (from, destination) = (connect_with(&server, builder()).await, Export::new(1 << 20));
    let error = failure(copy(&from, connect(&destination).await)).await;
    assert_eq!(error.side(), Some(Side::Source));
    let text = error.to_string();
    assert!(
        text.contains("the source of the copy: READ of 65536 bytes at offset 524288"),
        "{text}"
    );
}

/// A server whose sectors at these offsets cannot be read.
fn bad_sectors(export: &Export, sectors: &[u64]) -> Server {
    let sectors = sectors.to_vec();
    Server::builder()
        .export("", export.clone())
        .fail_with(move |request| {
            let range = request.offset..request.offset + u64::from(request.length as u32);
            let is_bad = request.command == Command::READ
                && sectors
                    .iter()
                    .any(|sector| sector + 512 > range.start && *sector < range.end);
            is_bad.then(|| (Errno::EIO, "bad sector".into()))
        })
        .build()
}

both_runtimes!(what_cannot_be_read_is_salvaged_as_zeroes);

async fn what_cannot_be_read_is_salvaged_as_zeroes() {
    let source = Export::new(1 << 20);
    source.fill(0, 1 << 20, 7);
    let server = bad_sectors(&source, &[4096, 4608, 65024, 65536, 524_288]);
    let (from, destination) = (connect_with(&server, builder()).await, Export::new(1 << 20));
    let to = connect(&destination).await;
    // Two of them are in one place, but in two requests.
    let copying = copy(&from, &to).salvage(true).request_size(65536);
    let copied = run(copying).await.unwrap();
    assert_eq!(
        copied.salvaged,
        [4096..5120, 65024..66048, 524_288..524_800]
    );
    let mut expected = vec![7; 1 << 20];
    for range in copied.salvaged {
        expected[range.start as usize..range.end as usize].fill(0);
    }
    assert!(destination.contents(0, 1 << 20) == expected);
    // A destination that fails is not salvaged.
    let full = Server::builder()
        .export("", destination)
        .fail_with(|request| {
            (request.command == Command::WRITE).then(|| (Errno::ENOSPC, "full".into()))
        });
    let to = connect_with(&full.build(), builder()).await;
    let error = failure(copy(&from, to).salvage(true)).await;
    assert_eq!(error.side(), Some(Side::Destination));
    let io = std::io::Error::from(Error::from(error.fault().clone()));
    assert_eq!(io.kind(), std::io::ErrorKind::StorageFull);
}

both_runtimes!(what_a_server_refuses_for_other_reasons_is_not_salvaged);

async fn what_a_server_refuses_for_other_reasons_is_not_salvaged() {
    let source = sparse(1 << 20);
    for errno in [Errno::EPERM, Errno::ENOMEM] {
        let refuses = Server::builder()
            .export("", source.clone())
            .fail_with(move |request| {
                (request.command == Command::READ).then(|| (errno, "not now".into()))
            });
        let from = connect_with(&refuses.build(), builder()).await;
        let copying = copy(from, Destination::nothing())
            .salvage(true)
            .sparse(None);
        let error = failure(copying).await;
        assert_eq!(error.side(), Some(Side::Source));
    }
}

both_runtimes!(a_source_that_cannot_say_where_it_is_zero_is_read);

async fn a_source_that_cannot_say_where_it_is_zero_is_read() {
    let (source, destination) = (sparse(1 << 20), Export::new(1 << 20));
    let asked = Arc::new(AtomicU64::new(0));
    let times = asked.clone();
    let server = Server::builder()
        .export("", source.clone())
        .max_extents(1)
        .fail_with(move |request| {
            let second = request.command == Command::BLOCK_STATUS
                && times.fetch_add(1, Ordering::SeqCst) == 1;
            second.then(|| (Errno::EIO, "no map".into()))
        });
    let from = connect_with(&server.build(), builder()).await;
    let copied = run(copy(from, connect(&destination).await)).await.unwrap();
    same(&source, &destination);
    assert_eq!(copied.status_failures, 1);
    assert_eq!(copied.data + copied.zeroes, 1 << 20);
}

both_runtimes!(fast_zeroes_are_asked_for_once_in_vain);

async fn fast_zeroes_are_asked_for_once_in_vain() {
    let source = sparse(128 << 20);
    for fast in [true, false] {
        let destination = Export::new(128 << 20).fast_zero(fast).log_requests(1000);
        destination.fill(0, 1 << 20, 9);
        destination.fill(127 << 20, 1 << 20, 9);
        let copying = copy(connect(&source).await, connect(&destination).await);
        run(copying.requests(1)).await.unwrap();
        same(&source, &destination);
        let log = destination.log();
        let zeroes = log.iter().filter(|it| it.command == Command::WRITE_ZEROES);
        let flag = nbd_client::wire::CommandFlags::FAST_ZERO;
        let (asked, plain) = zeroes.partition::<Vec<&_>, _>(|it| it.flags.contains(flag));
        assert_eq!(asked.len(), if fast { 6 } else { 1 }, "{asked:?}");
        assert_eq!(plain.is_empty(), fast);
        let no_hole = nbd_client::wire::CommandFlags::NO_HOLE;
        assert!(log.iter().all(|it| !it.flags.contains(no_hole)));
    }
}

/// A way to a server, and how often it was taken.
fn way(server: &Server) -> (Connector, Arc<AtomicU64>) {
    let (server, taken) = (server.clone(), Arc::new(AtomicU64::new(0)));
    let times = taken.clone();
    let connector = Connector::stream(move || {
        times.fetch_add(1, Ordering::SeqCst);
        let server = server.clone();
        async move { Ok(server.connect()) }
    });
    (connector, taken)
}

fn quick() -> Retry {
    Retry::default()
        .first(Duration::from_millis(1))
        .most(Duration::from_millis(5))
}

both_runtimes!(lost_connections_do_not_end_the_copy);

async fn lost_connections_do_not_end_the_copy() {
    let (source, destination) = (Export::new(8 << 20), Export::new(8 << 20));
    for block in 0..128 {
        source.fill(block * 65536, 65536, block as u8);
    }
    let frail = |export: &Export| {
        let (server, requests) = (
            Server::builder().export("", export.clone()),
            AtomicU64::new(0),
        );
        // It is gone before it answers every 300th request.
        let hangs_up = move |_: &_| requests.fetch_add(1, Ordering::SeqCst) % 300 == 299;
        server.hang_up_on(hangs_up).build()
    };
    let ((there, _), (here, taken)) = (way(&frail(&source)), way(&frail(&destination)));
    let copying = copy(there, here).retry(quick()).request_size(4096);
    let copied = run(copying).await.unwrap();
    same(&source, &destination);
    assert!(taken.load(Ordering::SeqCst) > 1, "it was lost");
    assert!(copied.repeated > 0, "{copied:?}");
    // The server still has these writes, as far as anybody knows.
    assert!(!copied.unfenced.is_empty());
}

/// The way to a server that is replaced.
fn replaced(place: &Arc<Mutex<Server>>) -> Connector {
    let place = place.clone();
    Connector::stream(move || {
        let server = place.lock().unwrap().clone();
        async move { Ok(server.connect()) }
    })
}

both_runtimes!(what_was_lost_with_a_server_is_copied_again);

async fn what_was_lost_with_a_server_is_copied_again() {
    // The first server forgets everything at half of the copy; only flushed writes would be kept.
    let (source, first, second) = (
        Export::new(4 << 20),
        Export::new(4 << 20),
        Export::new(4 << 20),
    );
    source.fill(0, 4 << 20, 5);
    let place = Arc::new(Mutex::new(Server::new(second.clone())));
    let (next, writes) = (place.lock().unwrap().clone(), AtomicU64::new(0));
    let replacing = place.clone();
    let old = Server::builder()
        .export("", first)
        .hang_up_on(move |request| {
            let is_write = request.command == Command::WRITE;
            let is_over = is_write && writes.fetch_add(1, Ordering::SeqCst) >= 32;
            if is_over {
                *replacing.lock().unwrap() = next.clone();
            }
            is_over
        })
        .build();
    *place.lock().unwrap() = old;
    let copying = copy(connect(&source).await, replaced(&place)).retry(quick());
    let copying = copying.request_size(65536).requests(1).connections(1);
    let copied = run(copying).await.unwrap();
    same(&source, &second);
    assert!(copied.repeated >= 2 << 20, "{copied:?}");
    assert_eq!(copied.data + copied.zeroes, copied.size);
}

both_runtimes!(what_is_lost_while_it_is_flushed_is_copied_again);

async fn what_is_lost_while_it_is_flushed_is_copied_again() {
    const HALF: u64 = 2 << 20;
    let (source, kept) = (Export::new(2 * HALF), Export::new(2 * HALF));
    source.fill(0, 2 * HALF, 5);
    let old = Server::builder()
        .export("", Export::new(2 * HALF))
        .latency(Duration::from_micros(300))
        .build();
    // The second server answers its first flush, and counts the writes that come after the second.
    let (flushes, later) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (flushed, written) = (flushes.clone(), later.clone());
    let new = Server::builder()
        .export("", kept.clone())
        .latency_with(move |request| match request.command {
            Command::FLUSH => match flushed.fetch_add(1, Ordering::SeqCst) {
                0 => Duration::ZERO,
                _ => Duration::from_secs(600),
            },
            Command::WRITE if flushed.load(Ordering::SeqCst) == 0 => Duration::ZERO,
            Command::WRITE => {
                written.fetch_add(flushed.load(Ordering::SeqCst) - 1, Ordering::SeqCst);
                Duration::from_millis(20)
            }
            _ => Duration::ZERO,
        })
        .build();
    // The last one has lost what the second was told after its first flush.
    let (content, is_lost) = (kept.clone(), AtomicBool::new(false));
    let last = Server::builder()
        .export("", kept.clone())
        .fail_with(move |_| {
            if !is_lost.swap(true, Ordering::SeqCst) {
                content.fill(0, HALF, 0);
            }
            None
        })
        .build();
    let place = Arc::new(Mutex::new(old.clone()));
    let copying = copy(connect(&source).await, replaced(&place)).retry(quick());
    let copying = copying.request_size(65536).requests(1).connections(1);
    let mut progress = Box::pin(copying.progress().updates(Duration::ZERO));
    let restarts = async move {
        use futures::StreamExt;
        while progress.next().await.is_some_and(|now| now.done < HALF) {}
        *place.lock().unwrap() = new.clone();
        old.hang_up();
        // What the first server has lost is written again, which takes longer than a flush is due.
        while later.load(Ordering::SeqCst) < 4 && progress.next().await.is_some() {}
        *place.lock().unwrap() = last;
        new.hang_up();
        assert_eq!(flushes.load(Ordering::SeqCst), 2);
        while progress.next().await.is_some() {}
    };
    let (copied, ()) = tokio::join!(run(copying), restarts);
    same(&source, &kept);
    let copied = copied.unwrap();
    assert!(copied.repeated > HALF, "{copied:?}");
}

both_runtimes!(a_copy_that_fails_leaves_nothing_on_its_way);

async fn a_copy_that_fails_leaves_nothing_on_its_way() {
    let source = Export::new(1 << 20);
    source.fill(0, 1 << 20, 7);
    let failures = Arc::new(AtomicU64::new(0));
    let failed = failures.clone();
    let there = Server::builder()
        .export("", source)
        .fail_with(move |request| {
            let is_third = request.command == Command::READ && request.offset == 131_072;
            failed.fetch_add(u64::from(is_third), Ordering::SeqCst);
            is_third.then(|| (Errno::EIO, "bad sector".into()))
        });
    let there = there.build();
    let here = Server::new(Export::new(1 << 20));
    let from = connect_with(&there, builder()).await;
    let to = connect_with(&here, builder()).await;
    here.pause();
    let copying = spawn(copy(&from, &to).request_size(65536).requests(8));
    watch(here.held(1)).await;
    here.release(1);
    watch(here.held(1)).await;
    // The third read fails while the second block is being written.
    watch(async {
        while failures.load(Ordering::SeqCst) == 0 || from.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    settle().await;
    assert!(!copying.is_finished());
    here.resume();
    watch(copying).await.unwrap().unwrap_err();
    assert_eq!(to.in_flight(), 0);
}

#[tokio::test]
async fn a_hole_is_no_reason_to_hold_others_up() {
    const HOLE: u64 = 1 << 42;
    let source = Export::new(HOLE);
    let from = connect(&source).await;
    let mut turns = 0;
    let others = async {
        loop {
            turns += 1;
            tokio::task::yield_now().await;
        }
    };
    let copied = tokio::select! {
        copied = run(copy(&from, Destination::nothing())) => copied.unwrap(),
        () = others => unreachable!(),
    };
    assert_eq!(copied.zeroes, HOLE);
    // One unit has 32 MiB at most, and a task does 128 things at a time.
    assert!(turns > HOLE / (32 << 20) / 256, "{turns}");
}

both_runtimes!(a_connection_that_is_lost_ends_the_copy);

async fn a_connection_that_is_lost_ends_the_copy() {
    let server = Server::new(sparse(1 << 20));
    server.pause();
    let from = connect_with(&server, builder()).await;
    let copying = spawn(copy(&from, Destination::nothing()));
    while from.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    server.hang_up();
    let error = watch(copying).await.unwrap().unwrap_err();
    assert!(error.is_fatal() && error.is_retryable(), "{error}");
}

both_runtimes!(a_difference_is_found);

async fn a_difference_is_found() {
    let (source, destination) = (Export::new(1 << 20), Export::new(1 << 20));
    source.fill(0, 1 << 20, 7);
    let (reads, spoiled) = (AtomicU64::new(0), destination.clone());
    let server = Server::builder()
        .export("", source)
        .fail_with(move |request| {
            // The first read of the comparison, which comes to that place later.
            let is_read = request.command == Command::READ;
            if is_read && reads.fetch_add(1, Ordering::SeqCst) == 16 {
                spoiled.fill(777_777, 1, 9);
            }
            None
        });
    let from = connect_with(&server.build(), builder()).await;
    let copying = copy(from, connect(&destination).await).verify(true);
    let error = failure(copying.request_size(65536).requests(1)).await;
    let is_there = matches!(error.fault(), CopyFault::Different { offset: 777_777 });
    assert!(is_there, "{error}");
}
