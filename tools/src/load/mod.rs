//! `nbd load` puts a load on a server and reports speed and latencies, in the manner of fio.
//!
//! ```text
//! nbd load --unix /tmp/nbd.sock --op randread --bs 4k --qd 64 --seconds 5
//! nbd load --verify --qd 256 --conns 4 --bs 128k -- nbdkit -s memory 1G
//! ```
//!
//! What it costs to measure is kept small: one look at the clock for each request, and none with
//! `--no-latency`, where a thread that sleeps meanwhile says when time is up.

mod args;
mod histogram;
mod idle;
mod plan;
mod report;
mod verify;
mod work;

use std::error::Error;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nbd_client::{Connection, Limits, Result, Uri, UriPolicy};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::task::JoinHandle;

pub(crate) use args::LoadArgs as Args;

use crate::out::complain;
use crate::program::{Signals, run_in_order};
use crate::stall::StallArgs;
use crate::tls::with_default_certificates;
use args::{Runtime, Server};
use plan::{Plan, Random};
use report::Report;

pub(crate) fn main(args: Args) -> ExitCode {
    if let Err(why) = args.check() {
        complain!("nbd load: {why}\nTry nbd load --help.");
        return ExitCode::from(crate::USAGE);
    }
    raise_limit();
    let runtime = match args.runtime {
        Runtime::Current => Builder::new_current_thread().enable_all().build(),
        Runtime::Multi => Builder::new_multi_thread().enable_all().build(),
    };
    run_in_order("nbd load", runtime, |signals| start(args, signals))
}

/// A thousand connections need more descriptors than a process has by default. Who may not raise the
/// limit, as under valgrind, may still do with it.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = setrlimit(Resource::Nofile, most);
}

async fn start(args: Args, signals: Signals) -> Result<ExitCode, Box<dyn Error>> {
    if args.idle {
        let idle = async { Ok::<_, Box<dyn Error>>(idle::run(&args).await?) };
        signals.unless(idle).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let wrong = run(Arc::new(args), signals).await?;
    if wrong == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    complain!("nbd load: {wrong} blocks had the wrong contents");
    Ok(ExitCode::FAILURE)
}

/// Runs the load; says how many blocks were wrong.
async fn run(args: Arc<Args>, signals: Signals) -> Result<u64, Box<dyn Error>> {
    let connections = async {
        let mut connections = Vec::new();
        for _ in 0..args.conns {
            connections.push(connect(&args).await?);
        }
        Ok::<_, Box<dyn Error>>(connections)
    };
    let connections = signals.clone().unless(connections).await?;
    let result = measure(&args, &connections, signals).await;
    // A server may mind not being told, and has a failure of its own then.
    for conn in connections {
        let goodbye = conn.disconnect().await;
        if result.is_ok() {
            goodbye?;
        }
    }
    result
}

/// Puts the load on the connections, and prints what came of it.
async fn measure(
    args: &Arc<Args>,
    connections: &[Connection],
    signals: Signals,
) -> Result<u64, Box<dyn Error>> {
    let mut size = args.region.unwrap_or(u64::MAX);
    for conn in connections {
        size = size.min(conn.size()?);
    }
    if size < args.bs as u64 {
        return Err(format!("the export has {size} bytes, less than --bs").into());
    }
    let plan = Arc::new(Plan::new(args, size));
    let workers = workers(args, connections, size)?;
    tokio::spawn(interrupted(signals, plan.clone()));

    let before = report::Usage::now();
    let begin = Instant::now();
    plan.start();
    let large: Vec<_> = connections
        .iter()
        .filter(|_| args.beside > 0)
        .map(|conn| {
            let large = work::beside(conn.clone(), args.clone(), plan.clone(), size);
            tokio::spawn(or_stop(plan.clone(), large))
        })
        .collect();
    let mut tasks = Vec::new();
    for (number, worker) in workers.into_iter().enumerate() {
        let conn = connections[number % args.conns].clone();
        let (args, plan) = (args.clone(), plan.clone());
        tasks.push(tokio::spawn(or_stop(plan.clone(), async move {
            match worker {
                Some(verifier) => verifier.run(&conn, &plan).await,
                None => work::work(&conn, &args, &plan, number as u64).await,
            }
        })));
    }
    let progress = tokio::spawn(progress(plan.clone(), begin));
    let total = finish(tasks).await;
    let took = begin.elapsed();
    progress.abort();
    plan.stop();
    let large = finish(large).await;
    let report = Report::new(&total, took, &before, plan.latency());
    report.beside(large.ops).print(args.json);
    match total.failure.or(large.failure) {
        Some(error) => Err(error.into()),
        None => Ok(total.wrong),
    }
}

/// Ends the load if a task fails.
async fn or_stop(plan: Arc<Plan>, task: impl Future<Output = Outcome>) -> Outcome {
    let outcome = task.await;
    if outcome.failure.is_some() {
        plan.stop();
    }
    outcome
}

/// Says from time to time how far the load is, to who watches.
async fn progress(plan: Arc<Plan>, begin: Instant) {
    const STEP: Duration = Duration::from_secs(10);
    while std::io::stderr().is_terminal() {
        tokio::time::sleep(STEP).await;
        let seconds = begin.elapsed().as_secs();
        match plan.latency() {
            Some(latency) => complain!(
                "nbd load: {seconds} s, {} operations so far",
                latency.count()
            ),
            None => complain!("nbd load: {seconds} s so far"),
        }
    }
}

/// Ends the load at the first signal.
async fn interrupted(signals: Signals, plan: Arc<Plan>) {
    signals.first().await;
    plan.stop();
    complain!("nbd load: waits for what is in flight; a second signal ends it at once");
}

/// One place for each worker: with `--verify`, what it verifies.
fn workers(
    args: &Args,
    connections: &[Connection],
    size: u64,
) -> Result<Vec<Option<verify::Worker>>, Box<dyn Error>> {
    let count = args.conns * args.qd;
    if !args.verify {
        return Ok((0..count).map(|_| None).collect());
    }
    let mut minimum = 1;
    for conn in connections {
        let sizes = conn.export()?.block_size();
        minimum = minimum.max(sizes.map_or(1, |sizes| sizes.minimum));
    }
    let stripe = size / count as u64;
    let workers = (0..count as u64)
        .map(|number| verify::Worker::new(number, stripe, args.bs, minimum).map(Some));
    workers
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| format!("{size} bytes are too few for {count} workers to verify").into())
}

/// Waits for all tasks and adds up what they did.
async fn finish(tasks: Vec<JoinHandle<Outcome>>) -> Outcome {
    let mut total = Outcome::default();
    for task in tasks {
        let outcome = task
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        total.ops += outcome.ops;
        total.bytes += outcome.bytes;
        total.wrong += outcome.wrong;
        total.failure = total.failure.or(outcome.failure);
    }
    total
}

async fn connect(args: &Args) -> Result<Connection> {
    let wanted = (args.qd as u64).saturating_mul(args.bs as u64) + args.beside;
    let limits = Limits::default();
    let limits = limits.payload(args.payload.unwrap_or(limits.payload));
    let mut builder = Connection::builder();
    if let Some(us) = args.busy_poll {
        builder = builder.busy_poll(Duration::from_micros(us));
    }
    let server = args.server();
    if let Server::Uri(uri) = &server {
        builder = with_default_certificates(builder, &Uri::try_from(*uri)?)?;
    }
    let StallArgs { stall } = args.stall;
    let conn = stall
        .limit(builder)
        .limits(limits)
        .export_name(&args.export)
        .structured_replies(!args.simple)
        .extended_headers(!args.simple && !args.no_extended)
        .max_in_flight(args.qd.max(1024))
        .max_in_flight_bytes(wanted.max(128 << 20))
        .uri_policy(UriPolicy::trusted())
        .build();
    match server {
        Server::Unix(path) => conn.connect_unix(path).await?,
        Server::Tcp(host, port) => conn.connect_tcp(host, port).await?,
        Server::Uri(uri) => conn.connect_uri(uri).await?,
        Server::Command(argv) => conn.connect_command(argv).await?,
    }
    Ok(conn)
}

/// What workers did.
#[derive(Default)]
struct Outcome {
    ops: u64,
    bytes: u64,
    wrong: u64,
    /// What ended it.
    failure: Option<nbd_client::Error>,
}

impl Outcome {
    const fn count(&mut self, bytes: usize) {
        self.ops += 1;
        self.bytes += bytes as u64;
    }
}
