//! Connections that are silent, and servers that want to be left.

use futures::StreamExt;
use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Command, TransmissionFlags as Flags};
use nbd_client::{Connection, Delivery, Error};

use super::*;
use crate::support::assert_matches;

const SHORT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(3600);

/// A disk that notices silence soon, and listens on for so long.
fn watchful(drain: Duration) -> DiskBuilder {
    let link = Connection::builder().stall_timeout(Duration::from_millis(300));
    builder().link(link).drain(drain)
}

async fn stalled(events: &mut Events, generation: u64) {
    let is_it = |event| matches!(event, Event::Stalled { generation: of } if of == generation);
    event(events, |event| is_it(event).then_some(())).await;
}

async fn connected(events: &mut Events, generation: u64) {
    let is_it = |event| matches!(event, Event::Connected { generation: of } if of == generation);
    event(events, |event| is_it(event).then_some(())).await;
}

both_runtimes!(a_silent_connection_that_speaks_again_is_used_again);
async fn a_silent_connection_that_speaks_again_is_used_again() {
    let (disk, server, place) = open(watchful(LONG)).await;
    let mut events = disk.events();
    place.put(None);
    server.pause();
    // Both at once: silence may be noticed before another task has begun its request.
    let (write, read) = (disk.write(0, "late").submit(), disk.read(4096, 4).submit());
    watch(server.held(2)).await;
    stalled(&mut events, 1).await;
    let next = begun(disk.read(8192, 4));
    assert_eq!(disk.status().links, 0);
    server.resume();
    // Nothing is in doubt, and nothing was lost.
    watch(write).await.unwrap();
    watch(read).await.unwrap();
    watch(next).await.unwrap().unwrap();
    connected(&mut events, 1).await;
    let status = disk.status();
    assert_eq!((status.generation, status.held.len()), (1, 0));
    watch(disk.flush().into_future()).await.unwrap();
    assert_eq!(&disk.read(0, 4).await.unwrap()[..], b"late");
}

both_runtimes!(what_changes_nothing_leaves_a_silent_connection);
async fn what_changes_nothing_leaves_a_silent_connection() {
    let export = Export::new(SIZE);
    let (silent, other) = (Server::new(export.clone()), Server::new(export));
    let place = Place::of(&silent);
    let disk = watchful(LONG).open(place.connector()).await.unwrap();
    let mut events = disk.events();
    place.put(Some(&other));
    silent.pause();
    let (read, flush) = (begun(disk.read(0, 4)), begun(disk.flush()));
    watch(silent.held(1)).await;
    watch(read).await.unwrap().unwrap();
    watch(flush).await.unwrap().unwrap();
    stalled(&mut events, 1).await;
    // A new change goes over the new connection, although the old one is still there.
    watch(disk.write(0, "x").into_future()).await.unwrap();
    assert!(disk.status().generation >= 2);
    silent.resume();
    watch(silent.connected(0)).await;
    watch(disk.close()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_came_while_the_process_was_stopped_is_read_before_silence_is_believed() {
    let link = Connection::builder().stall_timeout(Duration::from_secs(10));
    let (disk, server, _place) = open(builder().link(link)).await;
    let mut events = disk.events();
    server.pause();
    let read = begun(disk.read(0, 4));
    watch(server.held(1)).await;
    // The silence is noticed, and then the process is stopped. The clock has passed the limit when it
    // goes on, and the keeper of the disk gets its turn before the reply is there.
    tokio::time::sleep(Duration::from_secs(3)).await;
    tokio::time::advance(Duration::from_secs(10)).await;
    server.resume();
    watch(read).await.unwrap().unwrap();
    watch(disk.close()).await.unwrap();
    assert_matches!(events.next().await, None);
}

/// A disk with a change that is not flushed, whose server has fallen silent. Another server takes
/// connections in its place. The first one holds two replies: to a read, and to the question whether it
/// is still there.
async fn in_doubt() -> (Disk, Server) {
    let export = Export::new(SIZE);
    let (silent, other) = (Server::new(export.clone()), Server::new(export));
    let place = Place::of(&silent);
    let disk = watchful(LONG).open(place.connector()).await.unwrap();
    disk.write(0, "kept").await.unwrap();
    place.put(Some(&other));
    silent.pause();
    drop(begun(disk.read(0, 4)));
    watch(silent.held(2)).await;
    assert_eq!(other.connections(), 1);
    (disk, silent)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_again_has_lost_nothing() {
    let (disk, silent) = in_doubt().await;
    let mut events = disk.events();
    silent.resume();
    connected(&mut events, 1).await;
    watch(disk.flush().into_future()).await.unwrap();
    let status = disk.status();
    assert_eq!((status.links, status.generation), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_again_may_have_lost_what_was_not_flushed() {
    let (disk, _silent) = in_doubt().await;
    let flush = watch(disk.flush().into_future()).await;
    assert_matches!(flush, Err(Error::DurabilityUnknown(lost)) if lost.ranges() == std::slice::from_ref(&(0..4)));
    assert_eq!(disk.status().generation, 2);
}

both_runtimes!(a_change_on_a_silent_connection_is_waited_for);
async fn a_change_on_a_silent_connection_is_waited_for() {
    let export = Export::new(SIZE);
    let (silent, other) = (Server::new(export.clone()), Server::new(export));
    let place = Place::of(&silent);
    let disk = watchful(LONG).open(place.connector()).await.unwrap();
    let mut events = disk.events();
    place.put(Some(&other));
    silent.pause();
    let write = begun(disk.write(0, "first"));
    watch(silent.held(1)).await;
    stalled(&mut events, 1).await;
    watch(other.connected(1)).await;
    let read = begun(disk.read(0, 5));
    silent.resume();
    watch(write).await.unwrap().unwrap();
    assert_eq!(&watch(read).await.unwrap().unwrap()[..], b"first");
    assert!(disk.status().held.is_empty());
}

both_runtimes!(a_connection_that_stays_silent_is_given_up);
async fn a_connection_that_stays_silent_is_given_up() {
    let (disk, server, place) = open(watchful(SHORT)).await;
    let mut events = disk.events();
    place.put(Some(&Server::new(Export::new(SIZE))));
    server.pause();
    // Who looks late enough finds it given up at once, and never stalled.
    let write = begun(disk.write(0, "late"));
    assert_matches!(watch(write).await.unwrap(), Err(Error::OutcomeUnknown(_)));
    recovered(&mut events).await;
    assert_eq!(disk.status().held, std::slice::from_ref(&(0..4)));
}

both_runtimes!(other_connections_go_on_while_one_is_silent);
async fn other_connections_go_on_while_one_is_silent() {
    let export = Export::new(SIZE)
        .flags(Flags::HAS_FLAGS | Flags::SEND_FLUSH | Flags::SEND_FUA | Flags::CAN_MULTI_CONN);
    let (silent, other) = (Server::new(export.clone()), Server::new(export));
    let place = Place::of(&silent);
    let builder = watchful(LONG).connections(2);
    let disk = builder.open(place.connector()).await.unwrap();
    let mut events = disk.events();
    place.put(Some(&other));
    // In one task: none of them is over before all have begun.
    let reads = (0..64).map(|_| disk.read(0, 512).into_future());
    let reads = begun(futures::future::try_join_all(reads));
    connected(&mut events, 2).await;
    watch(reads).await.unwrap().unwrap();
    silent.pause();
    // The least busy one is the first.
    let write = begun(disk.write(0, "first"));
    watch(silent.held(1)).await;
    stalled(&mut events, 1).await;
    watch(disk.write(4096, "other").into_future())
        .await
        .unwrap();
    watch(disk.read(0, 5).into_future()).await.unwrap();
    // The same bytes wait, whatever the connection, and so does a flush.
    let (second, flush) = (begun(disk.write(0, "later")), begun(disk.flush()));
    watch(disk.read(8192, 5).into_future()).await.unwrap();
    assert!(!second.is_finished() && !flush.is_finished());
    silent.resume();
    watch(write).await.unwrap().unwrap();
    watch(second).await.unwrap().unwrap();
    watch(flush).await.unwrap().unwrap();
    connected(&mut events, 1).await;
    assert_eq!(disk.status().links, 2);
    assert_eq!(&disk.read(0, 5).await.unwrap()[..], b"later");
}

both_runtimes!(a_server_that_shuts_down_is_left_before_it_has_answered_all);
async fn a_server_that_shuts_down_is_left_before_it_has_answered_all() {
    let export = Export::new(SIZE);
    let slow = |command| match command {
        Command::READ => LONG,
        _ => Duration::ZERO,
    };
    let server = Server::builder()
        .export("", export.clone())
        .latency_with(move |request| slow(request.command))
        .build();
    let place = Place::of(&server);
    let disk = builder().open(place.connector()).await.unwrap();
    let read = begun(disk.read(0, 4));
    watch(server.received(1)).await;
    place.put(Some(&Server::new(export)));
    server.shut_down();
    watch(disk.write(0, "there").into_future()).await.unwrap();
    assert_eq!(
        &watch(disk.read(0, 5).into_future()).await.unwrap()[..],
        b"there"
    );
    assert!(!read.is_finished());
    server.hang_up();
    assert_eq!(&watch(read).await.unwrap().unwrap()[..], b"ther");
}

both_runtimes!(a_server_that_shuts_down_is_not_waited_for_without_end);
async fn a_server_that_shuts_down_is_not_waited_for_without_end() {
    let export = Export::new(SIZE);
    let slow = |command, offset| match (command, offset) {
        (Command::WRITE, 0) => LONG,
        _ => Duration::ZERO,
    };
    let server = Server::builder()
        .export("", export.clone())
        .latency_with(move |request| slow(request.command, request.offset))
        .build();
    let place = Place::of(&server);
    let disk = builder()
        .drain(SHORT)
        .open(place.connector())
        .await
        .unwrap();
    let write = begun(disk.write(0, "late"));
    watch(server.received(1)).await;
    place.put(Some(&Server::new(export)));
    server.shut_down();
    watch(disk.write(512, "there").into_future()).await.unwrap();
    let error = watch(write).await.unwrap().unwrap_err();
    assert_matches!(error, Error::OutcomeUnknown(..));
    watch(disk.read(512, 5).into_future()).await.unwrap();
}

both_runtimes!(what_was_sent_says_so_when_the_disk_has_given_up);
async fn what_was_sent_says_so_when_the_disk_has_given_up() {
    let (disk, server, place) = open(watchful(SHORT).retry(Retry::never())).await;
    place.put(None);
    server.pause();
    let (read, flush) = (disk.read(8192, 4).submit(), disk.flush().submit());
    watch(server.held(2)).await;
    let read = watch(read).await.unwrap_err();
    let flush = watch(flush).await.unwrap_err();
    let after = watch(disk.read(512, 4).into_future()).await.unwrap_err();
    for (error, command, offset, delivery) in [
        (read, Command::READ, 8192, Delivery::MaybeSent),
        (flush, Command::FLUSH, 0, Delivery::MaybeSent),
        (after, Command::READ, 512, Delivery::NotSent),
    ] {
        let request = error.request().unwrap();
        assert_eq!((request.command(), request.offset()), (command, offset));
        assert_eq!(error.delivery(), delivery, "{error}");
        assert!(error.to_string().contains(&request.to_string()), "{error}");
    }
}
