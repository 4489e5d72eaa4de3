//! Reading an export in order: through a stream and through a cursor, beside plain requests and
//! nbdcopy.
//!
//! `cargo bench --bench streams [-- --delay MILLISECONDS] [--rounds N] [--size MIB]`. The server is
//! nbdkit over a Unix socket, and with `--delay` each read takes so long. All ways are measured in
//! turns, and compared by the medians of their rounds: only the ratios mean anything.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use nbd_client::Connection;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::runtime::Runtime;

const REQUEST: usize = 256 << 10;

/// A way to read everything.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Requests of 256 KiB, so many at a time, in the order of their answers.
    Plain(usize),
    /// `read_stream` with a depth.
    Stream(usize),
    /// `copy_buf` from a cursor that reads so many MiB ahead at most.
    CursorBuf(usize),
    /// Reads of a cursor into a buffer of so many KiB.
    CursorRead(usize),
    /// nbdcopy with so many connections; zero for as many as it likes.
    Nbdcopy(usize),
}

const WAYS: &[Way] = &[
    Way::Plain(16),
    Way::Plain(4),
    Way::Stream(4),
    Way::Stream(16),
    Way::CursorBuf(1),
    Way::CursorBuf(2),
    Way::CursorBuf(4),
    Way::CursorBuf(8),
    Way::CursorBuf(16),
    Way::CursorBuf(32),
    Way::CursorRead(8),
    Way::CursorRead(256),
    Way::Nbdcopy(1),
    Way::Nbdcopy(0),
];

struct Options {
    delay: u64,
    rounds: usize,
    size: u64,
}

/// The numbers after the options that are known. Others belong to cargo.
fn options() -> Options {
    let words: Vec<_> = std::env::args().collect();
    let number = |name: &str, default: u64| {
        let at = words.iter().position(|word| word == name);
        let value = at.and_then(|at| words.get(at + 1));
        value.map_or(default, |value| value.parse().expect("a number is needed"))
    };
    Options {
        delay: number("--delay", 0),
        rounds: usize::try_from(number("--rounds", 5)).unwrap(),
        size: number("--size", 1024) << 20,
    }
}

/// A server that is stopped when this is dropped.
struct Server {
    child: Child,
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start(options: &Options) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("sock");
        let mut command = Command::new("nbdkit");
        command.args(["-f", "-U", socket.to_str().unwrap()]);
        if options.delay > 0 {
            command.arg("--filter=delay");
        }
        command.args(["pattern", &format!("size={}", options.size)]);
        if options.delay > 0 {
            command.arg(format!("rdelay={}ms", options.delay));
        }
        let child = command.spawn()?;
        let begin = Instant::now();
        while !socket.exists() && begin.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Self {
            child,
            socket,
            _dir: dir,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes bytes, and looks at none.
struct Count(u64);

impl AsyncWrite for Count {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0 += bytes.len() as u64;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Reads everything over a new connection. Returns how many bytes that were.
async fn read(conn: &Connection, way: Way) -> u64 {
    let size = conn.size().unwrap();
    match way {
        Way::Plain(depth) => {
            let reads = (0..size)
                .step_by(REQUEST)
                .map(|at| conn.read(at, REQUEST).into_future());
            let reads = stream::iter(reads).buffer_unordered(depth);
            let sum = reads.try_fold(0, async |sum, data| Ok(sum + data.len() as u64));
            sum.await.unwrap()
        }
        Way::Stream(depth) => {
            let bytes = conn.read_stream(..).depth(depth);
            let sum = bytes.try_fold(0, async |sum, data| Ok(sum + data.len() as u64));
            sum.await.unwrap()
        }
        Way::CursorBuf(most) => {
            let mut count = Count(0);
            let mut cursor = conn.cursor().max_read_ahead(most << 20);
            tokio::io::copy_buf(&mut cursor, &mut count).await.unwrap();
            count.0
        }
        Way::CursorRead(length) => {
            let mut buffer = vec![0; length << 10];
            let (mut cursor, mut sum) = (conn.cursor(), 0);
            loop {
                match cursor.read(&mut buffer).await.unwrap() {
                    0 => return sum,
                    count => sum += count as u64,
                }
            }
        }
        Way::Nbdcopy(_) => unreachable!("it is a program"),
    }
}

fn nbdcopy(socket: &Path, connections: usize) -> io::Result<()> {
    let uri = format!("nbd+unix:///?socket={}", socket.display());
    let mut command = Command::new("nbdcopy");
    if connections > 0 {
        command.arg(format!("--connections={connections}"));
    }
    let status = command
        .args([&uri, "null:"])
        .stdin(Stdio::null())
        .status()?;
    assert!(status.success());
    Ok(())
}

/// Measures a way once.
fn measure(runtime: &Runtime, server: &Server, way: Way, size: u64) -> io::Result<Duration> {
    if let Way::Nbdcopy(connections) = way {
        let begin = Instant::now();
        nbdcopy(&server.socket, connections)?;
        return Ok(begin.elapsed());
    }
    runtime.block_on(async {
        let conn = Connection::new();
        conn.connect_unix(&server.socket).await.unwrap();
        let begin = Instant::now();
        assert_eq!(read(&conn, way).await, size);
        let time = begin.elapsed();
        conn.disconnect().await.unwrap();
        Ok(time)
    })
}

fn main() -> io::Result<()> {
    let options = options();
    let server = match Server::start(&options) {
        Ok(server) => server,
        Err(error) => {
            println!("nbdkit is needed: {error}");
            return Ok(());
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut times = vec![Vec::new(); WAYS.len()];
    for round in 0..=options.rounds {
        for (way, times) in WAYS.iter().zip(&mut times) {
            match measure(&runtime, &server, *way, options.size) {
                // The first round does not count.
                Ok(time) if round > 0 => times.push(time),
                Ok(_) => {}
                Err(error) => println!("{way:?} is left out: {error}"),
            }
        }
    }
    let medians: Vec<_> = times
        .iter_mut()
        .map(|times| {
            times.sort();
            times.get(times.len() / 2).copied()
        })
        .collect();
    let plain = medians[0].unwrap().as_secs_f64();
    println!(
        "| {:16} | {:>8} | {:>14} |",
        "way", "MiB/s", "beside plain 16"
    );
    println!("|---|---|---|");
    for (way, time) in WAYS.iter().zip(medians) {
        if let Some(time) = time.map(|time| time.as_secs_f64()) {
            let speed = (options.size >> 20) as f64 / time;
            println!(
                "| {:16} | {speed:8.0} | {:14.2} |",
                format!("{way:?}"),
                plain / time
            );
        }
    }
    Ok(())
}
