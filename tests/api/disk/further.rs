//! When further connections are made, and why there are none.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::try_join_all;
use nbd_client::testing::{Export, Server};
use nbd_client::{Changes, Error, Phase};
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::time::{Instant, sleep};

use super::several::{connected, in_turn};
use super::*;
use crate::support::{assert_matches, settle};

/// Reads so many times at once.
async fn reads(disk: &Disk, count: usize) {
    // In one task: none of them is over before all have begun.
    let reads = (0..count).map(|_| disk.read(0, 512).into_future());
    watch(try_join_all(reads)).await.unwrap();
}

/// Waits until a further connection could not be made.
async fn limited(events: &mut Events) -> Error {
    event(events, |event| match event {
        Event::Limited { cause } => Some(cause),
        _ => None,
    })
    .await
}

/// Leads the first connection to a server. The next ones are taken, and never greeted.
fn then_silent(server: &Server) -> (Connector, Arc<Mutex<Vec<DuplexStream>>>) {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let (server, kept, count) = (server.clone(), taken.clone(), AtomicUsize::new(0));
    let connector = Connector::stream(move || {
        let stream = match count.fetch_add(1, Ordering::SeqCst) {
            0 => server.connect(),
            _ => {
                let (client, other) = tokio::io::duplex(4096);
                kept.lock().unwrap().push(other);
                client
            }
        };
        async move { Ok(stream) }
    });
    (connector, taken)
}

#[tokio::test(start_paused = true)]
async fn a_further_connection_that_is_not_greeted_is_given_up_after_ten_seconds() {
    let (connector, taken) = then_silent(&Server::new(shared()));
    let disk = builder().connections(3).open(connector).await.unwrap();
    let (begin, mut events) = (Instant::now(), disk.events());
    reads(&disk, 64).await;
    sleep(Duration::from_millis(9_900)).await;
    // One at a time, whatever is wished for meanwhile.
    reads(&disk, 64).await;
    settle().await;
    assert_eq!(taken.lock().unwrap().len(), 1);
    assert_eq!(disk.status().limited_by(), None);
    let mut other = taken.lock().unwrap().pop().unwrap();
    let mut said = Vec::new();
    watch(other.read_to_end(&mut said)).await.unwrap();
    assert!(said.is_empty());
    let waited = begin.elapsed();
    assert!(waited < Duration::from_millis(10_100), "{waited:?}");
    let cause = limited(&mut events).await;
    assert_matches!(cause, Error::Timeout(Phase::Greeting, _));
    let reason = disk.status().limited_by().unwrap();
    assert!(reason.contains("a further connection"), "{reason}");
    // There is no use in asking again.
    reads(&disk, 64).await;
    settle().await;
    assert!(taken.lock().unwrap().is_empty());
    assert_eq!(disk.status().links, 1);
}

#[tokio::test(start_paused = true)]
async fn a_further_connection_that_cannot_be_identified_is_given_up_after_ten_seconds() {
    let place = Place::of(&Server::new(shared()));
    let disk = builder()
        .connections(2)
        .identify(|_| std::future::pending());
    let disk = disk.open(place.connector()).await.unwrap();
    let mut events = disk.events();
    reads(&disk, 64).await;
    let cause = limited(&mut events).await;
    assert_matches!(cause, Error::Timeout(Phase::Request, _));
}

both_runtimes!(a_new_server_may_take_further_connections);
async fn a_new_server_may_take_further_connections() {
    let server = Server::new(shared());
    let place = Place::of(&server);
    let disk = builder().connections(2);
    let disk = watch(disk.open(place.connector())).await.unwrap();
    let mut events = disk.events();
    place.put(None);
    reads(&disk, 64).await;
    limited(&mut events).await;
    assert!(disk.status().limited_by().is_some());
    place.put(Some(&server));
    server.hang_up();
    recovered(&mut events).await;
    assert_eq!(disk.status().limited_by(), None);
    reads(&disk, 64).await;
    connected(&mut events, 3).await;
    assert_eq!(disk.status().links, 2);
    assert_eq!(server.connections(), 2);
}

both_runtimes!(what_the_export_does_not_offer_limits_after_a_reconnection_too);
async fn what_the_export_does_not_offer_limits_after_a_reconnection_too() {
    let export = shared().flags(Flags::HAS_FLAGS | Flags::SEND_FLUSH);
    let server = Server::new(export);
    let place = Place::of(&server);
    let disk = builder().connections(2);
    let disk = watch(disk.open(place.connector())).await.unwrap();
    let mut events = disk.events();
    server.hang_up();
    recovered(&mut events).await;
    assert!(disk.status().limited_by().unwrap().contains("MULTI_CONN"));
    // One is what was asked for.
    let (disk, ..) = open(builder()).await;
    assert_eq!(disk.status().limited_by(), None);
}

both_runtimes!(a_disk_that_takes_no_changes_may_have_several_links_anywhere);
async fn a_disk_that_takes_no_changes_may_have_several_links_anywhere() {
    let export = shared().flags(Flags::HAS_FLAGS | Flags::READ_ONLY);
    let server = Server::new(export);
    let disk = builder().connections(3).changes(Changes::Refuse);
    let disk = watch(disk.open(Place::of(&server).connector()))
        .await
        .unwrap();
    let mut events = disk.events();
    assert_eq!(disk.status().limited_by(), None);
    for generation in [2, 3] {
        reads(&disk, 64).await;
        connected(&mut events, generation).await;
    }
    assert_eq!(disk.status().links, 3);
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn a_further_connection_is_made_for_the_seventeenth_request() {
    const LONG: Duration = Duration::from_secs(3600);
    let slow = Server::builder()
        .export("", shared())
        .latency_with(|request| match request.offset {
            512 => LONG,
            _ => Duration::ZERO,
        })
        .build();
    let other = Server::new(Export::new(SIZE));
    let servers = [slow, other];
    let disk = builder().connections(2);
    let disk = watch(disk.open(in_turn(&servers))).await.unwrap();
    let mut events = disk.events();
    let mut reads: Vec<_> = (0..16).map(|_| begun(disk.read(512, 512))).collect();
    watch(servers[0].received(16)).await;
    settle().await;
    assert_eq!(servers[1].connections(), 0);
    reads.push(begun(disk.read(512, 512)));
    connected(&mut events, 2).await;
    // They stay where they are.
    assert!(reads.iter().all(|read| !read.is_finished()));
}
