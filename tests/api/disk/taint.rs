//! Flushes that have failed: the next one says so, whoever has asked for them, and over whatever
//! connection.

use futures::FutureExt as _;
use nbd_client::testing::{Export, Server};
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{Command, Errno, TransmissionFlags as Flags};
use nbd_client::{Changes, Connection, Error, Event};
use std::slice::from_ref;

use super::several::{Busy, over};
use super::*;
use crate::support::{assert_matches, settle};

/// A server whose first flush fails.
fn fails_once(export: Export) -> Server {
    let count = Arc::new(Mutex::new(0));
    let fails = move |request: &RequestHead| {
        let mut count = count.lock().unwrap();
        *count += u32::from(request.command == Command::FLUSH);
        (request.command == Command::FLUSH && *count == 1).then(|| (Errno::EIO, "bad".into()))
    };
    Server::builder()
        .export("", export)
        .fail_with(fails)
        .build()
}

async fn open_at(server: &Server) -> Disk {
    watch(builder().open(Place::of(server).connector()))
        .await
        .unwrap()
}

/// Begins a flush, and gives it up while the server has it.
async fn given_up(disk: &Disk, server: &Server) {
    server.pause();
    let mut flush = Box::pin(disk.flush().into_future());
    assert!((&mut flush).now_or_never().is_none());
    watch(server.held(1)).await;
    drop(flush);
    server.resume();
}

/// The error of the next flush, which must name the one that has failed.
async fn tainted(disk: &Disk) {
    for _ in 0..2 {
        let error = watch(disk.flush().into_future()).await.unwrap_err();
        assert_matches!(error, Error::DurabilityUnknown(lost) if lost.failure().is_some());
    }
    disk.clear_flush_error();
    watch(disk.flush().into_future()).await.unwrap();
}

both_runtimes!(a_flush_in_place_of_fua_that_fails_is_not_forgotten);
async fn a_flush_in_place_of_fua_that_fails_is_not_forgotten() {
    let server = fails_once(Export::new(SIZE).flags(Flags::HAS_FLAGS | Flags::SEND_FLUSH));
    let link = Connection::builder().emulate_fua(true);
    let disk = builder().link(link).open(Place::of(&server).connector());
    let disk = disk.await.unwrap();
    disk.write(4096, "acknowledged").await.unwrap();
    watch(disk.write(0, "fua").fua().into_future())
        .await
        .unwrap_err();
    tainted(&disk).await;
}

both_runtimes!(a_failed_flush_of_a_caller_who_has_gone_is_not_forgotten);
async fn a_failed_flush_of_a_caller_who_has_gone_is_not_forgotten() {
    let server = fails_once(Export::new(SIZE));
    let disk = open_at(&server).await;
    disk.write(0, "acknowledged").await.unwrap();
    given_up(&disk, &server).await;
    tainted(&disk).await;
}

both_runtimes!(a_failed_flush_over_another_link_is_not_forgotten);
async fn a_failed_flush_over_another_link_is_not_forgotten() {
    let servers = [Server::new(shared()), fails_once(shared())];
    let disk = over(builder(), &servers).await;
    watch(disk.write(0, "acknowledged").into_future())
        .await
        .unwrap();
    let busy = Busy::link(&disk, &servers[0]).await;
    given_up(&disk, &servers[1]).await;
    busy.end().await;
    tainted(&disk).await;
}

both_runtimes!(a_flush_waits_for_those_over_other_links);
async fn a_flush_waits_for_those_over_other_links() {
    let export = shared();
    let servers = [Server::new(export.clone()), fails_once(shared())];
    let disk = over(builder(), &servers).await;
    watch(disk.write(0, "acknowledged").into_future())
        .await
        .unwrap();
    let busy = Busy::link(&disk, &servers[0]).await;
    servers[1].pause();
    let mut first = Box::pin(disk.flush().into_future());
    assert!((&mut first).now_or_never().is_none());
    watch(servers[1].held(1)).await;
    busy.end().await;
    // The server may have told the first one of what it has lost.
    let mut second = Box::pin(disk.flush().into_future());
    assert!((&mut second).now_or_never().is_none());
    watch(async {
        while export.counters().flushes == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    settle().await;
    assert!((&mut second).now_or_never().is_none());
    servers[1].resume();
    let error = watch(second).await.unwrap_err();
    assert_matches!(error, Error::DurabilityUnknown(lost) if lost.failure().is_some());
    watch(first).await.unwrap_err();
}

both_runtimes!(of_two_flushes_at_once_both_say_that_one_has_failed);
async fn of_two_flushes_at_once_both_say_that_one_has_failed() {
    let server = fails_once(Export::new(SIZE));
    let disk = open_at(&server).await;
    disk.write(0, "acknowledged").await.unwrap();
    server.pause();
    let mut flushes = [(), ()].map(|()| Box::pin(disk.flush().into_future()));
    for (at, flush) in flushes.iter_mut().enumerate() {
        assert!(flush.now_or_never().is_none());
        watch(server.held(at + 1)).await;
    }
    server.resume();
    let [first, second] = flushes;
    watch(second).await.unwrap_err();
    watch(first).await.unwrap_err();
    tainted(&disk).await;
}

both_runtimes!(a_failed_flush_over_a_connection_that_is_lost_is_not_forgotten);
async fn a_failed_flush_over_a_connection_that_is_lost_is_not_forgotten() {
    let server = fails_once(Export::new(SIZE));
    let disk = open_at(&server).await;
    let mut events = disk.events();
    disk.write(0, "acknowledged").await.unwrap();
    given_up(&disk, &server).await;
    // The answer has come before this one.
    watch(disk.ping()).await.unwrap();
    server.hang_up();
    recovered(&mut events).await;
    let error = watch(disk.flush().into_future()).await.unwrap_err();
    assert_matches!(error, Error::DurabilityUnknown(lost) if lost.failure().is_some());
}

both_runtimes!(what_may_be_lost_is_said_after_a_failed_flush_is_forgiven);
async fn what_may_be_lost_is_said_after_a_failed_flush_is_forgiven() {
    let server = fails_once(Export::new(SIZE));
    let disk = open_at(&server).await;
    let mut events = disk.events();
    disk.flush().await.unwrap_err();
    disk.write(0, "volatile").await.unwrap();
    server.hang_up();
    recovered(&mut events).await;
    let error = watch(disk.flush().into_future()).await.unwrap_err();
    assert_matches!(error, Error::DurabilityUnknown(lost) if lost.failure().is_some());
    disk.clear_flush_error();
    let error = watch(disk.flush().into_future()).await.unwrap_err();
    assert_matches!(error, Error::DurabilityUnknown(lost) if lost.ranges() == from_ref(&(0..8)));
}

both_runtimes!(what_may_be_lost_is_said_to_a_caller_who_listens);
async fn what_may_be_lost_is_said_to_a_caller_who_listens() {
    let (disk, server, _place) = open(builder()).await;
    let mut events = disk.events();
    disk.write(0, "volatile").await.unwrap();
    server.hang_up();
    recovered(&mut events).await;
    server.pause();
    let flush = disk.flush().submit();
    watch(server.held(1)).await;
    drop(flush);
    server.resume();
    let error = watch(disk.flush().into_future()).await.unwrap_err();
    assert_matches!(error, Error::DurabilityUnknown(lost) if lost.ranges() == from_ref(&(0..8)));
    watch(disk.flush().into_future()).await.unwrap();
}

both_runtimes!(what_may_be_lost_around_a_part_of_a_block_is_still_said);
async fn what_may_be_lost_around_a_part_of_a_block_is_still_said() {
    let export = || Export::new(SIZE).block_sizes(512, 4096, 1 << 20);
    let server = Server::new(export());
    let place = Place::of(&server);
    let disk = builder().changes(Changes::Repeat).open(place.connector());
    let disk = disk.await.unwrap();
    let mut events = disk.events();
    disk.write(0, vec![7; 512]).await.unwrap();
    place.put(Some(&Server::new(export())));
    server.hang_up();
    recovered(&mut events).await;
    // The block is written as a whole, with what the server has lost.
    watch(disk.write(100, "x").unaligned().into_future())
        .await
        .unwrap();
    let error = watch(disk.flush().into_future()).await.unwrap_err();
    assert_matches!(error, Error::DurabilityUnknown(lost) if lost.ranges() == [0..100, 101..512]);
}

both_runtimes!(closing_says_what_may_be_lost);
async fn closing_says_what_may_be_lost() {
    for is_back in [true, false] {
        let (disk, server, place) = open(builder()).await;
        let mut events = disk.events();
        disk.write(0, "volatile").await.unwrap();
        if !is_back {
            place.put(None);
        }
        server.hang_up();
        event(&mut events, |event| match event {
            Event::Recovered { .. } => is_back.then_some(()),
            Event::Lost { .. } => (!is_back).then_some(()),
            _ => None,
        })
        .await;
        let lost = watch(disk.close()).await;
        assert_matches!(lost, Err(Error::DurabilityUnknown(lost)) if lost.ranges() == from_ref(&(0..8)));
    }
}

both_runtimes!(zeroes_that_are_written_in_parts_leave_ghosts);
async fn zeroes_that_are_written_in_parts_leave_ghosts() {
    let flags = Flags::HAS_FLAGS | Flags::SEND_FLUSH;
    let late = |request: &RequestHead| match request.offset == 512 << 10 {
        true => Duration::from_secs(3600),
        false => Duration::ZERO,
    };
    let fails = |request: &RequestHead| request.command == Command::WRITE && request.offset == 0;
    let server = Server::builder()
        .export("", Export::new(SIZE).flags(flags))
        .fail_with(move |request| fails(request).then(|| (Errno::EIO, String::new())))
        .latency_with(late)
        .build();
    let disk = open_at(&server).await;
    let zeroes = disk.write_zeroes(0, SIZE).or_write().submit();
    watch(server.received(4)).await;
    // The first part has failed, and the third is still to come.
    watch(disk.ping()).await.unwrap();
    server.hang_up();
    watch(zeroes).await.unwrap_err();
    let next = watch(disk.write(600 << 10, vec![2; 4096]).into_future()).await;
    assert_matches!(next, Err(Error::Held { .. }));
}
