//! A disk beside a bare connection, and four links beside one.
//!
//! `cargo bench --bench links [-- SECONDS]`. The servers are nbdkit, which answers from memory, and
//! qemu-nbd with a file, on Unix sockets. All are measured in turns, and compared by the medians of their
//! rounds: only the ratios mean anything.
#![allow(clippy::unwrap_used, missing_docs)]

use std::future::IntoFuture;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use nbd_client::{Connection, Connector, Disk};

const DEPTH: usize = 64;
const LENGTH: usize = 4096;
const SIZE: u64 = 64 << 20;
const ROUNDS: usize = 5;

/// A server, until it is dropped.
struct Server {
    child: Child,
    directory: tempfile::TempDir,
}

impl Server {
    fn nbdkit(args: &[&str]) -> Self {
        Self::start(|directory| {
            let mut command = Command::new("nbdkit");
            command.args(["-f", "--exit-with-parent", "-U"]);
            command.arg(directory.join("socket")).args(args);
            command
        })
    }

    fn qemu() -> Self {
        Self::start(|directory| {
            let disk = directory.join("disk");
            let file = std::fs::File::create(&disk).unwrap();
            file.set_len(SIZE).unwrap();
            let mut command = Command::new("qemu-nbd");
            command.args(["-t", "-e", "8", "-f", "raw", "-k"]);
            command.arg(directory.join("socket")).arg(disk);
            command
        })
    }

    fn start(command: impl FnOnce(&Path) -> Command) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let child = command(directory.path()).spawn().unwrap();
        let server = Self { child, directory };
        while UnixStream::connect(server.socket()).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn connector(&self) -> Connector {
        Connector::unix(self.socket())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Requests a second, of those that `request` makes for a block, with so many in flight.
async fn rate<F: IntoFuture<Output = nbd_client::Result<T>>, T>(
    period: Duration,
    request: impl Fn(u64) -> F,
) -> f64 {
    let (start, mut next) = (Instant::now(), 0_u64);
    let mut flight = FuturesUnordered::new();
    let mut done = 0_u32;
    while start.elapsed() < period || !flight.is_empty() {
        while flight.len() < DEPTH && start.elapsed() < period {
            // Neighbours of those in flight, but never the same block.
            flight.push(request(next).into_future());
            next = (next + LENGTH as u64) % SIZE;
        }
        if let Some(result) = flight.next().await {
            result.unwrap();
            done += 1;
        }
    }
    f64::from(done) / start.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Measures two in turns, and prints the second beside the first.
macro_rules! beside {
    ($name:literal, $one:expr, $other:expr) => {{
        let (mut ones, mut others) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let (one, other) = ($one, $other);
            if round > 0 {
                ones.push(one);
                others.push(other);
            }
        }
        let (one, other) = (median(ones), median(others));
        println!(
            "  {:32} {other:10.0}/s beside {one:10.0}/s: {:.2}",
            $name,
            other / one
        );
    }};
}

#[tokio::main]
async fn main() {
    let seconds = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let period = Duration::from_secs_f64(seconds.unwrap_or(1.0));
    println!("nbdkit, memory");
    disk_beside_connection(&Server::nbdkit(&["memory", "64M"]), period).await;
    println!("qemu-nbd, file");
    disk_beside_connection(&Server::qemu(), period).await;
    links(period).await;
}

/// A disk with one link beside a connection, at the same server.
async fn disk_beside_connection(server: &Server, period: Duration) {
    let connection = Connection::builder()
        .connect(server.connector())
        .await
        .unwrap();
    let disk = Disk::open(server.connector()).await.unwrap();
    let data = bytes::Bytes::from(vec![1; LENGTH]);
    beside!(
        "a disk beside a connection, read",
        rate(period, |at| connection.read(at, LENGTH)).await,
        rate(period, |at| disk.read(at, LENGTH)).await
    );
    beside!(
        "a disk beside a connection, write",
        rate(period, |at| connection.write(at, data.clone())).await,
        rate(period, |at| disk.write(at, data.clone())).await
    );
}

/// Four links beside one, at a server that takes its time.
async fn links(period: Duration) {
    let far = Server::nbdkit(&["--filter=delay", "memory", "64M", "rdelay=20ms"]);
    let one = Disk::open(far.connector()).await.unwrap();
    let four = Disk::builder().connections(4).open(far.connector());
    let four = four.await.unwrap();
    // Links are opened one after the other.
    rate(period, |at| four.read(at, LENGTH)).await;
    println!("{} links", four.status().links);
    beside!(
        "four links beside one, 20 ms",
        rate(period, |at| one.read(at, LENGTH)).await,
        rate(period, |at| four.read(at, LENGTH)).await
    );
}
