//! Random operations on a cursor, beside a vector that they happen to as well.

use std::future::{Future, poll_fn};
use std::io::{self, SeekFrom};
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use nbd_client::testing::{Export, ReplyOrder, Server};
use nbd_client::wire::{Command, Errno};
use nbd_client::{Connection, Cursor};
use tokio::io::{AsyncBufRead, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::shared::long;
use crate::support::*;

/// What an export holds, as far as it is known.
struct Model {
    bytes: Vec<u8>,
    /// What writes that failed or were given up may have stored.
    maybe: Vec<Vec<u8>>,
}

impl Model {
    /// Checks bytes that were read.
    fn check(&self, at: usize, found: &[u8]) {
        for (place, &byte) in (at..).zip(found) {
            let (expected, maybe) = (self.bytes[place], &self.maybe[place]);
            assert!(
                byte == expected || maybe.contains(&byte),
                "{byte} at {place}, not {expected} or {maybe:?}"
            );
        }
    }

    /// Learns what became of writes that failed or were given up.
    fn settle(&mut self, contents: &[u8]) {
        self.check(0, contents);
        self.bytes.copy_from_slice(contents);
        self.maybe.fill(Vec::new());
    }

    fn write(&mut self, at: usize, data: &[u8]) {
        self.bytes[at..at + data.len()].copy_from_slice(data);
        self.maybe[at..at + data.len()].fill(Vec::new());
    }

    fn write_maybe(&mut self, at: usize, data: &[u8]) {
        for (maybe, byte) in self.maybe[at..].iter_mut().zip(data) {
            maybe.push(*byte);
        }
    }
}

/// Waits for a future, or polls it only so often if that is a number.
async fn give_up_after<F: Future>(polls: Option<usize>, future: F) -> Option<F::Output> {
    match polls {
        Some(polls) => drop_after(polls, future).await,
        None => Some(future.await),
    }
}

/// One case: a cursor, and what it should see.
struct Case {
    random: Random,
    disk: Export,
    model: Model,
    cursor: Cursor,
    /// What the cursor covers.
    part: Range<usize>,
    behind: bool,
    /// The error that stays.
    failure: Option<String>,
}

impl Case {
    async fn new(mut random: Random) -> (Self, Server) {
        let block = BLOCKS[random.below(BLOCKS.len() as u64) as usize];
        let size =
            block as usize * (8 + random.below(40) as usize) + random.below(2) as usize * 100;
        let bytes: Vec<u8> = (0..size).map(|_| random.below(256) as u8).collect();
        let disk = Export::from_contents(&bytes).block_sizes(block, block.max(512), 1 << 16);
        let (delays, failures) = (random.below(1000), random.below(3000));
        let order = match random.below(3) {
            0 => ReplyOrder::InOrder,
            1 => ReplyOrder::Reversed,
            _ => ReplyOrder::Random(random.below(1000)),
        };
        let mixed = |head: &nbd_client::wire::request::RequestHead, by: u64| {
            (head.cookie ^ head.offset)
                .wrapping_add(u64::from(head.command.0))
                .wrapping_mul(by | 1)
        };
        let server = Server::builder()
            .export("", disk.clone())
            .reply_order(order)
            .latency_with(move |head| Duration::from_micros(mixed(head, delays) % 900))
            .fail_with(move |head| {
                let may = matches!(head.command, Command::READ | Command::WRITE);
                let fails = failures < 800 && may && mixed(head, failures) % 29 == 0;
                fails.then(|| (Errno::EIO, "by chance".into()))
            })
            .build();
        let conn = Connection::new();
        conn.connect_stream(server.connect()).await.unwrap();
        let start = random.below(size as u64 / 2) as usize;
        let part = match random.below(2) {
            0 => 0..size,
            _ => start..start + random.below((size - start) as u64 + 1) as usize,
        };
        let behind = random.below(2) == 0;
        let span = u64::from(block) * 6 + 100;
        let cursor = conn
            .cursor()
            .range(part.start as u64..part.end as u64)
            .request_size(1 + random.below(span) as usize)
            .max_read_ahead(random.below(span * 4) as usize)
            .write_behind(usize::from(behind) * (1 + random.below(span * 4) as usize));
        let case = Self {
            random,
            disk,
            model: Model {
                maybe: vec![Vec::new(); bytes.len()],
                bytes,
            },
            cursor,
            part,
            behind,
            failure: None,
        };
        (case, server)
    }

    /// The position in the export.
    fn at(&self) -> usize {
        self.part.start + self.cursor.position() as usize
    }

    /// What is left after the position.
    fn left(&self) -> usize {
        self.part.end.saturating_sub(self.at())
    }

    fn length(&mut self) -> usize {
        match self.random.below(4) {
            0 => self.random.below(10_000) as usize,
            1 => self.random.below(3) as usize,
            _ => self.random.below(600) as usize,
        }
    }

    fn data(&mut self) -> Vec<u8> {
        let length = self.length();
        (0..length).map(|_| self.random.below(256) as u8).collect()
    }

    /// How often a future is polled before it is given up; mostly until it is done.
    fn patience(&mut self) -> Option<usize> {
        let gives_up = self.random.below(4) == 0;
        gives_up.then(|| 1 + self.random.below(3) as usize)
    }

    /// Takes the outcome of a call. A failure of the server explains every error. That of a write
    /// behind the caller's back stays.
    fn outcome<T>(&mut self, writes: bool, result: io::Result<T>) -> Option<T> {
        let error = match result {
            Ok(value) => {
                assert!(self.failure.is_none(), "{:?}", self.failure);
                return Some(value);
            }
            Err(error) => error,
        };
        let inner = error.get_ref().expect("it holds the error of the crate");
        let inner = inner.downcast_ref::<nbd_client::Error>();
        assert_matches!(inner, Some(nbd_client::Error::Request(_)));
        let text = error.to_string();
        if let Some(failure) = &self.failure {
            assert_eq!(failure, &text);
        } else if self.behind && (writes || text.starts_with("WRITE")) {
            self.failure = Some(text);
        }
        None
    }

    async fn read(&mut self) {
        let (at, left, polls) = (self.at(), self.left(), self.patience());
        let mut buffer = vec![0; self.length()];
        let result = give_up_after(polls, self.cursor.read(&mut buffer)).await;
        let Some(result) = result else {
            assert_eq!(self.at(), at, "nothing was read");
            return;
        };
        if buffer.is_empty() {
            return;
        }
        if let Some(count) = self.outcome(false, result) {
            assert_eq!(count == 0, left == 0);
            self.model.check(at, &buffer[..count]);
            assert_eq!(self.at(), at + count);
        }
    }

    async fn read_all(&mut self) {
        let at = self.at();
        let mut found = Vec::new();
        let result = self.cursor.read_to_end(&mut found).await;
        if at <= self.part.end {
            self.model.check(at, &found);
        }
        if self.outcome(false, result).is_some() {
            assert_eq!(self.at().max(self.part.end), self.at());
        }
    }

    async fn consume(&mut self) {
        let (at, left) = (self.at(), self.left());
        let cursor = &mut self.cursor;
        let piece = poll_fn(|cx| Pin::new(&mut *cursor).poll_fill_buf(cx).map_ok(Vec::from)).await;
        if let Some(piece) = self.outcome(false, piece) {
            assert_eq!(piece.is_empty(), left == 0);
            self.model.check(at, &piece);
            let count = self.random.below(piece.len() as u64 + 1) as usize;
            Pin::new(&mut self.cursor).consume(count);
        }
    }

    async fn write(&mut self) {
        let (at, left, data) = (self.at(), self.left(), self.data());
        let polls = self.patience();
        let result = give_up_after(polls, self.cursor.write(&data)).await;
        let Some(result) = result else {
            assert_eq!(self.at(), at);
            if !self.behind {
                self.model.write_maybe(at, &data[..left.min(data.len())]);
            }
            return;
        };
        if left == 0 || data.is_empty() {
            assert_eq!(result.unwrap(), 0);
            return;
        }
        if let Some(count) = self.outcome(true, result) {
            assert!(count > 0);
            self.model.write(at, &data[..count]);
            assert_eq!(self.at(), at + count);
        } else if !self.behind {
            // A part of it may have been stored.
            self.model.write_maybe(at, &data[..left.min(data.len())]);
        }
    }

    async fn seek(&mut self) {
        let size = self.part.len() as u64;
        let target = self.random.below(size + size / 4 + 2);
        let from = match self.random.below(3) {
            0 => SeekFrom::Start(target),
            1 => SeekFrom::End(target as i64 - size as i64),
            _ => SeekFrom::Current(target as i64 - self.cursor.position() as i64),
        };
        assert_eq!(self.cursor.seek(from).await.unwrap(), target);
        assert!(
            self.cursor
                .seek(SeekFrom::Current(-1 - target as i64))
                .await
                .is_err()
        );
        assert_eq!(self.cursor.position(), target);
    }

    async fn flush(&mut self) {
        let polls = self.patience();
        let is_shutdown = self.random.below(2) == 0;
        let result = match is_shutdown {
            true => give_up_after(polls, self.cursor.shutdown()).await,
            false => give_up_after(polls, self.cursor.flush()).await,
        };
        let Some(result) = result else {
            return;
        };
        if self.outcome(true, result).is_some() {
            // Everything has arrived.
            let contents = self.disk.contents(0, self.model.bytes.len());
            self.model.check(0, &contents);
        }
    }

    /// Waits for all writes, those that failed or were given up included.
    async fn settle(&mut self) {
        for _ in 0..3 {
            let result = self.cursor.shutdown().await;
            if self.outcome(true, result).is_some() {
                let contents = self.disk.contents(0, self.model.bytes.len());
                return self.model.settle(&contents);
            }
        }
        assert!(self.failure.is_some(), "a failure is told once");
    }

    async fn run(&mut self) {
        for _ in 0..self.random.below(40) {
            match self.random.below(16) {
                0..=4 => self.read().await,
                5 => self.read_all().await,
                6 => self.consume().await,
                7..=10 => self.write().await,
                11..=13 => self.seek().await,
                _ => self.flush().await,
            }
        }
        self.settle().await;
    }
}

/// The minimum block sizes of the exports.
const BLOCKS: [u32; 3] = [1, 512, 4096];

#[tokio::test(start_paused = true)]
async fn a_cursor_is_like_a_vector() {
    let mut random = Random::seeded(5);
    for _ in 0..100 * long::factor() {
        let seed = random.below(u64::MAX);
        let mut case = Random::new(seed);
        case.below(2);
        let (mut case, _server) = Case::new(case).await;
        let all = within(case.run());
        if let Err(panic) =
            futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(all)).await
        {
            println!("the case that failed: {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
