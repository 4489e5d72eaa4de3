//! Everything at once, for as long as is wanted: servers that are killed, ended, stopped, cut off, slow,
//! out of order and lossy, under callers that drop futures, set deadlines and write over each other.
//! Everything that is read is looked at.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use nbd_client::{Changes, Connection, Disk, DiskBuilder, Error, Result, Retry};
use tokio::task::JoinSet;

use super::restarts::{ALL, Restarted};
use super::wire::Proxy;
use crate::shared::process::times;
use crate::shared::random::Random;

const TASKS: u64 = 8;
const BLOCK: u64 = 4096;
/// Blocks of one task.
const BLOCKS: u64 = 32;
const SIZE: u64 = TASKS * BLOCKS * BLOCK;

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    requests: u64,
    failed: u64,
    unknown: u64,
    dropped: u64,
    overdue: u64,
    verified: u64,
    failures: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.dropped += other.dropped;
        self.overdue += other.overdue;
        self.verified += other.verified;
        self.failures += other.failures;
    }
}

/// One task's part of a disk.
struct Part {
    disk: Disk,
    /// Whether the server loses what is not flushed.
    is_lossy: bool,
    random: Random,
    offset: u64,
    /// The words that may fill each block: one, unless a change has failed, or nobody knows.
    possible: Vec<Vec<u64>>,
    /// What was asked for, and what came of it, from block to block.
    history: Vec<(u64, u64, String)>,
    tally: Tally,
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

impl Part {
    fn new(disk: Disk, is_lossy: bool, random: Random, task: u64) -> Self {
        Self {
            disk,
            is_lossy,
            random,
            offset: task * BLOCKS * BLOCK,
            possible: vec![vec![0]; BLOCKS as usize],
            history: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Awaits a request, or drops it half way.
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
            Some(Err(Error::OutcomeUnknown(_))) => self.tally.unknown += 1,
            Some(Err(Error::Timeout(..))) => self.tally.overdue += 1,
            // A flush that says what may be lost: the system has kept it.
            Some(Err(Error::DurabilityUnknown(_))) => self.disk.clear_flush_error(),
            Some(Err(error)) => panic!("{error}"),
            None => self.tally.dropped += 1,
        }
        None
    }

    async fn step(&mut self) {
        let disk = self.disk.clone();
        let first = self.random.below(BLOCKS);
        let count = 1 + self.random.below((BLOCKS - first).min(8));
        let (offset, length) = (self.offset + first * BLOCK, count * BLOCK);
        let timeout = match self.random.below(16) {
            0 => Duration::from_millis(1 + self.random.below(20)),
            _ => Duration::MAX,
        };
        match self.random.below(20) {
            0..6 => {
                let word = self.random.next();
                let data = word.to_be_bytes().repeat(length as usize / 8);
                let write = disk.write(offset, data).timeout(timeout);
                let is_fua = self.random.below(8) == 0;
                let write = if is_fua { write.fua() } else { write };
                let done = self.take(write.into_future()).await;
                self.wrote(first, count, word, done.is_some());
            }
            6 => {
                // Two at once: they are carried out in the order of their first polls.
                let [one, two] = [self.random.next(), self.random.next()];
                let data = |word: u64| word.to_be_bytes().repeat(length as usize / 8);
                let both = [one, two].map(|word| disk.write(offset, data(word)).into_future());
                let results = futures::future::join_all(both).await;
                for (word, result) in [one, two].into_iter().zip(results) {
                    let done = self.take(std::future::ready(result)).await;
                    self.wrote(first, count, word, done.is_some());
                }
            }
            7 | 8 => {
                let zero = disk.write_zeroes(offset, length).timeout(timeout);
                let done = self.take(zero.into_future()).await;
                self.wrote(first, count, 0, done.is_some());
            }
            9 => drop(self.take(disk.flush().into_future()).await),
            10 => drop(
                self.take(disk.block_status(offset, length).into_future())
                    .await,
            ),
            _ => {
                let read = disk.read(offset, length as usize).timeout(timeout);
                if let Some(data) = self.take(read.into_future()).await {
                    self.verify(first, &data);
                }
            }
        }
    }

    /// Notes what is in the blocks now, or may be.
    fn wrote(&mut self, first: u64, count: u64, word: u64, is_sure: bool) {
        let sure = if is_sure { "" } else { " perhaps" };
        let entry = format!("{word:x}{sure}");
        self.history.push((first, first + count, entry));
        for possible in &mut self.possible[first as usize..(first + count) as usize] {
            if is_sure {
                possible.clear();
            }
            possible.push(word);
        }
    }

    /// Checks what was read. A read beside a change that was given up may see a part of it.
    fn verify(&mut self, first: u64, data: &[u8]) {
        let blocks = data.chunks(BLOCK as usize);
        for (at, block) in (first..).zip(blocks) {
            let possible = &self.possible[at as usize];
            // What lies under a change in doubt may be lost with the server, and a flush says so.
            if self.is_lossy && possible.len() > 1 {
                continue;
            }
            let words = block.chunks(8);
            let words = words.map(|word| u64::from_be_bytes(word.try_into().unwrap()));
            let mut wrong: Vec<u64> = words.filter(|word| !possible.contains(word)).collect();
            if wrong.is_empty() {
                continue;
            }
            wrong.dedup();
            let of_it = |(from, to, _): &&(u64, u64, String)| (*from..*to).contains(&at);
            let history: Vec<_> = self.history.iter().rev().filter(of_it).take(12).collect();
            panic!(
                "block {at} of the part at {} has {wrong:x?}, and could have {possible:x?}: {history:?}, {:?}",
                self.offset,
                self.disk.status(),
            );
        }
        self.tally.verified += data.len() as u64;
    }

    async fn run(mut self, is_over: Arc<AtomicBool>) -> Tally {
        while !is_over.load(Ordering::Relaxed) {
            self.step().await;
        }
        loop {
            let read = self.disk.read(self.offset, (BLOCKS * BLOCK) as usize);
            match read.await {
                Ok(data) => {
                    self.verify(0, &data);
                    return self.tally;
                }
                Err(Error::Request(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Loads one server, which fails again and again, until the time is over.
async fn load(
    (mut server, disk, is_lossy): (Restarted, DiskBuilder, bool),
    mut random: Random,
    deadline: Instant,
) -> Tally {
    server.start();
    let proxy = Proxy::to(&server.socket()).await;
    let link = Connection::builder()
        .meta_context("base:allocation")
        .stall_timeout(Duration::from_millis(100));
    let disk = disk
        .link(link)
        .drain(Duration::from_secs(60))
        .retry(Retry::default().most(Duration::from_millis(100)))
        .retry_first(true)
        .fence(server.fence());
    let disk = disk.open(proxy.connector()).await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let parts = (0..TASKS).map(|task| Part::new(disk.clone(), is_lossy, random.fork(), task));
    let tasks = parts.map(|part| tokio::spawn(part.run(is_over.clone())));
    let tasks: Vec<_> = tasks.collect();
    let mut tally = Tally::default();
    while Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100 + random.below(1500))).await;
        let way = ALL[random.below(ALL.len() as u64) as usize];
        server.fail(way, &proxy).await;
        tally.failures += 1;
    }
    is_over.store(true, Ordering::Relaxed);
    server.end_until(&tasks).await;
    for task in tasks {
        tally.add(task.await.unwrap());
    }
    // The server may have been killed since.
    let _ = disk.close().await;
    server.end("-KILL");
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_survive_everything_at_once() {
    /// Slow, so that many a change is under way when a server fails, and failing by itself.
    const FAULTY: &[&str] = &["--filter=error", "--filter=delay"];
    const RATES: &[&str] = &["error-pwrite-rate=1%", "error-pread-rate=1%", "wdelay=2ms"];
    let length = Duration::from_secs(times(5));
    let mut random = Random::new(61);
    let deadline = Instant::now() + length;
    let repeat = || Disk::builder().changes(Changes::Repeat).journal(1 << 20);
    // One that loses what was not flushed when it is killed.
    let lossy = Restarted::new(SIZE, &["--filter=cache"], &["cache=writeback"]);
    let disks = [
        (lossy, repeat(), true),
        (
            Restarted::new(SIZE, FAULTY, RATES),
            repeat().connections(4),
            false,
        ),
        (Restarted::new(SIZE, FAULTY, RATES), Disk::builder(), false),
    ];
    let mut loads = JoinSet::new();
    for disk in disks {
        loads.spawn(load(disk, random.fork(), deadline));
    }
    let mut tally = Tally::default();
    while let Some(part) = loads.join_next().await {
        tally.add(part.unwrap());
    }
    println!("reached: {length:?} without a wrong byte, {tally:?}");
    assert!(tally.failures > 3 && tally.verified > 0, "{tally:?}");
}
