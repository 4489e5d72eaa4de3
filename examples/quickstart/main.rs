//! Connects to an NBD server, puts a mixed load on it from many tasks at once, and checks every
//! byte that comes back.
//!
//! ```text
//! cargo run --release --example quickstart                          # runs its own server
//! cargo run --release --example quickstart -- /run/nbd.sock
//! cargo run --release --example quickstart -- localhost:10809
//! cargo run --release --example quickstart -- nbd://localhost/export
//! cargo run --release --example quickstart -- -- nbdkit -s memory 64M
//! ```
//!
//! `--help` lists the options. The load overwrites the beginning of the export, and zeroes it at
//! the end; an export with other content is left alone unless `--overwrite` is given.

#![allow(unreachable_pub, reason = "a program has no public interface")]

mod latency;
mod load;
mod options;

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nbd_client::testing::Server;
use nbd_client::{Connecting, Connection, Export, Uri, UriPolicy, testing};

use load::{Load, Tally};
use options::{Invocation, Options, SERVE, Target};

/// An error of the client says who is at fault; here it is enough to print it.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The size of the export that this program serves to itself, in bytes.
const OWN_SIZE: u64 = 256 << 20;

/// How often this program says that it is still at work.
const PROGRESS: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    let result = match options::parse(std::env::args_os().skip(1)) {
        Ok(Invocation::Run(options)) => run(&options).await,
        Ok(Invocation::Help) => {
            say(options::HELP);
            Ok(())
        }
        Ok(Invocation::Serve) => serve().await,
        Err(why) => {
            say_error(format_args!("quickstart: {why}\nTry --help."));
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(format_args!("quickstart: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a line. If the reader has closed the pipe, the program goes on: its exit code says how its
/// work ended.
fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn say_error(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The other half of the default run: a server on the standard input and output.
async fn serve() -> Result<()> {
    Ok(Server::new(testing::Export::new(OWN_SIZE))
        .serve_stdio()
        .await?)
}

async fn run(options: &Options) -> Result<()> {
    let conn = Connection::builder()
        .export_name(&options.export)
        .handshake_timeout(Duration::from_secs(10))
        // A URI on the command line comes from whoever runs this.
        .uri_policy(UriPolicy::trusted())
        .build();

    say(format_args!("connecting  to {}", options.target));
    let start = Instant::now();
    let connecting = begin(&conn, &options.target)?;
    // This task is free to do other things meanwhile, and any other may look, too.
    let mut looks = 0;
    while conn.is_connecting() {
        looks += 1;
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    connecting.await?;
    say(format_args!(
        "connected   in {:.1} ms; is_connecting() said so {looks} times meanwhile",
        start.elapsed().as_secs_f64() * 1e3,
    ));

    let export = conn.export()?;
    let protocol = conn.protocol()?;
    say(format_args!(
        "export      {:?}, {} bytes{}; {}, {} replies",
        export.name(),
        export.size(),
        if export.is_read_only() {
            ", read-only"
        } else {
            ""
        },
        protocol.handshake.name(),
        if protocol.extended_headers {
            "extended"
        } else if protocol.structured_replies {
            "structured"
        } else {
            "simple"
        },
    ));

    let result = put_load_on(&conn, &export, options).await;
    // Also if it failed: servers may mind not being told.
    let goodbye = conn.disconnect().await;
    let tally = result?;
    goodbye?;
    report(&tally);
    Ok(())
}

async fn put_load_on(conn: &Connection, export: &Export, options: &Options) -> Result<Tally> {
    let load = Load::new(export, options)?;
    say(format_args!("load        {load}"));
    let work = load.run(conn);
    let (mut work, start) = (std::pin::pin!(work), Instant::now());
    loop {
        match tokio::time::timeout(PROGRESS, &mut work).await {
            Ok(result) => return result,
            Err(_) => say(format_args!(
                "working     for {} s so far",
                start.elapsed().as_secs()
            )),
        }
    }
}

/// Begins to connect, which returns at once.
fn begin(conn: &Connection, target: &Target) -> Result<Connecting> {
    Ok(match target {
        Target::Own => {
            let program = std::env::current_exe()?;
            conn.aio_connect_command([program.as_os_str(), SERVE.as_ref()])?
        }
        Target::Command(argv) => conn.aio_connect_command(argv)?,
        Target::Unix(path) => conn.aio_connect_unix(path)?,
        Target::Uri(uri) => conn.aio_connect_uri(Uri::clone(uri))?,
        Target::Tcp(host, port) => conn.aio_connect_tcp(host, *port)?,
    })
}

fn report(tally: &Tally) {
    let seconds = tally.elapsed.as_secs_f64();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    say(format_args!(
        "operations  {} in {seconds:.2} s, {:.0}/s: {} reads, {} writes, {} zeroes, {} trims, \
         {} flush",
        tally.operations(),
        tally.operations() as f64 / seconds,
        tally.reads,
        tally.writes,
        tally.zeroes,
        tally.trims,
        tally.flushes,
    ));
    say(format_args!(
        "throughput  {:.0} MiB/s: {:.0} MiB read, {:.0} MiB written",
        mib(tally.bytes_read + tally.bytes_written) / seconds,
        mib(tally.bytes_read),
        mib(tally.bytes_written),
    ));
    let micros = |share| tally.latencies.per_mille(share).as_secs_f64() * 1e6;
    say(format_args!(
        "latency     p50 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs",
        micros(500),
        micros(990),
        micros(999),
    ));
    say(format_args!(
        "verified    {:.0} MiB read back, every byte as it should be",
        mib(tally.bytes_verified),
    ));
}
