//! Callers against the driver, in many orders: a thread that waits for ever is found as a
//! deadlock.
//!
//! The driver is the real one, over a stream that answers each request as soon as it has its
//! head, even if the payload is still to come (R18). Driver and callers have a thread each, as on
//! the multi-thread runtime, or share one and take turns, as on the current-thread runtime. Run with
//! `RUSTFLAGS='--cfg shuttle' cargo test --lib races`; docs/fuzzing.md says how a failure is
//! repeated.

mod stream;

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use shuttle::future::block_on;
use shuttle::thread;

pub(crate) use stream::Stream;

use super::input::Input;
use super::io::{Driver, Ended};
use super::output::Output;
use super::transmission::Transmission;
use crate::config::Config;
use crate::error::{Delivery, Error, Phase};
use crate::export::Export;
use crate::session::{Answer, Assembly, Bounds, Cookie, Sink, Submission};
use crate::wire::request::COMPACT_REQUEST;
use crate::wire::{Command, CommandFlags, ReplyStyle, TransmissionFlags};

/// How often each race is run in each of two ways, if `NBD_RUNS` does not say.
const RUNS: usize = 4_000;

/// A connection whose socket takes so many bytes, and its driver in a thread of its own.
fn connect(room: usize) -> (Arc<Transmission>, Stream, thread::JoinHandle<Ended>) {
    let (transmission, stream, driver) = prepare(room, 2);
    let driver = thread::spawn(move || block_on(driver));
    (transmission, stream, driver)
}

/// A connection whose socket takes so many bytes, with so many requests in flight at most, and its
/// driver.
fn prepare(
    room: usize,
    requests: usize,
) -> (Arc<Transmission>, Stream, impl Future<Output = Ended>) {
    let stream = Stream::default();
    stream.drain(room);
    let flags = TransmissionFlags::HAS_FLAGS | TransmissionFlags::SEND_FLUSH;
    let export = Export::new("", 1 << 20, flags, ReplyStyle::Simple).unwrap();
    let bounds = Bounds {
        requests,
        bytes: 1 << 20,
    };
    // What happens is decided by the order alone, and not by a clock.
    let config = &Config {
        busy_poll: Some(Duration::ZERO),
        ..Config::default()
    };
    let transmission = Transmission::new(Arc::new(export), ReplyStyle::Simple, bounds, config);
    let transmission = Arc::new(transmission);
    let (read, write) = (Box::new(stream.clone()), Box::new(stream.clone()));
    let (input, output) = (Input::new(read, BytesMut::new()), Output::new(write, false));
    let mut driver = Driver::new(transmission.clone(), input, output, None, config);
    let driver = {
        let transmission = transmission.clone();
        async move {
            let ended = driver.run().await;
            drop(driver);
            // What the task does when the driver is done.
            let (Ended::Orderly(error) | Ended::Failed(error)) = &ended;
            transmission.end(error);
            ended
        }
    };
    (transmission, stream, driver)
}

/// More than is read together with the head of a reply: it goes straight into the buffer of the
/// read.
const LARGE: u64 = 40 << 10;

fn read() -> Submission {
    Submission {
        command: Command::READ,
        flags: CommandFlags::empty(),
        offset: 0,
        length: LARGE,
        payload: Bytes::new(),
        sink: Sink::Read(Assembly::new(0, LARGE, BytesMut::new())),
    }
}

fn assert_read(answer: Result<Answer, Error>) {
    match answer.unwrap() {
        Answer::Data(data) => assert!(data == vec![7; LARGE as usize]),
        other => panic!("not the data of a read: {other:?}"),
    }
}

fn write(length: usize) -> Submission {
    Submission {
        command: Command::WRITE,
        flags: CommandFlags::empty(),
        offset: 0,
        length: length as u64,
        payload: Bytes::from(vec![7; length]),
        sink: Sink::None,
    }
}

async fn submit(transmission: &Transmission, submission: Submission) -> Result<Cookie, Error> {
    let mut submission = Some(submission);
    let mut ticket = None;
    poll_fn(|cx| transmission.poll_submit(false, &mut submission, &mut ticket, cx.waker())).await
}

async fn call(transmission: &Transmission, submission: Submission) -> Result<Answer, Error> {
    let cookie = submit(transmission, submission).await?;
    poll_fn(|cx| transmission.poll_answer(cookie, cx.waker())).await
}

/// Runs a race in many orders, some of them with few switches between threads.
fn explore(race: fn()) {
    explore_orders(RUNS, race);
}

/// Runs a race in so many orders of each of two kinds, if `NBD_RUNS` does not say.
pub(crate) fn explore_orders(runs: usize, race: fn()) {
    // Timers need to be somewhere. They never expire.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    // After a failure its timers belong to threads that are gone, and must not wake them.
    let runtime = std::mem::ManuallyDrop::new(runtime);
    let _inside = runtime.enter();
    let runs = std::env::var("NBD_RUNS").map_or(runs, |runs| runs.parse().unwrap());
    shuttle::check_random(race, runs);
    shuttle::check_pct(race, runs, 3);
}

// K10: an answer and a dropped future meet.
#[test]
fn an_answer_meets_a_future_that_is_dropped() {
    explore(|| {
        let (transmission, _stream, driver) = connect(usize::MAX);
        let dropped = block_on(submit(&transmission, write(10))).unwrap();
        transmission.abandon(dropped);
        // It overlaps: whoever waits for the first is told when that is answered.
        block_on(call(&transmission, write(10))).unwrap();
        assert_eq!(transmission.in_flight(), 0);
        transmission.close();
        assert!(matches!(driver.join().unwrap(), Ended::Orderly(_)));
    });
}

// K09: callers have threads of their own.
#[test]
fn every_call_is_woken() {
    explore(|| {
        let (transmission, _stream, driver) = connect(usize::MAX);
        let other = {
            let transmission = transmission.clone();
            thread::spawn(move || block_on(call(&transmission, write(10))).unwrap())
        };
        for _ in 0..2 {
            block_on(call(&transmission, write(10))).unwrap();
        }
        other.join().unwrap();
        transmission.close();
        assert!(matches!(driver.join().unwrap(), Ended::Orderly(_)));
    });
}

// Their answers are handed out one by one, to a caller that takes the last one first.
#[test]
fn a_few_calls_are_woken_in_any_order() {
    explore(|| {
        let (transmission, _stream, driver) = prepare(usize::MAX, 4);
        let driver = thread::spawn(move || block_on(driver));
        let cookies: Vec<_> = (0..4)
            .map(|_| block_on(submit(&transmission, write(10))).unwrap())
            .collect();
        for &cookie in cookies.iter().rev() {
            block_on(poll_fn(|cx| transmission.poll_answer(cookie, cx.waker()))).unwrap();
        }
        transmission.close();
        assert!(matches!(driver.join().unwrap(), Ended::Orderly(_)));
    });
}

// R18: the write is answered before its payload is written.
#[test]
fn an_early_answer_waits_for_the_rest_of_its_request() {
    explore(|| {
        let (transmission, stream, driver) = connect(COMPACT_REQUEST + 3);
        let socket = {
            let stream = stream.clone();
            thread::spawn(move || stream.drain(7))
        };
        block_on(call(&transmission, write(10))).unwrap();
        assert_eq!(stream.written(), COMPACT_REQUEST + 10);
        socket.join().unwrap();
        stream.drain(1 << 20);
        transmission.close();
        assert!(matches!(driver.join().unwrap(), Ended::Orderly(_)));
    });
}

// K08: a request meets the end of its connection.
#[test]
fn closing_meets_a_request() {
    explore(|| {
        let (transmission, _stream, driver) = connect(usize::MAX);
        let caller = {
            let transmission = transmission.clone();
            thread::spawn(move || block_on(call(&transmission, write(10))))
        };
        transmission.close();
        transmission.discard_unsent();
        assert!(matches!(
            caller.join().unwrap(),
            Ok(_) | Err(Error::Closed(_))
        ));
        assert!(matches!(driver.join().unwrap(), Ended::Orderly(_)));
        assert_eq!(transmission.in_flight(), 0);
    });
}

// K06: a request is in flight when the connection ends.
#[test]
fn a_failure_meets_a_request() {
    explore(|| {
        let (transmission, stream, driver) = connect(COMPACT_REQUEST);
        let caller = {
            let transmission = transmission.clone();
            thread::spawn(move || block_on(call(&transmission, write(10))))
        };
        transmission.fail(Error::timeout(Phase::Request, Duration::from_secs(1)));
        let lost = caller.join().unwrap().unwrap_err();
        assert!(matches!(lost, Error::Timeout(Phase::Request, _)));
        // What is said not to have been sent never is.
        assert!(stream.written() == 0 || lost.delivery() == Delivery::MaybeSent);
        assert!(matches!(driver.join().unwrap(), Ended::Failed(_)));
        assert_eq!(transmission.in_flight(), 0);
    });
}

#[test]
fn the_last_handle_goes_while_the_driver_sleeps() {
    explore(|| {
        let (transmission, _stream, driver) = connect(usize::MAX);
        transmission.detach();
        assert!(matches!(driver.join().unwrap(), Ended::Orderly(_)));
    });
}

#[test]
fn a_large_read_alone_is_answered() {
    explore(|| {
        let (transmission, _stream, driver) = connect(usize::MAX);
        for _ in 0..2 {
            assert_read(block_on(call(&transmission, read())));
        }
        assert_eq!(transmission.in_flight(), 0);
        transmission.close();
        assert!(matches!(driver.join().unwrap(), Ended::Orderly(_)));
    });
}

#[test]
fn a_large_read_is_answered_where_driver_and_callers_take_turns() {
    explore(|| {
        let (transmission, stream, driver) = prepare(COMPACT_REQUEST / 2, 2);
        let socket = thread::spawn(move || stream.drain(1 << 20));
        let caller = async {
            for _ in 0..2 {
                assert_read(call(&transmission, read()).await);
                call(&transmission, write(10)).await.unwrap();
            }
            transmission.close();
        };
        let (ended, ()) = block_on(futures::future::join(driver, caller));
        assert!(matches!(ended, Ended::Orderly(_)));
        assert_eq!(transmission.in_flight(), 0);
        socket.join().unwrap();
    });
}

// R18: the write is answered before its payload is written.
#[test]
fn a_large_read_meets_a_write_that_is_answered_early() {
    explore(|| {
        let (transmission, stream, driver) = connect(COMPACT_REQUEST + 3);
        let reader = {
            let transmission = transmission.clone();
            thread::spawn(move || assert_read(block_on(call(&transmission, read()))))
        };
        let socket = thread::spawn(move || stream.drain(1 << 20));
        block_on(call(&transmission, write(10))).unwrap();
        reader.join().unwrap();
        socket.join().unwrap();
        transmission.close();
        assert!(matches!(driver.join().unwrap(), Ended::Orderly(_)));
    });
}

#[test]
fn closing_meets_a_large_read() {
    explore(|| {
        let (transmission, _stream, driver) = connect(usize::MAX);
        let caller = {
            let transmission = transmission.clone();
            thread::spawn(move || block_on(call(&transmission, read())))
        };
        transmission.close();
        match caller.join().unwrap() {
            Err(Error::Closed(_)) => {}
            answer => assert_read(answer),
        }
        assert!(matches!(driver.join().unwrap(), Ended::Orderly(_)));
        assert_eq!(transmission.in_flight(), 0);
    });
}

#[test]
fn a_large_read_that_is_dropped_leaves_the_next_one_alone() {
    explore(|| {
        let (transmission, _stream, driver) = connect(usize::MAX);
        let dropped = block_on(submit(&transmission, read())).unwrap();
        transmission.abandon(dropped);
        assert_read(block_on(call(&transmission, read())));
        transmission.close();
        assert!(matches!(driver.join().unwrap(), Ended::Orderly(_)));
        assert_eq!(transmission.in_flight(), 0);
    });
}

#[test]
fn the_last_handle_goes_beside_a_large_read() {
    explore(|| {
        let (transmission, _stream, driver) = connect(usize::MAX);
        let caller = {
            let transmission = transmission.clone();
            thread::spawn(move || block_on(call(&transmission, read())))
        };
        transmission.detach();
        match caller.join().unwrap() {
            Err(Error::Closed(_)) => {}
            answer => assert_read(answer),
        }
        assert!(matches!(driver.join().unwrap(), Ended::Orderly(_)));
        assert_eq!(transmission.in_flight(), 0);
    });
}
