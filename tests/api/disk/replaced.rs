//! Links beside others: which one is used, and what becomes of one that is lost.

use std::slice::from_ref;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::FutureExt as _;
use nbd_client::testing::{Export, Server};
use nbd_client::wire::request::RequestHead;
use nbd_client::{Error, Event};

use super::*;
use crate::support::assert_matches;

async fn open_two(one: &Server, two: &Server) -> (Disk, Place) {
    let place = Place::of(one);
    let disk = builder().connections(2).open(place.connector()).await;
    let disk = disk.unwrap();
    place.put(Some(two));
    load(&disk, 2).await;
    (disk, place)
}

async fn connected(events: &mut Events) {
    event(events, |event| {
        matches!(event, Event::Connected { .. }).then_some(())
    })
    .await;
}

both_runtimes!(a_lost_link_is_replaced_although_nobody_asks);
async fn a_lost_link_is_replaced_although_nobody_asks() {
    let export = shared();
    let (one, two) = (Server::new(export.clone()), Server::new(export));
    let (disk, place) = open_two(&one, &two).await;
    let mut events = disk.events();
    two.hang_up();
    connected(&mut events).await;
    assert_eq!(disk.status().links, 2);
    // A server that takes no further connection for a while.
    place.put(None);
    two.hang_up();
    event(&mut events, |event| {
        matches!(event, Event::Limited { .. }).then_some(())
    })
    .await;
    assert_eq!((disk.status().links, disk.status().limited_by()), (1, None));
    place.put(Some(&two));
    connected(&mut events).await;
    assert_eq!(disk.status().links, 2);
}

both_runtimes!(each_of_several_links_that_are_lost_at_once_is_replaced);
async fn each_of_several_links_that_are_lost_at_once_is_replaced() {
    let export = shared();
    let (one, two) = (Server::new(export.clone()), Server::new(export));
    let place = Place::of(&one);
    let disk = builder().connections(3).open(place.connector()).await;
    let disk = disk.unwrap();
    place.put(Some(&two));
    load(&disk, 3).await;
    let mut events = disk.events();
    two.hang_up();
    connected(&mut events).await;
    connected(&mut events).await;
    assert_eq!(disk.status().links, 3);
}

both_runtimes!(a_further_connection_that_hangs_does_not_hold_up_the_next_one);
async fn a_further_connection_that_hangs_does_not_hold_up_the_next_one() {
    let server = Server::new(shared());
    let (hangs, kept) = (Arc::new(AtomicBool::new(false)), Mutex::new(Vec::new()));
    let (hang, connected) = (hangs.clone(), server.clone());
    let (begun_one, began) = tokio::sync::oneshot::channel();
    let begun_one = Mutex::new(Some(begun_one));
    let connector = Connector::stream(move || {
        let stream = if hang.load(Ordering::SeqCst) {
            let (ours, its) = tokio::io::duplex(4096);
            kept.lock().unwrap().push(its);
            begun_one.lock().unwrap().take().map(|begun| begun.send(()));
            ours
        } else {
            connected.connect()
        };
        async move { Ok(stream) }
    });
    let disk = builder().connections(2).open(connector).await.unwrap();
    hangs.store(true, Ordering::SeqCst);
    let is_wished = async {
        loop {
            let reads: Vec<_> = (0..256).map(|_| begun(disk.read(0, 512))).collect();
            for read in reads {
                read.await.unwrap().unwrap();
            }
        }
    };
    watch(async {
        tokio::select! {
            () = is_wished => {}
            begun = began => begun.unwrap(),
        }
    })
    .await;
    hangs.store(false, Ordering::SeqCst);
    server.hang_up();
    // The deadline of the further one is 10 s, and there is less time.
    let limit = Duration::from_secs(5);
    disk.read(0, 1).timeout(limit).await.unwrap();
}

both_runtimes!(reads_that_are_given_up_do_not_keep_a_link_busy);
async fn reads_that_are_given_up_do_not_keep_a_link_busy() {
    let server = Server::new(shared());
    let place = Place::of(&server);
    let disk = builder().connections(2).open(place.connector()).await;
    let disk = disk.unwrap();
    for _ in 0..64 {
        let mut read = disk.read(0, 512).into_future();
        let _ = (&mut read).now_or_never();
        drop(read);
        watch(disk.ping()).await.unwrap();
    }
    assert_eq!((disk.status().links, server.connections()), (1, 1));
}

both_runtimes!(the_link_with_the_fewest_bytes_is_used);
async fn the_link_with_the_fewest_bytes_is_used() {
    let (one, two) = (Server::new(shared()), Server::new(shared()));
    let (disk, _place) = open_two(&one, &two).await;
    one.pause();
    two.pause();
    let large = disk.write(0, vec![1; 65536]).submit();
    let other = watch(async {
        tokio::select! {
            () = one.held(1) => &two,
            () = two.held(1) => &one,
        }
    })
    .await;
    let small: Vec<_> = (0..8)
        .map(|at| disk.write((1 << 17) + at * 512, vec![2; 512]).submit())
        .collect();
    watch(other.held(8)).await;
    one.resume();
    two.resume();
    watch(large).await.unwrap();
    for write in small {
        watch(write).await.unwrap();
    }
}

both_runtimes!(a_part_of_a_block_is_changed_where_the_rest_was_written);
async fn a_part_of_a_block_is_changed_where_the_rest_was_written() {
    // Servers that do not share what they have not flushed.
    let own = || shared().block_sizes(512, 4096, 1 << 20);
    let (a, b) = (own(), own());
    let (one, two) = (Server::new(a.clone()), Server::new(b.clone()));
    let (disk, _place) = open_two(&one, &two).await;
    disk.write(0, vec![7; 512]).await.unwrap();
    let (maker, busy) = match a.contents(0, 1) == [7] {
        true => (&a, &one),
        false => (&b, &two),
    };
    // The other link has less to do.
    busy.pause();
    let reads: Vec<_> = (0..4).map(|_| disk.read(0, 4096).submit()).collect();
    watch(busy.held(4)).await;
    let part = disk.write(0, "x").unaligned().submit();
    watch(busy.held(5)).await;
    busy.resume();
    watch(part).await.unwrap();
    for read in reads {
        watch(read).await.unwrap();
    }
    assert_eq!(maker.contents(0, 3), [b'x', 7, 7]);
}

both_runtimes!(a_connection_that_shows_another_state_ends_the_disk);
async fn a_connection_that_shows_another_state_ends_the_disk() {
    let count = Arc::new(AtomicUsize::new(0));
    let asked = count.clone();
    let other = move |connection: nbd_client::Connection| {
        asked.fetch_add(1, Ordering::SeqCst);
        async move {
            // Not final by itself.
            connection.disconnect().await?;
            connection.read(0, 1).await.map(drop)
        }
    };
    let builder = builder().point_in_time(true).identify(other);
    let (disk, server, _place) = open(builder).await;
    let mut events = disk.events();
    server.hang_up();
    watch(disk.read(0, 1).into_future()).await.unwrap_err();
    event(&mut events, |event| {
        matches!(event, Event::GaveUp { .. }).then_some(())
    })
    .await;
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert!(disk.ended().is_some());
}

both_runtimes!(a_lost_link_says_what_it_leaves_behind);
async fn a_lost_link_says_what_it_leaves_behind() {
    let is_late = |request: &RequestHead| match request.offset {
        8192 => Duration::from_secs(3600),
        _ => Duration::ZERO,
    };
    let server = Server::builder().export("", Export::new(SIZE));
    let server = server.latency_with(is_late).build();
    let disk = builder().open(Place::of(&server).connector()).await;
    let disk = disk.unwrap();
    let mut events = disk.events();
    disk.write(0, vec![1; 512]).await.unwrap();
    let ghost = disk.write(8192, vec![1; 1024]).submit();
    watch(server.received(2)).await;
    server.hang_up();
    let (ghosts, unflushed) = event(&mut events, |event| match event {
        Event::Lost {
            ghosts, unflushed, ..
        } => Some((ghosts, unflushed)),
        _ => None,
    })
    .await;
    assert_eq!(
        (ghosts.as_slice(), unflushed),
        (from_ref(&(8192..9216)), 512)
    );
    assert_matches!(watch(ghost).await, Err(Error::OutcomeUnknown(_)));
}

both_runtimes!(a_disk_that_ends_says_first_which_link_was_lost);
async fn a_disk_that_ends_says_first_which_link_was_lost() {
    let (disk, server, place) = open(builder().retry(Retry::never())).await;
    let mut events = disk.events();
    place.put(None);
    server.hang_up();
    event(&mut events, |event| match event {
        Event::Lost { .. } => Some(()),
        event => panic!("{event:?}"),
    })
    .await;
    assert_matches!(disk.read(0, 1).await, Err(Error::Disconnected(..)));
}
