//! Writes that servers carry out after their connection was lost.
//!
//! The first write is held up at the server, whose log says when it was carried out. Whoever writes
//! something else meanwhile, over another connection, is undone: the first test shows it.

use std::time::Duration;

use nbd_client::{Changes, Connection, Connector, Disk, Error, Fence, Retry};

use super::slow::{Storage, signal_child, uniform};
use super::wire::Wire;
use crate::shared::process::{eventually, times};
use crate::shared::server::Server;

pub(super) const LENGTH: usize = 4096;

fn quick() -> Retry {
    Retry::default()
        .first(Duration::from_millis(1))
        .most(Duration::from_millis(20))
}

/// Sends a write that is held up, and cuts the connection while it is under way.
pub(super) async fn cut_off(
    disk: &Disk,
    slow: &Storage,
    wire: &Wire,
    fill: u8,
) -> Result<(), Error> {
    let before = slow.begun();
    slow.hold();
    let write = tokio::spawn(disk.write(0, vec![fill; LENGTH]).into_future());
    eventually("the server has the write", || slow.begun() > before).await;
    slow.pass();
    wire.cut();
    write.await.unwrap()
}

/// Without a disk: the newer write is undone, though a flush after it has succeeded.
async fn naive(slow: &Storage, socket: &str) {
    let conn = Connection::new();
    conn.connect_unix(socket).await.unwrap();
    let wire = Wire::to(socket);
    let disk = Disk::builder().open(wire.connector()).await.unwrap();
    cut_off(&disk, slow, &wire, 0xaa).await.unwrap_err();
    conn.write(0, vec![0xbb; LENGTH]).await.unwrap();
    conn.flush().await.unwrap();
    // Not by a read: qemu-nbd may answer that only when the held one has been answered.
    assert_eq!(slow.fill(LENGTH), 0xbb);
    slow.let_go();
    slow.all_done(2).await;
    assert_eq!(uniform(&conn.read(0, LENGTH).await.unwrap()), 0xaa);
}

/// Rows 3 and 4: newest data, or a typed error.
async fn reported(slow: &Storage, socket: &str) {
    let wire = Wire::to(socket);
    for turn in 0..times(5) {
        let before = slow.done();
        let disk = Disk::builder().retry(quick());
        let disk = disk.open(wire.connector()).await.unwrap();
        let error = cut_off(&disk, slow, &wire, 0xaa).await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown(_)), "{error}");
        // A flush over the next connection is no fence.
        disk.flush().await.unwrap();
        let newer = disk.write(0, vec![turn as u8; LENGTH]).await.unwrap_err();
        assert!(matches!(newer, Error::Held { .. }), "{newer}");
        // The same again is harmless, whenever the first lands.
        disk.write(0, vec![0xaa; LENGTH]).await.unwrap();
        assert_eq!(slow.done(), before + 1, "the first is still to come");
        slow.let_go();
        slow.all_done(before + 2).await;
        assert_eq!(uniform(&disk.read(0, LENGTH).await.unwrap()), 0xaa);
        disk.assume_fenced();
        disk.write(0, vec![turn as u8; LENGTH]).await.unwrap();
        assert_eq!(uniform(&disk.read(0, LENGTH).await.unwrap()), turn as u8);
        disk.close().await.unwrap();
    }
}

/// The disk repeats, and what is newer waits for the fence.
async fn repeated(slow: &Storage, socket: &str) {
    let wire = Wire::to(socket);
    for turn in 0..times(5) {
        let before = slow.done();
        // The lost write is one, and what is begun while it is held up are two more.
        let proof = std::sync::Mutex::new(Some(slow.proof(before + 3)));
        let fence = Fence::by(move |_| {
            let proof = proof.lock().unwrap().take();
            async move {
                proof.expect("there is one loss").await;
                Ok(())
            }
        });
        let disk = Disk::builder().retry(quick()).changes(Changes::Repeat);
        let disk = disk.fence(fence);
        let disk = disk.open(wire.connector()).await.unwrap();
        cut_off(&disk, slow, &wire, 0xaa).await.unwrap();
        let newer = disk.write(0, vec![turn as u8; LENGTH]);
        let newer = tokio::spawn(newer.into_future());
        // Time enough for the newer one, if it were sent.
        disk.write(1 << 16, vec![1; LENGTH]).await.unwrap();
        slow.let_go();
        newer.await.unwrap().unwrap();
        assert_eq!(uniform(&disk.read(0, LENGTH).await.unwrap()), turn as u8);
        assert_eq!(slow.done(), before + 4);
        disk.close().await.unwrap();
    }
}

/// Row 8: the child is a proxy, and the server behind it outlives it.
async fn behind_a_proxy(slow: &Storage, socket: &str) {
    let socket = format!("socket={socket}");
    for turn in 0..times(5) {
        let before = slow.done();
        let proxy = Connector::command(["nbdkit", "-s", "nbd", &socket]);
        let disk = Disk::builder().retry(quick()).open(proxy).await.unwrap();
        slow.hold();
        let write = disk.write(0, vec![0xaa; LENGTH]);
        let write = tokio::spawn(write.into_future());
        eventually("the server has the write", || slow.begun() > before).await;
        slow.pass();
        signal_child(&socket, "-KILL", true);
        let error = write.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown(_)), "{error}");
        let newer = disk.write(0, vec![turn as u8; LENGTH]).await.unwrap_err();
        assert!(matches!(newer, Error::Held { .. }), "{newer}");
        slow.let_go();
        slow.all_done(before + 1).await;
        disk.assume_fenced();
        disk.write(0, vec![turn as u8; LENGTH]).await.unwrap();
        assert_eq!(uniform(&disk.read(0, LENGTH).await.unwrap()), turn as u8);
        disk.close().await.unwrap();
    }
}

mod nbdkit {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lost_write_is_never_overtaken() {
        let slow = Storage::new();
        let server = slow.listen();
        let socket = server.socket().to_str().unwrap().to_owned();
        naive(&slow, &socket).await;
        reported(&slow, &socket).await;
        repeated(&slow, &socket).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_child_that_is_a_proxy_is_no_fence_when_it_is_killed() {
        let slow = Storage::new();
        let server = slow.listen();
        behind_a_proxy(&slow, server.socket().to_str().unwrap()).await;
    }
}

mod qemu {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lost_write_is_never_overtaken() {
        let slow = Storage::new();
        let behind = slow.listen();
        let uri = format!("nbd+unix:///?socket={}", behind.socket().display());
        let server = Server::qemu(&["-f", "raw", &uri]);
        let socket = server.socket().to_str().unwrap().to_owned();
        naive(&slow, &socket).await;
        reported(&slow, &socket).await;
        repeated(&slow, &socket).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_child_that_is_a_proxy_is_no_fence_when_it_is_killed() {
        let slow = Storage::new();
        let behind = slow.listen();
        let uri = format!("nbd+unix:///?socket={}", behind.socket().display());
        let server = Server::qemu(&["-f", "raw", &uri]);
        behind_a_proxy(&slow, server.socket().to_str().unwrap()).await;
    }
}
