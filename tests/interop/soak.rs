//! A mixed load on three servers at the same time, for as long as is wanted: everything that is
//! read is looked at.
//!
//! One server is slow, by command, and fails one request in a hundred; another serves a file; the
//! third is behind TLS. Every few seconds a connection ends and another takes its place.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use nbd_client::{Connection, Error, Result};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::shared::process::times;
use crate::shared::random::Random;
use crate::shared::server::{Dir, Server};

const TASKS: u64 = 8;
const BLOCK: u64 = 4096;
/// Blocks of one task.
const BLOCKS: u64 = 64;
const SIZE: u64 = TASKS * BLOCKS * BLOCK;

/// How much longer all may take; far more than the last answers need.
const PATIENCE: Duration = Duration::from_secs(120);

/// What has happened so far.
#[derive(Clone, Copy, Default)]
struct Tally {
    requests: u64,
    failed: u64,
    dropped: u64,
    verified: u64,
    torn: u64,
    connections: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.dropped += other.dropped;
        self.verified += other.verified;
        self.torn += other.torn;
        self.connections += other.connections;
    }
}

/// One task's part of a disk.
struct Part {
    random: Random,
    offset: u64,
    /// The words that may fill each block: one, unless writes have failed or were dropped.
    possible: Vec<Vec<u64>>,
    tally: Tally,
}

impl Part {
    fn new(random: Random, task: u64) -> Self {
        Self {
            random,
            offset: task * BLOCKS * BLOCK,
            possible: vec![vec![0]; BLOCKS as usize],
            tally: Tally::default(),
        }
    }

    /// Awaits a request, or drops it half way. Failures of the server's own are part of the game.
    async fn take<T>(&mut self, request: impl Future<Output = Result<T>>) -> Option<T> {
        self.tally.requests += 1;
        let polls = match self.random.below(16) {
            0 => 1 + self.random.below(3),
            _ => u64::MAX,
        };
        match poll_at_most(request, polls).await {
            Some(Ok(done)) => return Some(done),
            Some(Err(Error::Request(error))) => {
                assert_eq!(error.errno().0, 5, "{error}");
                self.tally.failed += 1;
            }
            Some(Err(error)) => panic!("{error}"),
            None => self.tally.dropped += 1,
        }
        None
    }

    async fn step(&mut self, conn: &Connection) {
        let first = self.random.below(BLOCKS);
        let count = 1 + self.random.below((BLOCKS - first).min(16));
        let (offset, length) = (self.offset + first * BLOCK, count * BLOCK);
        match self.random.below(20) {
            0..7 => {
                let word = self.random.next();
                let data = word.to_be_bytes().repeat(length as usize / 8);
                let write = conn.write(offset, data);
                let is_fua = self.random.below(8) == 0;
                let write = if is_fua { write.fua() } else { write };
                let done = self.take(write.into_future()).await;
                self.wrote(first, count, word, done.is_some());
            }
            7 | 8 => {
                let zero = conn.write_zeroes(offset, length);
                let done = self.take(zero.into_future()).await;
                self.wrote(first, count, 0, done.is_some());
            }
            9 => drop(self.take(conn.flush().into_future()).await),
            10 => {
                let status = conn.block_status(offset, length);
                drop(self.take(status.into_future()).await);
            }
            _ => {
                let read = conn.read(offset, length as usize).into_future();
                if let Some(data) = self.take(read).await {
                    self.verify(first, &data);
                }
            }
        }
    }

    /// Notes what is in the blocks now, or may be.
    fn wrote(&mut self, first: u64, count: u64, word: u64, is_sure: bool) {
        for possible in &mut self.possible[first as usize..(first + count) as usize] {
            if is_sure {
                possible.clear();
            }
            possible.push(word);
        }
    }

    /// Checks what was read: what is in a block for sure is there as a whole. While a write that
    /// was dropped may still be under way at the server, a read sees a part of it: systems do not
    /// promise that reading a file beside writing it is all or nothing.
    fn verify(&mut self, first: u64, data: &[u8]) {
        let blocks = data.chunks(BLOCK as usize);
        for (possible, block) in self.possible[first as usize..].iter().zip(blocks) {
            let mut words: Vec<_> = block
                .chunks(8)
                .map(|word| u64::from_be_bytes(word.try_into().unwrap()))
                .collect();
            words.dedup();
            assert!(
                words.iter().all(|word| possible.contains(word)),
                "{words:x?} are not all of {possible:x?}"
            );
            self.tally.torn += u64::from(words.len() > 1);
        }
        self.tally.verified += data.len() as u64;
    }
}

/// Polls a future this often, and then drops it, unless it is ready before that.
async fn poll_at_most<F: Future>(future: F, mut polls: u64) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        if polls == 0 {
            cx.waker().wake_by_ref();
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Loads one server until the time is over, with one connection after the other.
async fn load(server: Server, mut random: Random, deadline: Instant) -> Tally {
    let mut parts: Vec<_> = (0..TASKS)
        .map(|task| Part::new(random.fork(), task))
        .collect();
    let mut tally = Tally::default();
    while Instant::now() < deadline {
        let conn = server
            .client()
            .meta_context("base:allocation")
            .max_in_flight(1 + random.below(2 * TASKS) as usize)
            .build();
        conn.connect_unix(server.socket()).await.unwrap();
        let steps = 50 + random.below(1000);
        let mut tasks = JoinSet::new();
        for mut part in parts.drain(..) {
            let conn = conn.clone();
            tasks.spawn(async move {
                for _ in 0..steps {
                    if Instant::now() > deadline {
                        break;
                    }
                    part.step(&conn).await;
                }
                part
            });
        }
        parts = tasks.join_all().await;
        // Waits for what was dropped, too: it must not come after what is written from now on.
        conn.disconnect().await.unwrap();
        tally.connections += 1;
    }
    let conn = server.client().build();
    conn.connect_unix(server.socket()).await.unwrap();
    for mut part in parts {
        let data = loop {
            let read = conn.read(part.offset, (BLOCKS * BLOCK) as usize);
            match read.await {
                Ok(data) => break data,
                Err(Error::Request(_)) => part.tally.failed += 1,
                Err(error) => panic!("{error}"),
            }
        };
        part.verify(0, &data);
        tally.add(part.tally);
    }
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_of_everything_at_once_is_borne() {
    let length = Duration::from_secs(times(60));
    let mut random = Random::new(60);
    let dir = Dir::new();
    let size = SIZE.to_string();
    let faulty = Server::nbdkit(&[
        "--filter=error",
        "--filter=delay",
        "memory",
        &size,
        "error=EIO",
        "error-rate=1%",
        "rdelay=1ms",
        "wdelay=2ms",
        "delay-zero=3ms",
    ]);
    let file = Server::qemu(&["-f", "raw", "--discard=unmap", &dir.disk("disk", SIZE)]);
    let servers = [
        faulty,
        file,
        #[cfg(feature = "tls")]
        crate::behind_tls::nbdkit(&["memory", &size]),
    ];
    let count = servers.len() as u64;
    let deadline = Instant::now() + length;
    let mut loads = JoinSet::new();
    for server in servers {
        loads.spawn(load(server, random.fork(), deadline));
    }
    let mut tally = Tally::default();
    let all = async {
        while let Some(part) = loads.join_next().await {
            tally.add(part.unwrap());
        }
    };
    let all = timeout(length + PATIENCE, all).await;
    all.expect("a request was never answered");
    let Tally {
        requests,
        failed,
        dropped,
        verified,
        torn,
        connections,
    } = tally;
    println!(
        "reached: {length:?}, {requests} requests, {failed} failed on purpose, {dropped} dropped, \
         {connections} connections, {} MiB verified, {torn} blocks read in the middle of a write",
        verified >> 20
    );
    assert!(failed > 0 && dropped > 0 && connections > count);
}
