//! A very great number of reads, one after the other.

use std::time::{Duration, Instant};

use nbd_client::{Connection, Connector};
use tokio::time::timeout;

use crate::shared::server::{Dir, Server};

/// How many of each size. `NBD_READS` says otherwise.
const READS: u64 = 1_000_000;
const LENGTHS: [usize; 4] = [32 << 10, 64 << 10, 256 << 10, 1 << 20];
const DISK: u64 = 16 << 20;
/// Far longer than any read takes.
const WATCHDOG: Duration = Duration::from_secs(10);

/// Reads one block after the other, round and round.
async fn read(name: &str, conn: &Connection, length: usize, count: u64) {
    let blocks = DISK / length as u64;
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut then = start;
    for number in 0..count {
        let offset = number % blocks * length as u64;
        let read = timeout(WATCHDOG, conn.read(offset, length)).await;
        let data = read.unwrap_or_else(|_| {
            panic!(
                "HANG: {name}: read {number} of {length} bytes; {conn:?}; {:?}",
                conn.stats()
            )
        });
        let data = data.unwrap();
        assert!(data.len() == length && data[0] == 0 && data[length - 1] == 0);
        let now = Instant::now();
        slowest = slowest.max(now - then);
        then = now;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!(
        "reached: {name}, {} KiB: {count} reads, {rate:.0} a second, the slowest {:.1} ms",
        length >> 10,
        slowest.as_secs_f64() * 1000.0
    );
}

/// Reads a million of each size over one connection for each, unless `NBD_READS` says otherwise.
async fn read_millions(name: &str, server: Connector) {
    let count = std::env::var("NBD_READS").map_or(READS, |count| {
        count.parse().expect("NBD_READS must be a number")
    });
    for length in LENGTHS {
        let builder = Connection::builder();
        let conn = builder.connect(server.clone()).await.unwrap();
        read(name, &conn, length, count).await;
        conn.disconnect().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes twenty minutes: tests/long reads"]
async fn millions_of_reads_of_nbdkit_are_all_answered() {
    let server = Server::nbdkit(&["memory", &DISK.to_string()]);
    read_millions("nbdkit over Unix", Connector::unix(server.socket())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes twenty minutes: tests/long reads"]
async fn millions_of_reads_over_tcp_are_all_answered() {
    let server = Server::nbdkit_tcp(&["memory", &DISK.to_string()]);
    read_millions(
        "nbdkit over TCP",
        Connector::tcp("127.0.0.1", server.port()),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes twenty minutes: tests/long reads"]
async fn millions_of_reads_of_qemu_are_all_answered() {
    let dir = Dir::new();
    let disk = dir.disk("disk", DISK);
    let server = Server::qemu(&["-f", "raw", "--cache=unsafe", &disk]);
    read_millions("qemu-nbd over Unix", Connector::unix(server.socket())).await;
}
