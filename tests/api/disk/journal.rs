//! What becomes of a journal that is being written again.

use nbd_client::testing::{Export, Server};
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{Command, Errno, TransmissionFlags as Flags};
use nbd_client::{Connection, Error, Fence};
use std::slice::from_ref;
use tokio_util::io::InspectReader;

use super::*;
use crate::support::{assert_matches, settle};

const LONG: Duration = Duration::from_secs(3600);

/// A server that hangs up at the first write; `after` takes its place then.
fn hangs_up_on_write(place: &Place, after: &Server) -> Server {
    let (next, after) = (place.clone(), after.clone());
    let hangs_up = move |request: &RequestHead| {
        let is_write = request.command == Command::WRITE;
        if is_write {
            next.put(Some(&after));
        }
        is_write
    };
    let server = Server::builder().export("", Export::new(SIZE));
    server.hang_up_on(hangs_up).build()
}

/// A server that takes writes and never answers them.
fn silent() -> Server {
    let is_late = |request: &RequestHead| match request.command {
        Command::WRITE => LONG,
        _ => Duration::ZERO,
    };
    let server = Server::builder().export("", Export::new(SIZE));
    server.latency_with(is_late).build()
}

both_runtimes!(a_change_that_waits_does_not_overtake_a_ghost_of_the_journal);
async fn a_change_that_waits_does_not_overtake_a_ghost_of_the_journal() {
    let (disk, server, place) = open(builder().journal(1 << 20)).await;
    let mut events = disk.events();
    disk.write(0, "older").await.unwrap();
    place.put(None);
    server.hang_up();
    lost(&mut events).await;
    // Its turn has come, and it waits for a connection.
    let newer = disk.write(0, "newer").submit();
    while disk.status().changes == 0 {
        tokio::task::yield_now().await;
    }
    let last = Server::new(Export::new(SIZE));
    place.put(Some(&hangs_up_on_write(&place, &last)));
    let error = watch(newer).await.unwrap_err();
    assert_matches!(error, Error::Held { generation: 2, .. });
    assert_eq!(disk.status().held, from_ref(&(0..5)));
}

both_runtimes!(a_change_that_failed_is_not_undone);
async fn a_change_that_failed_is_not_undone() {
    let server = Server::builder()
        .export("", Export::new(SIZE))
        .fail_with(|request| (request.length == 6).then(|| (Errno::EIO, String::new())))
        .build();
    let place = Place::of(&server);
    let disk = builder().journal(1 << 20).open(place.connector());
    let disk = watch(disk).await.unwrap();
    disk.write(0, "older").await.unwrap();
    disk.write(8192, "older").await.unwrap();
    // Nobody knows how much of it was written.
    assert_matches!(disk.write(0, "newer!").await, Err(Error::Request(_)));
    let next = Export::new(SIZE);
    place.put(Some(&Server::new(next.clone())));
    server.hang_up();
    let flush = watch(disk.flush().into_future()).await;
    assert_matches!(flush, Err(Error::DurabilityUnknown(lost)) if lost.ranges() == from_ref(&(0..5)));
    assert_eq!(next.contents(0, 5), [0; 5]);
    assert_eq!(next.contents(8192, 5), b"older"[..]);
}

both_runtimes!(a_change_that_was_refused_does_not_overtake_a_ghost_of_the_journal);
async fn a_change_that_was_refused_does_not_overtake_a_ghost_of_the_journal() {
    let (disk, server, place) = open(builder().journal(1 << 20)).await;
    disk.write(0, "older").await.unwrap();
    let last = Server::new(Export::new(SIZE));
    place.put(Some(&hangs_up_on_write(&place, &last)));
    server.shut_down();
    let error = watch(disk.write(0, "newer").into_future()).await;
    assert_matches!(error, Err(Error::Held { .. }));
}

both_runtimes!(a_fence_ends_the_ghosts_of_the_journal);
async fn a_fence_ends_the_ghosts_of_the_journal() {
    let fence = Fence::by(|_| async { Ok(()) });
    let (disk, server, place) = open(builder().journal(1 << 20).fence(fence)).await;
    let mut events = disk.events();
    disk.write(0, "older").await.unwrap();
    let last = Server::new(Export::new(SIZE));
    place.put(Some(&hangs_up_on_write(&place, &last)));
    server.hang_up();
    recovered(&mut events).await;
    watch(disk.write(0, "newer").into_future()).await.unwrap();
}

both_runtimes!(zeroes_are_written_again_where_a_server_has_no_command_for_them);
async fn zeroes_are_written_again_where_a_server_has_no_command_for_them() {
    let export = || Export::new(SIZE).flags(Flags::HAS_FLAGS | Flags::SEND_FLUSH);
    let place = Place::of(&Server::new(export()));
    let disk = builder().journal(1 << 20).open(place.connector()).await;
    let disk = disk.unwrap();
    let mut events = disk.events();
    watch(disk.write_zeroes(0, 4096).or_write().into_future())
        .await
        .unwrap();
    let restarted = export();
    restarted.fill(0, 4096, 9);
    let server = place.server();
    place.put(Some(&Server::new(restarted.clone())));
    server.hang_up();
    recovered(&mut events).await;
    assert_eq!(restarted.contents(0, 4096), [0; 4096]);
}

#[tokio::test(start_paused = true)]
async fn the_outage_is_over_although_a_server_takes_the_journal_and_is_silent() {
    let retry = quick().outage(Duration::from_secs(10));
    let (disk, server, place) = open(builder().journal(1 << 20).retry(retry)).await;
    disk.write(0, "older").await.unwrap();
    place.put(Some(&silent()));
    server.hang_up();
    let error = watch(disk.read(4096, 1).into_future()).await.unwrap_err();
    assert!(error.to_string().contains("gave up after"), "{error}");
    assert_eq!(
        disk.status().held,
        from_ref(&(0..5)),
        "it may still be written"
    );
}

both_runtimes!(a_disk_is_closed_although_a_server_takes_the_journal_and_is_silent);
async fn a_disk_is_closed_although_a_server_takes_the_journal_and_is_silent() {
    let first = Server::new(Export::new(SIZE));
    let place = Place::of(&first);
    let (servers, is_open) = (place.clone(), Arc::new(()));
    let open = is_open.clone();
    let connector = Connector::stream(move || {
        let (stream, open) = (servers.server().connect(), open.clone());
        let keep = move |_: &[u8]| drop(open.clone());
        async move { Ok(InspectReader::new(stream, keep)) }
    });
    let link = Connection::builder().shutdown_timeout(Duration::ZERO);
    let builder = builder().journal(1 << 20).link(link);
    let disk = watch(builder.open(connector)).await.unwrap();
    disk.write(0, "older").await.unwrap();
    let silent = silent();
    place.put(Some(&silent));
    first.hang_up();
    watch(silent.received(1)).await;
    let lost = watch(disk.close()).await;
    assert_matches!(lost, Err(Error::DurabilityUnknown(lost)) if lost.ranges() == from_ref(&(0..5)));
    // Nothing is left open although there is still a handle.
    watch(async {
        while Arc::strong_count(&is_open) > 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(disk);
}

both_runtimes!(what_a_server_cannot_take_of_the_journal_may_be_lost);
async fn what_a_server_cannot_take_of_the_journal_may_be_lost() {
    let (disk, server, place) = open(builder().journal(1 << 20)).await;
    let mut events = disk.events();
    disk.write(0, "first").await.unwrap();
    disk.write(4096, "other").await.unwrap();
    let export = Export::new(SIZE);
    let is_bad = |request: &RequestHead| request.command == Command::WRITE && request.offset == 0;
    let bad = Server::builder().export("", export.clone());
    let bad = bad.fail_with(move |request| is_bad(request).then(|| (Errno::EIO, String::new())));
    place.put(Some(&bad.build()));
    server.hang_up();
    recovered(&mut events).await;
    assert_eq!(&export.contents(4096, 5)[..], b"other");
    let error = watch(disk.flush().into_future()).await.unwrap_err();
    assert_matches!(error, Error::DurabilityUnknown(lost) if lost.ranges() == from_ref(&(0..5)));
}

both_runtimes!(of_a_write_in_parts_that_fails_the_others_are_on_their_way);
async fn of_a_write_in_parts_that_fails_the_others_are_on_their_way() {
    const PART: u64 = 1 << 16;
    let export = || Export::new(SIZE).block_sizes(1, 4096, 1 << 16);
    let server = Server::new(export());
    let place = Place::of(&server);
    let disk = builder().journal(1 << 20).open(place.connector());
    let disk = disk.await.unwrap();
    let mut events = disk.events();
    let parts = vec![1; 2 << 16];
    watch(disk.write(0, parts).into_future()).await.unwrap();
    // The first part is refused, and the second one is not answered before the connection is lost.
    let bad = Server::builder().export("", export());
    let bad = bad
        .fail_with(|request| (request.offset == 0).then(|| (Errno::EIO, String::new())))
        .latency_with(|request| match request.offset {
            PART => LONG,
            _ => Duration::ZERO,
        })
        .build();
    place.put(Some(&bad));
    server.hang_up();
    watch(bad.received(2)).await;
    settle().await;
    place.put(Some(&Server::new(export())));
    bad.hang_up();
    recovered(&mut events).await;
    assert_eq!(disk.status().held, from_ref(&(0..2 * PART)));
}

both_runtimes!(a_journal_has_a_limit);
async fn a_journal_has_a_limit() {
    const LIMIT: u64 = 4096;
    let cannot = Export::new(SIZE).flags(Flags::HAS_FLAGS);
    for export in [Export::new(SIZE), cannot] {
        let is_slow = |request: &RequestHead| match request.command {
            Command::FLUSH => LONG,
            _ => Duration::ZERO,
        };
        let server = Server::builder().export("", export);
        let server = server.latency_with(is_slow).build();
        let place = Place::of(&server);
        let disk = builder().journal(LIMIT).open(place.connector()).await;
        let disk = disk.unwrap();
        let mut events = disk.events();
        for at in 0..16 {
            watch(disk.write(at * 1024, vec![1; 1024]).into_future())
                .await
                .unwrap();
        }
        assert_eq!(disk.status().journal_bytes, LIMIT);
        // What had no room may be lost, and is not told twice.
        place.put(Some(&Server::new(Export::new(SIZE))));
        server.hang_up();
        recovered(&mut events).await;
        assert_eq!(disk.status().maybe_lost, from_ref(&(4096..16384)));
    }
}
