//! A connection to the in-process server over a Unix socket: time per operation.
//!
//! `cargo bench --bench connection`. The server has a thread of its own; client and server share
//! the machine, so compare runs of the same machine only.
#![allow(clippy::unwrap_used, missing_docs)]

use std::future::IntoFuture;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nbd_client::Connection;
use nbd_client::testing::{Export, Server};
use tokio::runtime::{Builder, Runtime};

const SIZE: u64 = 64 << 20;

fn connection(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server_path = path.clone();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        runtime().block_on(async {
            let export = Export::new(SIZE);
            export.fill(0, SIZE, 7);
            let _listening = Server::new(export).listen_unix(server_path).unwrap();
            ready.send(()).unwrap();
            let _ = stopped.await;
        });
    });
    is_ready.recv().unwrap();

    let client = runtime();
    let mut group = c.benchmark_group("connection");
    for style in ["structured", "simple"] {
        let conn = Connection::builder()
            .structured_replies(style != "simple")
            .build();
        client.block_on(conn.connect_unix(&path)).unwrap();
        for (name, length, depth) in [
            ("4k", 4 << 10, 1),
            ("4k", 4 << 10, 64),
            ("256k", 256 << 10, 8),
            ("1m", 1 << 20, 4),
        ] {
            group.throughput(Throughput::Bytes(length as u64));
            for op in [Op::Read, Op::Write] {
                group.bench_function(format!("{op:?}_{name}_depth{depth}_{style}"), |b| {
                    b.iter_custom(|count| client.block_on(load(&conn, op, length, depth, count)));
                });
            }
        }
        client.block_on(conn.disconnect().into_future()).unwrap();
    }
    drop(group);
    drop(stop);
    server.join().unwrap();
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Read,
    Write,
}

/// Makes `count` requests, `depth` at a time; says how long that took.
async fn load(conn: &Connection, op: Op, length: usize, depth: u64, count: u64) -> Duration {
    let payload = Bytes::from(vec![7; length]);
    let begin = Instant::now();
    let workers = (0..depth.min(count)).map(|worker| {
        let (conn, payload) = (conn.clone(), payload.clone());
        tokio::spawn(async move {
            for number in (worker..count).step_by(usize::try_from(depth).unwrap()) {
                let offset = number * length as u64 % SIZE;
                match op {
                    Op::Read => drop(conn.read(offset, length).await.unwrap()),
                    Op::Write => conn.write(offset, payload.clone()).await.unwrap(),
                }
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    begin.elapsed()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    targets = connection
}
criterion_main!(benches);
