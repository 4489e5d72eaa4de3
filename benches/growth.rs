//! What one request costs as more are in flight, as more wait, and as there are more connections:
//! it should stay flat.
//!
//! `cargo bench --bench growth`. For the memory of idle connections, see
//! `cargo run --release --bin nbd -- load --idle --conns 1000 --unix PATH`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::future::IntoFuture;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::FutureExt;
use nbd_client::session::{Bounds, Cookie, Outbox, Session, Sink, Submission};
use nbd_client::testing::{Export, Server};
use nbd_client::wire::reply::Reply;
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{Command, CommandFlags, Errno, ReplyStyle};
use nbd_client::{Connection, Pending, op};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

const DEPTHS: [u64; 7] = [1, 4, 16, 64, 256, 1024, 4096];
const CONNECTIONS: [usize; 4] = [1, 10, 100, 1000];
const WAITERS: [usize; 3] = [0, 1000, 10_000];
const SIZE: u64 = 16 << 20;

/// One more request, sent and answered, while others wait for their answers.
fn session(c: &mut Criterion) {
    let mut group = c.benchmark_group("session_flush_beside");
    group.throughput(Throughput::Elements(1));
    for others in DEPTHS {
        group.bench_function(BenchmarkId::from_parameter(others), |b| {
            let bounds = Bounds {
                requests: 8192,
                bytes: 1 << 30,
            };
            let mut session = Session::new(ReplyStyle::Simple, bounds, 1);
            let mut outbox = Outbox::default();
            let mut input = BytesMut::new();
            for _ in 0..others {
                flush(&mut session, &mut outbox);
            }
            b.iter(|| {
                let (cookie, head) = flush(&mut session, &mut outbox);
                Reply::simple(head.cookie, Errno::OK, Bytes::new()).encode(&mut input);
                session.receive(&mut input).unwrap();
                assert!(session.poll_answer(cookie, Waker::noop()).is_ready());
                session.take_woken(&mut Vec::new());
            });
        });
    }
}

/// Submits a flush and takes its header from the outbox.
fn flush(session: &mut Session, outbox: &mut Outbox) -> (Cookie, RequestHead) {
    let mut submission = Some(Submission {
        command: Command::FLUSH,
        flags: CommandFlags::empty(),
        offset: 0,
        length: 0,
        payload: Bytes::new(),
        sink: Sink::None,
    });
    let Poll::Ready(cookie) = session.poll_submit(&mut submission, &mut None, Waker::noop()) else {
        panic!("no room");
    };
    session.take_outbox(outbox);
    let head = RequestHead::decode(false, outbox.run().unwrap()).unwrap();
    outbox.advance(usize::MAX);
    // All that was queued counts as written.
    session.set_written(u64::MAX);
    (cookie.unwrap(), head.unwrap())
}

/// Reads of 4 KiB over one connection by 64 tasks, beside writes that wait for one that was
/// abandoned and is never answered.
fn waiters(c: &mut Criterion) {
    let never = |head: &RequestHead| match head.command {
        Command::WRITE => Duration::from_secs(3600),
        _ => Duration::ZERO,
    };
    let export = Export::new(SIZE);
    let server = Server::builder().export("", export).latency_with(never);
    let host = Host::start(server.build());
    let mut group = c.benchmark_group("connection_4k_depth64_beside_waiting");
    group.throughput(Throughput::Elements(1));
    for number in WAITERS {
        let conn = host.connect();
        let _waiting = host.wait(&conn, number);
        group.bench_function(BenchmarkId::from_parameter(number), |b| {
            b.iter_custom(|count| host.load(std::slice::from_ref(&conn), 64, count));
        });
    }
}

/// Reads of 4 KiB over one connection, by depth.
fn depth(c: &mut Criterion) {
    let host = Host::start(Server::new(Export::new(SIZE)));
    let mut group = c.benchmark_group("connection_4k_depth");
    group.throughput(Throughput::Elements(1));
    let conn = host.connect();
    for depth in DEPTHS {
        group.bench_function(BenchmarkId::from_parameter(depth), |b| {
            b.iter_custom(|count| host.load(std::slice::from_ref(&conn), depth, count));
        });
    }
}

/// Reads of 4 KiB over many connections, one at a time on each.
fn connections(c: &mut Criterion) {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, most).unwrap();
    let host = Host::start(Server::new(Export::new(SIZE)));
    let mut group = c.benchmark_group("connections_4k_depth1");
    group.throughput(Throughput::Elements(1));
    for number in CONNECTIONS {
        let conns: Vec<_> = (0..number).map(|_| host.connect()).collect();
        group.bench_function(BenchmarkId::from_parameter(number), |b| {
            b.iter_custom(|count| host.load(&conns, 1, count));
        });
    }
}

/// A server on a thread of its own, and a runtime for its clients.
struct Host {
    folder: tempfile::TempDir,
    runtime: Runtime,
    /// Ends the server when it is dropped.
    _stop: oneshot::Sender<()>,
}

impl Host {
    fn start(server: Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            runtime().block_on(async {
                let _listening = server.listen_unix(path).unwrap();
                ready.send(()).unwrap();
                // An error says that the other end was dropped: so it was meant.
                let _ = stopped.await;
            });
        });
        is_ready.recv().unwrap();
        Self {
            folder,
            runtime: runtime(),
            _stop: stop,
        }
    }

    fn connect(&self) -> Connection {
        let conn = Connection::builder().max_in_flight(4096).build();
        let path = self.folder.path().join("sock");
        self.runtime.block_on(conn.connect_unix(path)).unwrap();
        conn
    }

    /// Abandons a write, and lets so many others wait for its answer.
    fn wait(&self, conn: &Connection, count: usize) -> Vec<Pending<op::Write>> {
        let _inside = self.runtime.enter();
        // Polled once, each is sent or has its place.
        let begin = || {
            let mut write = conn.write(0, Bytes::from_static(&[1; 512])).into_future();
            assert!((&mut write).now_or_never().is_none());
            write
        };
        drop(begin());
        (0..count).map(|_| begin()).collect()
    }

    /// Makes `count` reads in all, `depth` at a time on each connection; says how long that took.
    fn load(&self, conns: &[Connection], depth: u64, count: u64) -> Duration {
        let workers = conns.len() as u64 * depth;
        self.runtime.block_on(async {
            let begin = Instant::now();
            let tasks = (0..workers.min(count)).map(|worker| {
                let conn = conns[worker as usize % conns.len()].clone();
                tokio::spawn(async move {
                    for number in (worker..count).step_by(workers as usize) {
                        let offset = number * 4096 % SIZE;
                        conn.read(offset, 4096).await.unwrap();
                    }
                })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.unwrap();
            }
            begin.elapsed()
        })
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = session, waiters, depth, connections
}
criterion_main!(benches);
