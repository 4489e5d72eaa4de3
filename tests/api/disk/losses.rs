//! What becomes of requests whose connection is lost.

use std::time::Duration;

use futures::TryStreamExt as _;
use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Command, Errno};
use nbd_client::{Changes, Delivery, Error, Event, Fence};

use super::*;
use crate::support::assert_matches;

both_runtimes!(reads_survive_the_loss_of_their_connection);
async fn reads_survive_the_loss_of_their_connection() {
    let (disk, server, _place) = open(builder()).await;
    disk.write(4096, "hello").await.unwrap();
    let mut events = disk.events();
    server.pause();
    let read = begun(disk.read(4096, 5));
    watch(server.held(1)).await;
    server.hang_up();
    server.resume();
    assert_eq!(&watch(read).await.unwrap().unwrap()[..], b"hello");
    let cause = event(&mut events, |event| match event {
        Event::Lost {
            generation: 1,
            cause,
            ..
        } => Some(cause),
        _ => None,
    });
    assert!(cause.await.is_fatal());
    event(&mut events, |event| {
        matches!(event, Event::Connected { generation: 2 }).then_some(())
    })
    .await;
}

both_runtimes!(a_structured_read_comes_whole_from_one_connection);
async fn a_structured_read_comes_whole_from_one_connection() {
    let (disk, server, _place) = open(builder()).await;
    disk.write(0, vec![7; 4096]).await.unwrap();
    server.pause();
    let chunks = disk.read_structured(0, 8192);
    let read = tokio::spawn(chunks.try_collect::<Vec<_>>());
    watch(server.held(1)).await;
    server.hang_up();
    server.resume();
    let chunks = watch(read).await.unwrap().unwrap();
    let bytes: usize = chunks
        .iter()
        .map(|chunk| match chunk {
            nbd_client::Chunk::Data { data, .. } => data.len(),
            nbd_client::Chunk::Hole { length, .. } => *length as usize,
            _ => 0,
        })
        .sum();
    assert_eq!(bytes, 8192);
}

/// A write that was sent and whose connection is lost; what became of it.
async fn lost_write(disk: &Disk, server: &Server) -> Result<(), Error> {
    let mut events = disk.events();
    server.pause();
    let write = begun(disk.write(0, "newer"));
    watch(server.held(1)).await;
    server.hang_up();
    lost(&mut events).await;
    server.resume();
    watch(write).await.unwrap()
}

both_runtimes!(an_unknown_outcome_is_reported_and_holds_its_bytes);
async fn an_unknown_outcome_is_reported_and_holds_its_bytes() {
    let (disk, server, _place) = open(builder()).await;
    let error = lost_write(&disk, &server).await.unwrap_err();
    assert_matches!(&error, Error::OutcomeUnknown(lost) if lost.range() == &(0..5) && lost.is_repeatable());
    assert!(!error.is_fatal() && error.delivery() == Delivery::MaybeSent);
    let held = watch(disk.write(4, "other").into_future()).await;
    assert_matches!(held, Err(Error::Held { range, generation: 1 }) if range == (4..5));
    assert_matches!(
        watch(disk.trim(0, 4096).into_future()).await,
        Err(Error::Held { .. })
    );
    // The same bytes, and others.
    watch(disk.write(0, "newer").into_future()).await.unwrap();
    watch(disk.write(5, "other").into_future()).await.unwrap();
    assert_eq!(disk.status().held, std::slice::from_ref(&(0..5)));
    disk.assume_fenced();
    assert!(disk.status().held.is_empty());
    watch(disk.write(0, "other").into_future()).await.unwrap();
}

both_runtimes!(a_change_is_repeated_if_that_was_asked_for);
async fn a_change_is_repeated_if_that_was_asked_for() {
    let (disk, server, _place) = open(builder().changes(Changes::Repeat)).await;
    let mut events = disk.events();
    lost_write(&disk, &server).await.unwrap();
    let range = event(&mut events, |event| match event {
        Event::Repeated { range } => Some(range),
        _ => None,
    });
    assert_eq!(range.await, 0..5);
    // The first one may still land.
    assert_eq!(disk.status().held, std::slice::from_ref(&(0..5)));
    assert_matches!(
        watch(disk.write(0, "x").into_future()).await,
        Err(Error::Held { .. })
    );
    assert_eq!(
        &watch(disk.read(0, 5).into_future()).await.unwrap()[..],
        b"newer"
    );
}

both_runtimes!(a_trim_is_never_repeated);
async fn a_trim_is_never_repeated() {
    let (disk, server, _place) = open(builder().changes(Changes::Repeat)).await;
    let mut events = disk.events();
    server.pause();
    let trim = begun(disk.trim(0, 4096));
    watch(server.held(1)).await;
    server.hang_up();
    lost(&mut events).await;
    server.resume();
    let error = watch(trim).await.unwrap().unwrap_err();
    let text = error.to_string();
    assert_matches!(error, Error::OutcomeUnknown(lost) if !lost.is_repeatable());
    assert!(
        text.contains("nothing can be written there until"),
        "{text}"
    );
}

both_runtimes!(a_fence_lets_held_changes_pass);
async fn a_fence_lets_held_changes_pass() {
    let (prove, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let fence = Fence::by(move |generation| {
        let (proven, wait) = tokio::sync::oneshot::channel();
        prove.send((generation, proven)).unwrap();
        async move { wait.await.unwrap() }
    });
    let (disk, server, _place) = open(builder().fence(fence)).await;
    let mut events = disk.events();
    lost_write(&disk, &server).await.unwrap_err();
    let write = begun(disk.write(0, "other"));
    let (generation, proven) = watch(asked.recv()).await.unwrap();
    assert_eq!(generation, 1);
    assert!(!write.is_finished(), "it waits");
    // It fails once, and is asked again.
    proven.send(Err(std::io::Error::other("not yet"))).unwrap();
    let (_, proven) = watch(asked.recv()).await.unwrap();
    assert!(!write.is_finished(), "it waits");
    proven.send(Ok(())).unwrap();
    watch(write).await.unwrap().unwrap();
    event(&mut events, |event| {
        matches!(event, Event::Fenced { generation: 1 }).then_some(())
    })
    .await;
    assert!(disk.status().held.is_empty());
}

both_runtimes!(overlapping_changes_go_one_by_one);
async fn overlapping_changes_go_one_by_one() {
    let (disk, server, _place) = open(builder()).await;
    server.pause();
    let first = begun(disk.write(0, vec![1; 1024]));
    watch(server.held(1)).await;
    let second = begun(disk.write(512, vec![2; 1024]));
    let apart = begun(disk.write(4096, vec![3; 512]));
    watch(server.held(2)).await;
    while disk.status().changes < 3 {
        tokio::task::yield_now().await;
    }
    let read = begun(disk.read(0, 512));
    watch(server.held(3)).await;
    server.resume();
    for write in [first, second, apart] {
        watch(write).await.unwrap().unwrap();
    }
    watch(read).await.unwrap().unwrap();
    assert_eq!(
        watch(disk.read(512, 512).into_future()).await.unwrap(),
        vec![2; 512]
    );
}

both_runtimes!(a_write_that_is_dropped_while_it_waits_is_not_sent);
async fn a_write_that_is_dropped_while_it_waits_is_not_sent() {
    let (disk, server, _place) = open(builder()).await;
    server.pause();
    let first = begun(disk.write(0, "first"));
    watch(server.held(1)).await;
    let second = begun(disk.write(0, "secnd"));
    let third = begun(disk.write(0, "third"));
    while disk.status().changes < 3 {
        tokio::task::yield_now().await;
    }
    second.abort();
    server.resume();
    watch(first).await.unwrap().unwrap();
    watch(third).await.unwrap().unwrap();
    assert_eq!(
        &watch(disk.read(0, 5).into_future()).await.unwrap()[..],
        b"third"
    );
    disk.close().await.unwrap();
    watch(server.connected(0)).await;
}

both_runtimes!(a_deadline_says_whether_a_change_may_have_been_sent);
async fn a_deadline_says_whether_a_change_may_have_been_sent() {
    let (disk, server, place) = open(builder()).await;
    server.pause();
    let short = Duration::from_millis(20);
    let late = disk.write(0, "late").timeout(short).into_future();
    let error = watch(late).await.unwrap_err();
    assert_matches!(&error, Error::OutcomeUnknown(lost) if lost.generation().is_none());
    let blocked = disk.write(0, "more").timeout(short).into_future();
    let error = watch(blocked).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::NotSent, "{error}");
    assert!(error.to_string().ends_with("before it was sent"), "{error}");
    let chunks = disk.read_structured(0, 512).timeout(short);
    let chunks = chunks.try_collect::<Vec<_>>();
    for error in [
        watch(disk.read(0, 1).timeout(short).into_future())
            .await
            .err(),
        watch(chunks).await.err(),
    ] {
        let error = error.unwrap();
        assert_eq!(error.delivery(), Delivery::MaybeSent, "{error}");
        let text = error.to_string();
        assert!(text.ends_with("was not answered within 20 ms"), "{text}");
        assert!(!error.is_fatal());
    }
    server.resume();
    watch(disk.write(0, "next").into_future()).await.unwrap();
    // Without a connection, nothing is sent.
    place.put(None);
    let mut events = disk.events();
    server.hang_up();
    lost(&mut events).await;
    let error = watch(disk.read(0, 1).timeout(short).into_future())
        .await
        .unwrap_err();
    assert_matches!(error, Error::Timeout(..));
    let text = error.to_string();
    assert!(text.ends_with("there is no connection"), "{text}");
    assert!(!error.is_fatal());
    place.put(Some(&server));
    watch(disk.read(0, 1).into_future()).await.unwrap();
}

both_runtimes!(a_server_that_shuts_down_is_left_and_its_requests_are_repeated);
async fn a_server_that_shuts_down_is_left_and_its_requests_are_repeated() {
    let (disk, server, place) = open(builder()).await;
    let next = Server::new(Export::new(SIZE));
    place.put(Some(&next));
    server.shut_down();
    watch(disk.write(0, "there").into_future()).await.unwrap();
    assert_eq!(
        &watch(disk.read(0, 5).into_future()).await.unwrap()[..],
        b"there"
    );
    assert!(disk.status().held.is_empty());
}

both_runtimes!(changes_can_be_refused);
async fn changes_can_be_refused() {
    let (disk, _server, _place) = open(builder().changes(Changes::Refuse)).await;
    assert_matches!(disk.write(0, "x").await, Err(Error::Invalid(_)));
    assert_matches!(disk.trim(0, 1).await, Err(Error::Invalid(_)));
    disk.read(0, 1).await.unwrap();
    disk.flush().await.unwrap();
}

both_runtimes!(a_write_of_many_messages_survives_a_server_that_shuts_down);
async fn a_write_of_many_messages_survives_a_server_that_shuts_down() {
    const LENGTH: usize = 4 << 20;
    let export = Export::new(LENGTH as u64).block_sizes(1, 4096, 4096);
    // It tells of its end while the messages that have come are carried out.
    let server = Server::builder()
        .export("", export.clone())
        .fail_with(|request| {
            (request.command == Command::READ).then(|| (Errno::ESHUTDOWN, String::new()))
        })
        .build();
    for has_next in [true, false] {
        let place = Place::of(&server);
        let retry = if has_next { quick() } else { Retry::never() };
        let disk = Disk::builder().retry(retry).open(place.connector());
        let disk = watch(disk).await.unwrap();
        place.put(has_next.then(|| Server::new(export.clone())).as_ref());
        server.pause();
        let write = begun(disk.write(0, vec![7; LENGTH]));
        // So many are in flight at a time, a quarter of all.
        watch(server.held(256)).await;
        let read = begun(disk.read(0, 4));
        watch(server.held(257)).await;
        server.resume();
        let (written, read) = (watch(write).await.unwrap(), watch(read).await.unwrap());
        assert!(disk.status().held.is_empty());
        if has_next {
            written.unwrap();
            read.unwrap();
            assert_eq!(export.contents(0, LENGTH), [7; LENGTH]);
        } else {
            let error = written.unwrap_err();
            assert_eq!(error.delivery(), Delivery::MaybeSent, "{error}");
            assert_matches!(error, Error::OutcomeUnknown(_));
        }
    }
}
