//! A load generator in the manner of fio.
//!
//! ```text
//! cargo run --release --example load -- --unix /tmp/nbd.sock --op randread --bs 4k --qd 64 --seconds 5
//! cargo run --release --example load -- --verify --qd 256 --conns 4 --bs 128k -- nbdkit -s memory 1G
//! ```

mod args;
mod histogram;
mod report;
mod verify;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use nbd_client::{Connection, Result};

use args::{Args, Op, Runtime, Server};
use histogram::Histogram;
use report::Report;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args_os().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            print!("{}", args::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("load: {why}\ntry load --help");
            return ExitCode::from(2);
        }
    };
    let runtime = match args.runtime {
        Runtime::Current => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build(),
        Runtime::Multi => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build(),
    };
    let result = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| {
            runtime
                .block_on(run(Arc::new(args)))
                .map_err(|e| e.to_string())
        });
    match result {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            eprintln!("load: {wrong} blocks had the wrong contents");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the load; says how many blocks were wrong.
async fn run(args: Arc<Args>) -> Result<u64> {
    let mut connections = Vec::new();
    for _ in 0..args.conns {
        connections.push(connect(&args).await?);
    }
    let size = connections
        .iter()
        .map(Connection::size)
        .collect::<Result<Vec<_>>>()?;
    let size = size.into_iter().min().unwrap_or(0).min(args.region);
    let workers = args.conns * args.qd;
    let plan = Arc::new(Plan {
        blocks: (size / args.bs as u64).max(1),
        left: AtomicU64::new(args.ops),
        next: AtomicU64::new(0),
        end: args
            .seconds
            .map(|seconds| Instant::now() + Duration::from_secs_f64(seconds)),
        payload: Bytes::from(vec![0x55; args.bs]),
    });
    let before = report::Usage::now();
    let begin = Instant::now();
    let mut tasks = Vec::new();
    for number in 0..workers {
        let conn = connections[number % args.conns].clone();
        let (args, plan) = (args.clone(), plan.clone());
        let stripe = size / workers as u64;
        let verifier = verify::Worker::new(number as u64, stripe, args.bs);
        tasks.push(tokio::spawn(async move {
            if args.verify {
                verifier.run(&conn, &plan).await
            } else {
                work(&conn, &args, &plan, number).await
            }
        }));
    }
    let mut total = Outcome::default();
    for task in tasks {
        let outcome = task
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        total.add(&outcome);
    }
    let report = Report::new(&total, begin.elapsed(), &before);
    report.print(args.json);
    for conn in connections {
        conn.disconnect().await?;
    }
    Ok(total.wrong)
}

async fn connect(args: &Args) -> Result<Connection> {
    let conn = Connection::builder()
        .export_name(&args.export)
        .structured_replies(!args.simple)
        .max_in_flight(args.qd.max(1))
        .busy_poll(Duration::from_micros(args.busy_poll))
        .build();
    match &args.server {
        Server::Unix(path) => conn.connect_unix(path).await?,
        Server::Tcp(host, port) => conn.connect_tcp(host, *port).await?,
        Server::Command(argv) => conn.connect_command(argv).await?,
    }
    Ok(conn)
}

/// What all workers share.
struct Plan {
    /// Blocks of the size of one request.
    blocks: u64,
    /// Requests still to be made.
    left: AtomicU64,
    /// The next block of a sequential load.
    next: AtomicU64,
    end: Option<Instant>,
    payload: Bytes,
}

impl Plan {
    /// Whether one more request is to be made.
    fn take(&self, now: Instant) -> bool {
        if self.end.is_some_and(|end| now >= end) {
            return false;
        }
        let take = |left: u64| {
            if left == u64::MAX {
                Some(left)
            } else {
                left.checked_sub(1)
            }
        };
        if self.left.load(Ordering::Relaxed) == u64::MAX {
            return true;
        }
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

/// What one worker did.
#[derive(Default)]
struct Outcome {
    ops: u64,
    bytes: u64,
    wrong: u64,
    latency: Histogram,
}

impl Outcome {
    fn count(&mut self, bytes: usize, latency: Duration) {
        self.ops += 1;
        self.bytes += bytes as u64;
        self.latency.add(latency);
    }

    fn add(&mut self, other: &Self) {
        self.ops += other.ops;
        self.bytes += other.bytes;
        self.wrong += other.wrong;
        self.latency.merge(&other.latency);
    }
}

/// One request after the other, all of one size.
async fn work(conn: &Connection, args: &Args, plan: &Plan, number: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut random = Random::new(number as u64);
    let mut buffer = BytesMut::with_capacity(if args.reuse { args.bs } else { 0 });
    let mut now = Instant::now();
    while plan.take(now) {
        let block = match args.op {
            Op::Read | Op::Write => plan.next.fetch_add(1, Ordering::Relaxed) % plan.blocks,
            Op::RandRead | Op::RandWrite => random.below(plan.blocks),
        };
        let offset = block * args.bs as u64;
        match args.op {
            Op::Read | Op::RandRead if args.reuse => {
                buffer = conn.read_into(offset, buffer).await?;
            }
            Op::Read | Op::RandRead => drop(conn.read(offset, args.bs).await?),
            Op::Write | Op::RandWrite => conn.write(offset, plan.payload.clone()).await?,
        }
        let end = Instant::now();
        outcome.count(args.bs, end - now);
        now = end;
    }
    Ok(outcome)
}

/// A small random number generator (splitmix64): load needs speed, not secrets.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}
