use std::future::IntoFuture;
use std::time::Duration;

use futures::FutureExt as _;

use crate::connection::Connector;
use crate::disk::state::Content;
use crate::disk::watch::{Turn, until_heard};
use crate::disk::{Disk, Fence};
use crate::error::{Delivery, Error};
use crate::testing::{Export, Server};

async fn open() -> (Disk, Server) {
    let server = Server::new(Export::new(1 << 20));
    let connected = server.clone();
    let connector = Connector::stream(move || {
        let stream = connected.connect();
        async move { Ok(stream) }
    });
    let never = Fence::by(|_| std::future::pending());
    let disk = Disk::builder().fence(never).open(connector).await.unwrap();
    (disk, server)
}

async fn watch<T>(work: impl Future<Output = T>) -> T {
    let watched = tokio::time::timeout(Duration::from_secs(10), work).await;
    watched.expect("it ends in time")
}

#[tokio::test]
async fn nothing_is_left_of_changes_that_have_ended() {
    let (disk, server) = open().await;
    watch(disk.write(0, "done").into_future()).await.unwrap();
    watch(disk.write_zeroes(4096, 4096).into_future())
        .await
        .unwrap();
    server.pause();
    // One is given up when it was sent, one before, and one waits for the first.
    let mut sent = disk.write(0, "sent").into_future();
    assert!((&mut sent).now_or_never().is_none());
    drop(disk.write(0, "unsent").into_future());
    let behind = disk.write(2, "behind").submit();
    assert_eq!(disk.hub().core().sent.values().sum::<usize>(), 1);
    drop(sent);
    server.resume();
    watch(behind).await.unwrap();
    watch(disk.hub().settle()).await;
    let core = disk.hub().core();
    assert_eq!((core.carried.len(), core.sent.len()), (0, 0));
    assert_eq!(core.table.changes(), 0);
}

#[tokio::test]
async fn a_fence_hears_once_of_a_link_that_has_left_several_ghosts() {
    let (disk, _server) = open().await;
    let link = disk.hub().links().remove(0);
    for at in [0, 4096] {
        disk.hub().lose(&(at..at + 512), &Content::Zeroes, &link);
    }
    let (_, links) = disk.hub().unfenced().unwrap();
    assert_eq!(links.len(), 1);
}

// Its last bytes may be counted before the request is over that they answer.
#[tokio::test]
async fn a_silent_link_that_owes_nothing_is_used_again() {
    let (disk, _server) = open().await;
    let link = disk.hub().links().remove(0);
    let heard = link.connection.stats().bytes_received;
    let (_, turn) = watch(until_heard(link, heard)).await;
    assert!(matches!(turn, Turn::Heard));
}

#[tokio::test]
async fn a_link_that_speaks_again_stays_in_use_whatever_was_given_up_while_it_was_silent() {
    let (disk, _server) = open().await;
    let hub = disk.hub();
    let link = hub.links().remove(0);
    hub.stall(&link);
    hub.add_link(&link);
    hub.leave(&link, &Error::closed().delivered(Delivery::NotSent));
    assert_eq!(hub.links().len(), 1);
    link.connection.leave(Duration::ZERO);
    hub.leave(&link, &Error::closed());
    assert_eq!(hub.links().len(), 0);
}
