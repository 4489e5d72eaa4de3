//! Writes that servers carry out after their connection was lost.
//!
//! Every write takes the slow server a while, and its log says when it was carried out. Whoever
//! writes something else meanwhile, over another connection, is undone: the first test shows it.

use std::fs;
use std::time::Duration;

use nbd_client::{Changes, Connection, Connector, Disk, Error, Fence, Retry};

use super::wire::Wire;
use crate::shared::process::{eventually, times};
use crate::shared::server::{Dir, Server};

const LENGTH: usize = 4096;

/// nbdkit, which takes a while for each write, and what it logs.
struct Slow {
    server: Server,
    log: String,
}

impl Slow {
    fn start() -> Self {
        let dir = Dir::new();
        let log = dir.path("log");
        let to = format!("logfile={log}");
        let args = [
            "--filter=log",
            "--filter=delay",
            "memory",
            "1M",
            "delay-write=100ms",
            &to,
        ];
        let server = Server::nbdkit(&args).keep(dir);
        Self { server, log }
    }

    /// How many writes were carried out.
    fn writes(&self) -> usize {
        written(&self.log)
    }
}

fn written(log: &str) -> usize {
    let log = fs::read_to_string(log).unwrap_or_default();
    log.lines().filter(|line| line.contains("...Write")).count()
}

fn quick() -> Retry {
    Retry::default()
        .first(Duration::from_millis(1))
        .most(Duration::from_millis(20))
}

/// A proof that the lost write was carried out: so many were.
fn fence(log: &str, writes: usize) -> Fence {
    let log = log.to_owned();
    Fence::by(move |_| {
        let log = log.clone();
        async move {
            eventually("the lost write is carried out", || written(&log) >= writes).await;
            Ok(())
        }
    })
}

/// Sends a write, and cuts the connection while it is under way.
async fn cut_off(disk: &Disk, wire: &Wire, fill: u8) -> Result<(), Error> {
    let before = wire.sent();
    let write = disk.write(0, vec![fill; LENGTH]);
    let write = tokio::spawn(write.into_future());
    let whole = before + LENGTH as u64;
    eventually("the write is sent", || wire.sent() > whole).await;
    wire.cut();
    write.await.unwrap()
}

/// Without a disk: the newer write is undone, though a flush after it has succeeded.
async fn naive(slow: &Slow, socket: &str) {
    let conn = Connection::new();
    conn.connect_unix(socket).await.unwrap();
    let wire = Wire::to(socket);
    let disk = Disk::builder().open(wire.connector()).await.unwrap();
    cut_off(&disk, &wire, 0xaa).await.unwrap_err();
    conn.write(0, vec![0xbb; LENGTH]).await.unwrap();
    conn.flush().await.unwrap();
    eventually("both are carried out", || slow.writes() >= 2).await;
    let found = conn.read(0, LENGTH).await.unwrap();
    assert!(
        found == vec![0xaa; LENGTH] || found == vec![0xbb; LENGTH],
        "one of them"
    );
}

/// Rows 3 and 4: newest data, or a typed error.
async fn reported(slow: &Slow, socket: &str) {
    let wire = Wire::to(socket);
    for turn in 0..times(5) {
        let before = slow.writes();
        let disk = Disk::builder().retry(quick());
        let disk = disk.open(wire.connector()).await.unwrap();
        let error = cut_off(&disk, &wire, 0xaa).await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown(_)), "{error}");
        // A flush over the next connection is no fence.
        disk.flush().await.unwrap();
        let newer = disk.write(0, vec![turn as u8; LENGTH]).await.unwrap_err();
        assert!(matches!(newer, Error::Held { .. }), "{newer}");
        // The same again is harmless, whenever the first lands.
        disk.write(0, vec![0xaa; LENGTH]).await.unwrap();
        eventually("both are carried out", || slow.writes() >= before + 2).await;
        assert_eq!(disk.read(0, LENGTH).await.unwrap(), vec![0xaa; LENGTH]);
        disk.assume_fenced();
        disk.write(0, vec![turn as u8; LENGTH]).await.unwrap();
        assert_eq!(
            disk.read(0, LENGTH).await.unwrap(),
            vec![turn as u8; LENGTH]
        );
        disk.close().await.unwrap();
    }
}

/// The disk repeats, and what is newer waits for the fence.
async fn repeated(slow: &Slow, socket: &str) {
    let wire = Wire::to(socket);
    for turn in 0..times(5) {
        let before = slow.writes();
        let disk = Disk::builder().retry(quick()).changes(Changes::Repeat);
        let disk = disk.fence(fence(&slow.log, before + 2));
        let disk = disk.open(wire.connector()).await.unwrap();
        cut_off(&disk, &wire, 0xaa).await.unwrap();
        disk.write(0, vec![turn as u8; LENGTH]).await.unwrap();
        assert_eq!(
            disk.read(0, LENGTH).await.unwrap(),
            vec![turn as u8; LENGTH]
        );
        assert_eq!(slow.writes(), before + 3);
        disk.close().await.unwrap();
    }
}

mod nbdkit {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lost_write_is_never_overtaken() {
        let slow = Slow::start();
        let socket = slow.server.socket().to_str().unwrap().to_owned();
        naive(&slow, &socket).await;
        reported(&slow, &socket).await;
        repeated(&slow, &socket).await;
    }

    /// Row 8: the child is a proxy, and the server behind it outlives it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_child_that_is_a_proxy_is_no_fence_when_it_is_killed() {
        let slow = Slow::start();
        let socket = format!("socket={}", slow.server.socket().display());
        for turn in 0..times(3) {
            let before = slow.writes();
            let proxy = Connector::command(["nbdkit", "-s", "nbd", &socket]);
            let disk = Disk::builder().retry(quick()).open(proxy).await.unwrap();
            let write = disk.write(0, vec![0xaa; LENGTH]);
            let write = tokio::spawn(write.into_future());
            let log = &slow.log;
            let begun = || {
                let log = fs::read_to_string(log).unwrap_or_default();
                log.lines().filter(|line| line.contains(" Write")).count() > before
            };
            eventually("the server has the write", begun).await;
            kill_child(&socket);
            let error = write.await.unwrap().unwrap_err();
            assert!(matches!(error, Error::OutcomeUnknown(_)), "{error}");
            let newer = disk.write(0, vec![turn as u8; LENGTH]).await.unwrap_err();
            assert!(matches!(newer, Error::Held { .. }), "{newer}");
            eventually("it is carried out", || slow.writes() > before).await;
            disk.assume_fenced();
            disk.write(0, vec![turn as u8; LENGTH]).await.unwrap();
            assert_eq!(
                disk.read(0, LENGTH).await.unwrap(),
                vec![turn as u8; LENGTH]
            );
            disk.close().await.unwrap();
        }
    }

    /// Kills the child of ours that has this argument.
    fn kill_child(argument: &str) {
        let us = format!("PPid:\t{}\n", std::process::id());
        for entry in fs::read_dir("/proc").unwrap().map(Result::unwrap) {
            let file = |name| fs::read(entry.path().join(name)).unwrap_or_default();
            let status = String::from_utf8_lossy(&file("status")).into_owned();
            let command = String::from_utf8_lossy(&file("cmdline")).into_owned();
            if status.contains(&us) && command.split('\0').any(|word| word == argument) {
                let pid = entry.file_name().into_string().unwrap();
                let kill = std::process::Command::new("kill")
                    .args(["-9", &pid])
                    .status();
                assert!(kill.unwrap().success());
                return;
            }
        }
        panic!("there is no such child");
    }
}

mod qemu {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lost_write_is_never_overtaken() {
        let slow = Slow::start();
        let behind = format!("nbd+unix:///?socket={}", slow.server.socket().display());
        let server = Server::qemu(&["-f", "raw", &behind]);
        let socket = server.socket().to_str().unwrap().to_owned();
        reported(&slow, &socket).await;
        repeated(&slow, &socket).await;
    }
}
