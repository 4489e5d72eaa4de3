//! Requests that are dropped before they are answered.
//!
//! Each task has its own part of the disk, and knows what may be there: a write that was
//! dropped has happened or not. In the end each writes its part once more, and nothing that was
//! dropped before may come after that.
//!
//! Cancellations count if the request was sent: those dropped before that, or while they waited
//! for room, come on top.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::StreamExt;
use nbd_client::Connection;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::shared::process::times;
use crate::shared::random::Random;
use crate::shared::server::Server;

const TASKS: u64 = 32;
const CANCELLATIONS: u64 = 100_000;
const BLOCK: u64 = 512;
/// Blocks of one task.
const BLOCKS: u64 = 32;

/// When to drop a future that is not ready.
#[derive(Clone, Copy)]
struct Patience {
    polls: u64,
    /// Polls again at once, as one may at any time, rather than when there is news: so a request
    /// is dropped somewhere between two steps of its own, and not only right after one.
    eager: bool,
}

/// Polls a future this often, and then drops it, unless it is ready before that.
async fn poll_at_most<F: Future>(future: F, patience: Patience) -> Option<F::Output> {
    let Patience { mut polls, eager } = patience;
    let mut future = pin!(future);
    poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        if eager || polls == 0 {
            cx.waker().wake_by_ref();
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// What became of the requests of all tasks.
#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    dropped: AtomicU64,
}

impl Tally {
    fn count(&self, is_answered: bool) {
        let count = if is_answered {
            &self.answered
        } else {
            &self.dropped
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were dropped after they were sent, if this many were sent.
    fn cancelled(&self, sent: u64) -> u64 {
        sent.saturating_sub(self.answered.load(Ordering::Relaxed))
    }
}

/// One task's part of the disk.
struct Part {
    conn: Connection,
    random: Random,
    offset: u64,
    /// The words that may fill each block.
    possible: Vec<Vec<u64>>,
    tally: Arc<Tally>,
}

impl Part {
    fn new(conn: Connection, random: Random, task: u64, tally: Arc<Tally>) -> Self {
        Self {
            conn,
            random,
            offset: task * BLOCKS * BLOCK,
            possible: vec![vec![0]; BLOCKS as usize],
            tally,
        }
    }

    /// Runs one random command, and drops it after a random number of polls.
    async fn step(&mut self) {
        let first = self.random.below(BLOCKS);
        let count = 1 + self.random.below((BLOCKS - first).min(8));
        let offset = self.offset + first * BLOCK;
        let length = count * BLOCK;
        let conn = self.conn.clone();
        let patience = Patience {
            polls: self.random.below(5),
            eager: self.random.below(4) == 0,
        };
        let is_done = match self.random.below(8) {
            0..3 => {
                let word = self.random.next();
                let write = conn.write(offset, fill(word, length));
                let done = poll_at_most(write.into_future(), patience).await;
                self.wrote(first, count, word, done)
            }
            3 => {
                let zero = conn.write_zeroes(offset, length);
                let done = poll_at_most(zero.into_future(), patience).await;
                self.wrote(first, count, 0, done)
            }
            4 => poll_at_most(conn.flush().into_future(), patience)
                .await
                .is_some_and(|flushed| flushed.is_ok()),
            5 => poll_at_most(conn.block_status(offset, length).into_future(), patience)
                .await
                .is_some_and(|status| !status.unwrap().is_empty()),
            6 => {
                let mut chunks = conn.read_structured(offset, length as usize);
                let next = poll_at_most(chunks.next(), patience).await;
                next.is_some_and(|chunk| chunk.unwrap().unwrap().length() == length)
            }
            _ => {
                let read = conn.read(offset, length as usize);
                let done = poll_at_most(read.into_future(), patience).await;
                done.is_some_and(|data| {
                    self.verify(first, &data.unwrap());
                    true
                })
            }
        };
        self.tally.count(is_done);
    }

    /// Notes what is in the blocks now, or may be.
    fn wrote(
        &mut self,
        first: u64,
        count: u64,
        word: u64,
        done: Option<nbd_client::Result<()>>,
    ) -> bool {
        let range = first as usize..(first + count) as usize;
        for possible in &mut self.possible[range] {
            if done.is_some() {
                possible.clear();
            }
            possible.push(word);
        }
        done.is_some_and(|written| {
            written.unwrap();
            true
        })
    }

    fn verify(&self, first: u64, data: &[u8]) {
        let blocks = data.chunks(BLOCK as usize);
        for (possible, block) in self.possible[first as usize..].iter().zip(blocks) {
            for word in block.chunks(8) {
                let word = u64::from_be_bytes(word.try_into().unwrap());
                assert!(
                    possible.contains(&word),
                    "{word:#x} is not of {possible:x?}"
                );
            }
        }
    }

    /// The last write to all of it, which nothing may undo.
    async fn finish(&mut self) {
        let (word, length) = (self.random.next(), BLOCKS * BLOCK);
        let write = self.conn.write(self.offset, fill(word, length));
        write.await.unwrap();
        self.possible = vec![vec![word]; BLOCKS as usize];
    }

    async fn check(&self, conn: &Connection) {
        let length = (BLOCKS * BLOCK) as usize;
        let data = conn.read(self.offset, length).await.unwrap();
        self.verify(0, &data);
    }
}

fn fill(word: u64, length: u64) -> Vec<u8> {
    word.to_be_bytes().repeat(length as usize / 8)
}

async fn cancel_and_verify(seed: u64) {
    // Zeroing takes longer than writing, so what comes later may be done first.
    let size = (TASKS * BLOCKS * BLOCK).to_string();
    let server = Server::nbdkit(&["--filter=delay", "memory", &size, "delay-zero=1ms"]);
    let mut random = Random::new(seed);
    // Fewer requests than tasks, so that some are dropped while they wait for room.
    let conn = Connection::builder()
        .meta_context("base:allocation")
        .max_in_flight(TASKS as usize / 2)
        .build();
    conn.connect_unix(server.socket()).await.unwrap();
    let greetings = conn.stats().messages_sent;
    let tally = Arc::new(Tally::default());
    let cancellations = times(CANCELLATIONS);
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let mut part = Part::new(conn.clone(), random.fork(), task, tally.clone());
        tasks.spawn(async move {
            loop {
                let sent = part.conn.stats().messages_sent - greetings;
                if part.tally.cancelled(sent) >= cancellations {
                    break;
                }
                part.step().await;
            }
            part.finish().await;
            part
        });
    }
    let parts = tasks.join_all().await;
    // Another connection, which knows nothing of what was dropped.
    let other = Connection::new();
    other.connect_unix(server.socket()).await.unwrap();
    for part in &parts {
        part.check(&conn).await;
        part.check(&other).await;
    }
    println!(
        "reached: {cancellations} cancellations, {:?} answered, {:?} dropped",
        tally.answered, tally.dropped
    );
    drop(parts);
    conn.disconnect().await.unwrap();
    assert!(conn.is_closed());
}

/// A deadline far beyond what it takes: a request that got lost would be waited for for ever.
fn deadline() -> Duration {
    Duration::from_secs(times(300))
}

#[tokio::test]
async fn k01_a_hundred_thousand_cancellations_on_one_thread_do_no_harm() {
    let all = timeout(deadline(), cancel_and_verify(100));
    all.await.expect("a request was never answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn k01_a_hundred_thousand_cancellations_on_many_threads_do_no_harm() {
    let all = timeout(deadline(), cancel_and_verify(101));
    all.await.expect("a request was never answered");
}

// The zeroes were sent, and will be written whatever becomes of the request. A write that came
// before them would be lost.
#[tokio::test]
async fn a_write_has_the_last_word_over_zeroes_that_were_cancelled() {
    let args = ["--filter=delay", "memory", "1M", "delay-zero=300ms"];
    let server = Server::nbdkit(&args);
    let conn = Connection::new();
    conn.connect_unix(server.socket()).await.unwrap();
    let once = Patience {
        polls: 1,
        eager: true,
    };
    let zero = conn.write_zeroes(0, 65536).into_future();
    assert!(poll_at_most(zero, once).await.is_none());
    assert_eq!(conn.in_flight(), 1);
    conn.write(4096, vec![1; 4096]).await.unwrap();
    // Sent later than the first, so done later.
    conn.write_zeroes(1 << 19, 512).await.unwrap();
    assert_eq!(conn.read(4096, 4096).await.unwrap(), vec![1; 4096]);
}
