//! What remains of writes when a server dies, or is slow.

use std::fs;
use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures::future::{join, join_all};
use nbd_client::{Connection, Delivery, Error};

use super::connect;
use crate::shared::process::times;
use crate::shared::server::{Dir, Server};

const BLOCK: usize = 4096;
const BLOCKS: u64 = 64;

/// Polls a future once and drops it.
async fn begin_and_abandon<F: Future>(future: F) {
    let mut future = pin!(future);
    poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

/// nbdkit with a cache that it writes out when told to, and not before.
async fn lazy(disk: &str) -> (Connection, Server) {
    connect(&["--filter=cache", "file", disk, "cache=writeback"]).await
}

// §6.5: the server is killed once the flush has been answered.
#[tokio::test]
async fn a_flush_covers_the_writes_that_were_begun_before_it() {
    let dir = Dir::new();
    let disk = dir.disk("disk", BLOCKS * BLOCK as u64);
    let (conn, server) = lazy(&disk).await;
    let write = |n: u64| {
        let data = vec![n as u8 + 1; BLOCK];
        conn.write(n * BLOCK as u64, data).into_future()
    };
    // A quarter of them nobody waits for.
    let (abandoned, awaited) = (0..BLOCKS / 4, BLOCKS / 4..BLOCKS);
    for n in abandoned {
        begin_and_abandon(write(n)).await;
    }
    let (writes, flush) = join(join_all(awaited.map(write)), conn.flush().into_future()).await;
    drop(server);
    flush.unwrap();
    assert!(writes.iter().all(Result::is_ok));
    let held = fs::read(&disk).unwrap();
    for (n, block) in held.chunks(BLOCK).enumerate() {
        assert!(block.iter().all(|&byte| byte == n as u8 + 1), "block {n}");
    }
    assert!(!conn.closed().await.has_unflushed_writes());
}

both_runtimes!(a_server_that_dies_takes_unflushed_writes_with_it_and_the_error_says_so);
async fn a_server_that_dies_takes_unflushed_writes_with_it_and_the_error_says_so() {
    let dir = Dir::new();
    let disk = dir.disk("disk", 1 << 20);
    let (conn, server) = lazy(&disk).await;
    conn.write(0, vec![1; BLOCK]).await.unwrap();
    conn.flush().await.unwrap();
    conn.write(0, vec![2; BLOCK]).fua().await.unwrap();
    conn.write(1 << 19, vec![3; BLOCK]).await.unwrap();
    drop(server);
    let error = conn.closed().await;
    assert!(error.has_unflushed_writes(), "{error}");
    let held = fs::read(&disk).unwrap();
    assert_eq!(held[..BLOCK], [2; BLOCK], "it was acknowledged as durable");
    assert_eq!(held[1 << 19..][..BLOCK], [0; BLOCK], "it was not");
}

/// nbdkit on a file, with a first write at 0 that is not carried out before it is told to be.
struct Sluggish {
    dir: Dir,
    server: Server,
}

impl Sluggish {
    fn new() -> Self {
        let dir = Dir::new();
        let disk = dir.disk("disk", 1 << 20);
        let [held, go, done] = ["held", "go", "done"].map(|name| dir.path(name));
        let write = format!("dd of={disk} oflag=seek_bytes seek=$4 conv=notrunc status=none");
        let server = Server::nbdkit(&[
            "eval",
            "thread_model=echo parallel",
            "get_size=echo 1048576",
            "can_write=exit 0",
            "can_flush=exit 0",
            "flush=exit 0",
            &format!(
                "pread=dd if={disk} iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none"
            ),
            &format!(
                "pwrite=if [ $4 = 0 ] && mkdir {held} 2>/dev/null
                 then while [ -e {held} ] && ! [ -e {go} ]; do sleep 0.01; done; {write}; mkdir {done}
                 else {write}; fi"
            ),
        ]);
        Self { dir, server }
    }

    async fn connect(&self) -> Connection {
        let conn = Connection::new();
        conn.connect_unix(self.server.socket()).await.unwrap();
        conn
    }

    /// Waits until the first write has come so far.
    async fn wait_for(&self, what: &str) {
        while fs::metadata(self.dir.path(what)).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Has the first write carried out.
    fn go_on(&self) {
        self.dir.file("go", "");
    }
}

const OLD: [u8; 512] = [0xa; 512];
const NEW: [u8; 512] = [0xb; 512];

#[tokio::test]
async fn k04_an_abandoned_write_does_not_undo_a_newer_one_on_its_connection() {
    let count = times(1);
    for _ in 0..count {
        abandon_a_write().await;
    }
    println!("reached: {count} abandoned writes, each with a newer one behind it");
}

async fn abandon_a_write() {
    let server = Sluggish::new();
    let conn = server.connect().await;
    begin_and_abandon(conn.write(0, &OLD[..]).into_future()).await;
    server.wait_for("held").await;
    let newer = tokio::spawn(conn.write(0, &NEW[..]).into_future());
    // Time enough for the newer one, if it were sent: these are, one after the other.
    for _ in 0..10 {
        conn.write(4096, &NEW[..]).await.unwrap();
    }
    assert!(!newer.is_finished(), "it waits for the abandoned one");
    server.go_on();
    newer.await.unwrap().unwrap();
    server.wait_for("done").await;
    assert_eq!(conn.read(0, 512).await.unwrap(), NEW[..]);
}

// §0, the second hazard: no client can keep a server from carrying out what it has been sent over
// a connection that is gone. What it can do is say so.
#[tokio::test]
async fn k04_a_write_of_a_lost_connection_can_undo_a_newer_one_so_its_outcome_is_unknown() {
    let count = times(1);
    for _ in 0..count {
        lose_a_write().await;
    }
    println!("reached: {count} writes of lost connections, of unknown outcome each");
}

async fn lose_a_write() {
    let server = Sluggish::new();
    let conn = server.connect().await;
    let late = conn.write(0, &OLD[..]).timeout(Duration::from_secs(2));
    let (late, ()) = join(late.into_future(), server.wait_for("held")).await;
    let error = late.unwrap_err();
    assert!(matches!(error, Error::Timeout(..)), "{error}");
    assert_eq!(error.delivery(), Delivery::MaybeSent);
    // The connection is not used again, and nothing is repeated unasked.
    let ended = conn.write(0, &NEW[..]).await.unwrap_err();
    assert_eq!(ended.delivery(), Delivery::NotSent);

    // A caller who repeats it all the same, and goes on.
    let conn = server.connect().await;
    conn.write(0, &OLD[..]).await.unwrap();
    conn.write(0, &NEW[..]).await.unwrap();
    conn.flush().await.unwrap();
    assert_eq!(conn.read(0, 512).await.unwrap(), NEW[..]);
    server.go_on();
    server.wait_for("done").await;
    assert_eq!(conn.read(0, 512).await.unwrap(), OLD[..], "the hazard");
}
