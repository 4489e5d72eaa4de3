//! What one request at a time costs at least: of a program that polls, of one on Tokio, of one whose
//! requests go through a task, as they must if many share a connection, and of this crate.
//!
//! `cargo bench --bench floor [-- ROUNDS]`. All write 4 KiB and wait for the answer, on the same
//! kind of socket, to a thread on the other processor that only answers. Processor time is that of the
//! thread that asks: all runtimes have one, and each asks from a task: Tokio has a system call more
//! for every wake-up of the future that `block_on` is given. Each is measured in turns and compared by
//! the medians of its rounds: only the ratios mean anything.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use bytes::Bytes;
use nbd_client::Connection;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

const REQUESTS: u32 = 50_000;
const HEADER: usize = 28;
const LENGTH: usize = 4096;
const REPLY: usize = 16;

/// Answers requests to write as they come, after a handshake if that is wanted.
fn serve(mut stream: UnixStream, shakes_hands: bool) -> io::Result<()> {
    if shakes_hands {
        shake_hands(&mut stream)?;
    }
    let mut request = [0; HEADER + LENGTH];
    loop {
        stream.read_exact(&mut request)?;
        let mut reply = [0; REPLY];
        reply[..4].copy_from_slice(&0x6744_6698_u32.to_be_bytes());
        reply[8..].copy_from_slice(&request[8..16]);
        stream.write_all(&reply)?;
    }
}

/// A server that knows one option, `NBD_OPT_GO`, and one export of a gigabyte.
fn shake_hands(stream: &mut UnixStream) -> io::Result<()> {
    stream.write_all(b"NBDMAGICIHAVEOPT\0\x03")?;
    stream.read_exact(&mut [0; 4])?;
    loop {
        let mut head = [0; 16];
        stream.read_exact(&mut head)?;
        let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        let (option, length) = (number(8), number(12));
        stream.read_exact(&mut vec![0; length as usize])?;
        let mut reply = |kind: u32, data: &[u8]| {
            let length = u32::try_from(data.len()).unwrap();
            let mut message = 0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec();
            for word in [option, kind, length] {
                message.extend(word.to_be_bytes());
            }
            message.extend(data);
            stream.write_all(&message)
        };
        if option == 7 {
            let flags = 1_u16.to_be_bytes();
            let export = [&[0, 0][..], &(1_u64 << 30).to_be_bytes(), &flags].concat();
            reply(3, &export)?;
            return reply(1, &[]);
        }
        reply(1 << 31 | 1, &[])?;
    }
}

/// A socket to a server of its own.
fn connect(shakes_hands: bool) -> UnixStream {
    let (ours, its) = UnixStream::pair().unwrap();
    thread::spawn(move || {
        pin(1);
        // It ends when the socket is closed.
        let _ = serve(its, shakes_hands);
    });
    ours
}

fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).unwrap();
}

/// Processor time of this thread so far, in nanoseconds.
fn processor_time() -> u64 {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    times.split(' ').next().unwrap().parse().unwrap()
}

const REQUEST: [u8; HEADER + LENGTH] = [1; HEADER + LENGTH];

fn answer(mut stream: &UnixStream) {
    assert_eq!(stream.read(&mut [0; 16384]).unwrap(), REPLY);
}

fn with_poll() {
    let mut stream = connect(false);
    for _ in 0..REQUESTS {
        stream.write_all(&REQUEST).unwrap();
        poll(&mut [PollFd::new(&stream, PollFlags::IN)], None).unwrap();
        answer(&stream);
    }
}

/// A socket that Tokio watches for answers only.
#[allow(
    deprecated,
    reason = "what is to be used instead is newer than the oldest Tokio"
)]
fn watched() -> AsyncFd<UnixStream> {
    let stream = connect(false);
    stream.set_nonblocking(true).unwrap();
    AsyncFd::with_interest(stream, Interest::READABLE).unwrap()
}

async fn ask(stream: &AsyncFd<UnixStream>) {
    stream.get_ref().write_all(&REQUEST).unwrap();
    let mut ready = stream.readable().await.unwrap();
    answer(ready.get_inner());
    ready.clear_ready();
}

async fn with_tokio() {
    let stream = watched();
    for _ in 0..REQUESTS {
        ask(&stream).await;
    }
}

async fn with_a_task() {
    let (requests, mut asked) = mpsc::unbounded_channel::<oneshot::Sender<()>>();
    tokio::spawn(async move {
        let stream = watched();
        while let Some(answer) = asked.recv().await {
            ask(&stream).await;
            answer.send(()).unwrap();
        }
    });
    for _ in 0..REQUESTS {
        let (answer, answered) = oneshot::channel();
        requests.send(answer).unwrap();
        answered.await.unwrap();
    }
}

async fn with_this_crate() {
    let stream = connect(true);
    stream.set_nonblocking(true).unwrap();
    let stream = tokio::net::UnixStream::from_std(stream).unwrap();
    let connection = Connection::new();
    connection.connect_socket(stream).await.unwrap();
    let data = Bytes::from_static(&[1; LENGTH]);
    for _ in 0..REQUESTS {
        connection.write(0, data.clone()).await.unwrap();
    }
}

/// Microseconds of processor time for a request.
fn cost(work: impl FnOnce()) -> f64 {
    let before = processor_time();
    work();
    (processor_time() - before) as f64 / 1000.0 / f64::from(REQUESTS)
}

fn on_tokio<F: Future<Output = ()> + Send + 'static>(work: impl FnOnce() -> F) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.unwrap();
    cost(|| runtime.block_on(async { tokio::spawn(work()).await.unwrap() }))
}

fn main() {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok());
    pin(0);
    let names = ["poll", "Tokio", "Tokio, a task and a channel", "this crate"];
    let mut costs = [const { Vec::new() }; 4];
    for _ in 0..rounds.unwrap_or(9) {
        costs[0].push(cost(with_poll));
        costs[1].push(on_tokio(with_tokio));
        costs[2].push(on_tokio(with_a_task));
        costs[3].push(on_tokio(with_this_crate));
    }
    let costs = costs.map(|mut rounds: Vec<f64>| {
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    });
    for (name, cost) in names.iter().zip(costs) {
        println!("{name:30} {cost:6.2} us: {:.2}", cost / costs[0]);
    }
}
