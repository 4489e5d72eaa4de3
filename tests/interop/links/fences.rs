//! Fences against real servers: where each is sound, and where it is not.
//!
//! A write is held up at the server. The connection or the server is given up meanwhile, and another
//! write of the same bytes waits for the fence. If that was sound, the newer one stays.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use nbd_client::{
    Connection, Connector, Disk, DiskBuilder, Endpoint, Error, Event, Events, Fence, Retry,
};
use tokio::task::JoinHandle;

use super::ghosts::{LENGTH, cut_off};
use super::slow::Storage;
use super::wire::Wire;
use crate::shared::process::{eventually, members, times};
use crate::shared::server::Server;

const LONG: Duration = Duration::from_secs(60);

fn builder(fence: Fence) -> DiskBuilder {
    let retry = Retry::default().first(Duration::from_millis(1));
    let builder = Disk::builder().retry(retry.most(Duration::from_millis(20)));
    builder.fence(fence)
}

/// A disk that gives a link up when a write is held up, and not when the machine is busy.
fn impatient(fence: Fence, drain: Duration) -> DiskBuilder {
    let link = Connection::builder().stall_timeout(Duration::from_secs(6));
    let link = link.child_kill_delay(LONG);
    builder(fence).link(link).drain(drain)
}

/// Begins a write that is held up.
async fn begun(disk: &Disk, slow: &Storage) -> JoinHandle<Result<(), Error>> {
    let before = slow.begun();
    slow.hold();
    let write = tokio::spawn(disk.write(0, vec![0xaa; LENGTH]).into_future());
    eventually("the server has the write", || slow.begun() > before).await;
    slow.pass();
    write
}

/// The same over the second link of two: a read has made the first one busy.
async fn begun_over_the_second(disk: &Disk, slow: &Storage) -> JoinHandle<Result<(), Error>> {
    slow.hold();
    let read = disk.read(4096, 512).into_future();
    let write = disk.write(0, vec![0xaa; LENGTH]).into_future();
    let both = async { tokio::join!(read, write).1 };
    let both = tokio::spawn(both);
    eventually("the server has the write", || slow.begun() == 1).await;
    slow.pass();
    both
}

/// Waits until a link is silent for too long.
async fn stalled(mut events: Events) {
    let stalled = async { while !matches!(events.next().await, Some(Event::Stalled { .. })) {} };
    let stalled = tokio::time::timeout(LONG, stalled).await;
    stalled.expect("it waits for ever");
}

/// Writes something newer, lets go of what is held up still, and returns what is there when both are
/// carried out.
async fn newer(disk: &Disk, slow: &Storage, writes: usize) -> u8 {
    let write = disk.write(0, vec![0xbb; LENGTH]).into_future();
    let write = tokio::time::timeout(LONG, write).await;
    write.expect("it waits for ever").unwrap();
    assert!(disk.status().held.is_empty());
    slow.let_go();
    slow.all_done(writes).await;
    slow.fill(LENGTH)
}

async fn is_held(disk: &Disk) {
    let newer = disk.write(0, vec![0xbb; LENGTH]).into_future();
    let newer = tokio::time::timeout(LONG, newer).await;
    let newer = newer.expect("it waits for ever").unwrap_err();
    assert!(matches!(newer, Error::Held { .. }), "{newer}");
}

mod nbdkit {
    use super::*;

    /// Row 1: `DISC`, and the end of the stream. The answer comes before.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_end_of_the_stream_after_disc_is_a_fence() {
        let slow = Storage::new();
        let server = slow.listen();
        for _ in 0..times(2) {
            let before = slow.done();
            let disk = impatient(Fence::drained_close(), LONG);
            let disk = disk.open(Connector::unix(server.socket())).await.unwrap();
            let events = disk.events();
            let first = begun(&disk, &slow).await;
            let answer = async {
                stalled(events).await;
                slow.let_go();
            };
            let (found, ()) = tokio::join!(newer(&disk, &slow, before + 2), answer);
            assert_eq!(found, 0xbb);
            first.await.unwrap().unwrap();
            disk.close().await.unwrap();
        }
    }

    /// The server has not closed the connection within the time for it: nothing is proven.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_that_does_not_close_in_time_is_no_fence() {
        let slow = Storage::new();
        let server = slow.listen();
        let disk = impatient(Fence::drained_close(), Duration::from_millis(1));
        let disk = disk.open(Connector::unix(server.socket())).await.unwrap();
        let first = begun(&disk, &slow).await;
        first.await.unwrap().unwrap_err();
        is_held(&disk).await;
        slow.let_go();
        slow.all_done(1).await;
    }

    /// A connection that was cut was not drained, and nobody waits for ever.
    #[tokio::test]
    async fn a_connection_that_was_cut_is_not_drained() {
        let slow = Storage::new();
        let server = slow.listen();
        let wire = Wire::to(server.socket().to_str().unwrap());
        let disk = builder(Fence::drained_close()).open(wire.connector());
        let disk = disk.await.unwrap();
        cut_off(&disk, &slow, &wire, 0xaa).await.unwrap_err();
        is_held(&disk).await;
        slow.let_go();
        slow.all_done(1).await;
        disk.assume_fenced();
        assert_eq!(newer(&disk, &slow, 2).await, 0xbb);
    }

    /// The link is given up while the server works on a write: the fence ends it, and waits for it.
    async fn ended(fence: Fence) {
        for _ in 0..times(2) {
            let slow = Storage::new();
            let disk = impatient(fence.clone(), Duration::from_millis(1));
            let disk = disk.open(Connector::command(slow.child())).await.unwrap();
            let group = slow.pid();
            let first = begun(&disk, &slow).await;
            let error = first.await.unwrap().unwrap_err();
            assert!(matches!(error, Error::OutcomeUnknown(_)), "{error}");
            slow.let_go();
            // Of the first, nothing is done any more: it is done, or its process was ended.
            let found = newer(&disk, &slow, 1).await;
            assert!(members(group).is_empty(), "the first server still runs");
            assert_eq!(found, 0xbb);
            disk.close().await.unwrap();
        }
    }

    /// Row 6: SIGTERM, and the server exits when it has carried out all.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_child_that_exits_on_sigterm_has_carried_out_all() {
        ended(Fence::terminate_child()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_child_that_is_given_up_is_ended() {
        ended(Fence::process_gone()).await;
    }

    /// The child serves another link, too, and does not end with the one that is given up, nor on
    /// SIGTERM: nbdkit serves its clients to the end. The fence kills it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_child_that_serves_another_link_is_ended() {
        let slow = Storage::new();
        let link = Connection::builder().stall_timeout(Duration::from_secs(6));
        let link = link.child_kill_delay(Duration::from_secs(1));
        let disk = builder(Fence::process_gone()).link(link).connections(2);
        let disk = disk.drain(Duration::from_millis(1));
        let connector = Connector::socket_activation(slow.activated());
        let disk = disk.open(connector).await.unwrap();
        let group = slow.pid();
        // More than one link is to have, in one task: none is over before all have begun.
        let reads = (0..17).map(|_| disk.read(0, 512).into_future());
        futures::future::try_join_all(reads).await.unwrap();
        eventually("there are two links", || disk.status().links == 2).await;
        let first = begun_over_the_second(&disk, &slow).await;
        let error = first.await.unwrap().unwrap_err();
        assert!(
            matches!(&error, Error::OutcomeUnknown(lost) if lost.generation() == Some(2)),
            "{error}"
        );
        let found = newer(&disk, &slow, 1).await;
        assert!(members(group).is_empty(), "the first server still runs");
        assert_eq!(found, 0xbb);
        disk.close().await.unwrap();
    }

    /// Row 7b: SIGKILL to all of the group.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_child_that_was_killed_with_its_group_is_gone() {
        for _ in 0..times(3) {
            let slow = Storage::new();
            let disk = builder(Fence::process_gone());
            let disk = disk.open(Connector::command(slow.child())).await.unwrap();
            let first = begun(&disk, &slow).await;
            slow.signal("-KILL", true);
            first.await.unwrap().unwrap_err();
            // The first is never done.
            assert_eq!(newer(&disk, &slow, 1).await, 0xbb);
            disk.close().await.unwrap();
            assert_eq!(slow.fill(LENGTH), 0xbb);
        }
    }

    /// Row 7: SIGKILL to the server alone. Its helper is ended with its group, before the fence is
    /// proven.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_helpers_of_a_child_that_was_killed_are_gone_too() {
        for _ in 0..times(3) {
            let slow = Storage::new();
            let disk = builder(Fence::process_gone());
            let disk = disk.open(Connector::command(slow.child())).await.unwrap();
            let group = slow.pid();
            let first = begun(&disk, &slow).await;
            slow.signal("-KILL", false);
            first.await.unwrap().unwrap_err();
            let found = newer(&disk, &slow, 1).await;
            assert!(members(group).is_empty(), "its helper still runs");
            assert_eq!(found, 0xbb);
            disk.close().await.unwrap();
            assert_eq!(slow.fill(LENGTH), 0xbb);
        }
    }

    /// A child that was killed has proven nothing about what it was told before.
    #[tokio::test]
    async fn a_child_that_was_killed_did_not_exit() {
        let slow = Storage::new();
        let disk = builder(Fence::terminate_child());
        let disk = disk.open(Connector::command(slow.child())).await.unwrap();
        let first = begun(&disk, &slow).await;
        slow.signal("-KILL", true);
        first.await.unwrap().unwrap_err();
        is_held(&disk).await;
        disk.close().await.unwrap();
    }

    /// Over a socket there is no child to end.
    #[tokio::test]
    async fn a_server_that_is_no_child_is_not_known_to_be_gone() {
        let slow = Storage::new();
        let server = slow.listen();
        for fence in [Fence::process_gone(), Fence::terminate_child()] {
            let wire = Wire::to(server.socket().to_str().unwrap());
            let disk = builder(fence).open(wire.connector()).await.unwrap();
            cut_off(&disk, &slow, &wire, 0xaa).await.unwrap_err();
            is_held(&disk).await;
        }
        slow.let_go();
        slow.all_done(2).await;
    }

    /// The recipe of docs/disk.md: the process that the file names is gone.
    fn gone(pid_file: String, is_asked: Arc<AtomicBool>) -> Fence {
        Fence::by(move |_generation| {
            let pid = std::fs::read_to_string(&pid_file);
            is_asked.store(true, Ordering::SeqCst);
            async move {
                let process = Path::new("/proc").join(pid?.trim());
                while process.exists() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Ok(())
            }
        })
    }

    /// A link is given up while its server works on a write, and lives. The newer write waits until
    /// that server has ended, though there is another one.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_on_a_socket_is_gone_with_the_process_of_its_pid_file() {
        for _ in 0..times(2) {
            let slow = Storage::new();
            let (server, next) = (slow.listen_with(&["-P", &slow.pid_file()]), slow.listen());
            let place = Arc::new(Mutex::new(server.socket()));
            let socket = place.clone();
            let connector = Connector::address(move || {
                let path = socket.lock().unwrap().clone();
                async { Ok(Endpoint::Unix { path }) }
            });
            let is_asked = Arc::new(AtomicBool::new(false));
            let fence = gone(slow.pid_file(), is_asked.clone());
            let disk = impatient(fence, Duration::from_millis(1));
            let disk = disk.open(connector).await.unwrap();
            *place.lock().unwrap() = next.socket();
            let first = begun(&disk, &slow).await;
            let error = first.await.unwrap().unwrap_err();
            assert!(matches!(error, Error::OutcomeUnknown(_)), "{error}");
            eventually("the fence has found the process", || {
                is_asked.load(Ordering::SeqCst)
            })
            .await;
            let end = async {
                // Time enough for the newer one, if it were sent.
                disk.write(1 << 16, vec![1; LENGTH]).await.unwrap();
                slow.let_go();
                // nbdkit carries out what it has got.
                tokio::task::spawn_blocking(|| server.stop()).await.unwrap();
            };
            let (found, ()) = tokio::join!(newer(&disk, &slow, 3), end);
            assert_eq!(found, 0xbb);
            disk.close().await.unwrap();
        }
    }

    /// Row 8: what is behind a proxy is not gone with it. A child that is a proxy is gone, and the
    /// newer write is undone: this fence is not for proxies.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_behind_a_proxy_is_not_gone_with_it() {
        let slow = Storage::new();
        let server = slow.listen();
        let socket = format!("socket={}", server.socket().display());
        let proxy = Connector::command(["nbdkit", "-s", "nbd", &socket]);
        let disk = builder(Fence::process_gone()).open(proxy).await.unwrap();
        let first = begun(&disk, &slow).await;
        super::super::slow::signal_child(&socket, "-KILL", true);
        first.await.unwrap().unwrap_err();
        assert_eq!(newer(&disk, &slow, 2).await, 0xaa);
    }
}

mod qemu {
    use super::*;

    /// Row 1 again: qemu-nbd closes at once, and carries out later what it was told. Drained close is
    /// no fence here, and this is what it costs.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_end_of_the_stream_after_disc_is_no_fence() {
        let slow = Storage::new();
        let behind = slow.listen();
        let uri = format!("nbd+unix:///?socket={}", behind.socket().display());
        let server = Server::qemu(&["-f", "raw", &uri]);
        let disk = impatient(Fence::drained_close(), LONG);
        let disk = disk.open(Connector::unix(server.socket())).await.unwrap();
        let first = begun(&disk, &slow).await;
        first.await.unwrap().unwrap_err();
        assert_eq!(newer(&disk, &slow, 2).await, 0xaa);
    }
}
