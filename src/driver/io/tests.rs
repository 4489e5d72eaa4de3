//! When the driver and its callers wake each other.

use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf};
use tokio::time::Instant;

use super::*;
use crate::export::Export;
use crate::session::{Bounds, Cookie, Sink, Submission};
use crate::wire::reply::Reply;
use crate::wire::request::{COMPACT_REQUEST, RequestHead};
use crate::wire::{Command, CommandFlags, Errno, ReplyStyle, TransmissionFlags};

/// Counts how often it was woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    /// Returns how often it was woken since it was asked last.
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// How long a request may be unanswered.
const LIMIT: Duration = Duration::from_secs(16);

/// Panics when it is read after it has had something to read.
struct Fragile(ReadHalf<DuplexStream>, bool);

impl AsyncRead for Fragile {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        assert!(!self.1, "a stream may panic");
        let polled = Pin::new(&mut self.0).poll_read(cx, buf);
        self.1 = polled.is_ready();
        polled
    }
}

/// A connection whose driver runs only when a test polls it.
struct Stepped {
    transmission: Arc<Transmission>,
    driver: Pin<Box<dyn Future<Output = Ended>>>,
    woken: Arc<Count>,
    server: DuplexStream,
}

impl Stepped {
    fn new() -> Self {
        Self::over(None, |read| read)
    }

    /// Creates one with this deadline for replies, that reads from what `wrap` makes of the stream.
    fn over<R>(
        reply_timeout: Option<Duration>,
        wrap: impl FnOnce(ReadHalf<DuplexStream>) -> R,
    ) -> Self
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let flags = TransmissionFlags::HAS_FLAGS | TransmissionFlags::SEND_FLUSH;
        let export = Export::new("", 1 << 20, flags, ReplyStyle::Simple).unwrap();
        let bounds = Bounds {
            requests: 64,
            bytes: 1 << 20,
        };
        let config = Config {
            busy_poll: Some(Duration::ZERO),
            reply_timeout,
            ..Config::default()
        };
        let transmission = Transmission::new(Arc::new(export), ReplyStyle::Simple, bounds, &config);
        let transmission = Arc::new(transmission);
        let (client, server) = tokio::io::duplex(1 << 16);
        let (read, write) = tokio::io::split(client);
        let input = Input::new(Box::new(wrap(read)), BytesMut::new());
        let output = Output::new(Box::new(write), false);
        let mut driver = Driver::new(transmission.clone(), input, output, None, &config);
        Self {
            transmission,
            driver: Box::pin(async move { driver.run().await }),
            woken: Arc::default(),
            server,
        }
    }

    /// Polls the driver once.
    fn poll(&mut self) -> Poll<Ended> {
        let waker = Waker::from(self.woken.clone());
        self.driver.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Polls the driver once, which goes on. Returns how often it was woken meanwhile.
    fn step(&mut self) -> usize {
        self.woken.take();
        let polled = self.poll();
        assert!(polled.is_pending(), "{polled:?}");
        self.woken.take()
    }

    /// Submits so many flushes, and has their caller wait for the answers.
    async fn submit(&self, requests: usize, caller: &Arc<Count>) -> Vec<Cookie> {
        let mut cookies = Vec::new();
        for _ in 0..requests {
            let mut submission = Some(Submission {
                command: Command::FLUSH,
                flags: CommandFlags::empty(),
                offset: 0,
                length: 0,
                payload: Bytes::new(),
                sink: Sink::None,
            });
            let mut ticket = None;
            let cookie = poll_fn(|cx| {
                let waker = cx.waker();
                self.transmission
                    .poll_submit(false, &mut submission, &mut ticket, waker)
            });
            cookies.push(cookie.await.unwrap());
        }
        for &cookie in &cookies {
            let waker = Waker::from(caller.clone());
            assert!(self.transmission.poll_answer(cookie, &waker).is_pending());
        }
        cookies
    }

    /// Hears a request.
    async fn hear(&mut self) -> RequestHead {
        let mut bytes = [0; COMPACT_REQUEST];
        self.server.read_exact(&mut bytes).await.unwrap();
        RequestHead::decode(false, &bytes).unwrap().unwrap()
    }

    /// Answers so many requests that have come, in one write.
    async fn answer(&mut self, requests: usize) {
        let mut replies = BytesMut::new();
        for _ in 0..requests {
            let head = self.hear().await;
            Reply::simple(head.cookie, Errno::OK, Bytes::new()).encode(&mut replies);
        }
        self.server.write_all(&replies).await.unwrap();
    }
}

#[tokio::test]
async fn a_caller_that_takes_its_answer_wakes_the_driver() {
    let (mut connection, caller) = (Stepped::new(), Arc::<Count>::default());
    let cookie = connection.submit(1, &caller).await[0];
    connection.step();
    connection.answer(1).await;

    // A task that wakes itself has the multi-thread runtime wake another worker.
    assert_eq!(connection.step(), 0, "the driver wakes itself");
    assert_eq!(caller.take(), 1);
    let answer = connection.transmission.poll_answer(cookie, Waker::noop());
    assert!(answer.is_ready());
    assert_eq!(connection.woken.take(), 1);
    // What the caller asks next finds the driver about to run.
    connection.submit(1, &caller).await;
    assert_eq!(connection.woken.take(), 0);
}

#[tokio::test]
async fn a_caller_that_drops_its_future_wakes_the_driver() {
    let (mut connection, caller) = (Stepped::new(), Arc::<Count>::default());
    let cookie = connection.submit(1, &caller).await[0];
    connection.step();
    connection.answer(1).await;
    assert_eq!((connection.step(), caller.take()), (0, 1));
    connection.transmission.abandon(cookie);
    assert_eq!(connection.woken.take(), 1);
}

#[tokio::test]
async fn the_driver_sleeps_again_after_a_caller_that_asks_nothing() {
    let (mut connection, caller) = (Stepped::new(), Arc::<Count>::default());
    let cookie = connection.submit(1, &caller).await[0];
    connection.step();
    connection.answer(1).await;
    connection.step();
    let _ = connection.transmission.poll_answer(cookie, Waker::noop());
    assert_eq!(connection.step(), 0);
    // It no longer waits for a caller.
    let _ = connection.submit(1, &caller).await;
    assert_eq!(connection.woken.take(), 1);
}

#[tokio::test]
async fn a_few_answers_are_handed_out_one_by_one() {
    for requests in [2, 3, 5, 7, 8, 40] {
        let (mut connection, caller) = (Stepped::new(), Arc::<Count>::default());
        connection.submit(requests, &caller).await;
        connection.step();
        connection.answer(requests).await;
        let mut handed = Vec::new();
        while handed.iter().sum::<usize>() < requests {
            assert!(handed.len() < requests, "{handed:?}");
            connection.step();
            handed.push(caller.take());
        }
        // From the third to the last on, as many are in flight as are taken in at once.
        match requests {
            3 | 5 | 7 => {
                assert!(handed[..requests - 2].iter().all(|&count| count == 1));
                assert_eq!(handed.len(), requests - 1);
            }
            _ => assert_eq!(handed, [requests]),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_takes_does_not_keep_memory() {
    let (mut connection, caller) = (Stepped::new(), Arc::<Count>::default());
    connection.submit(1, &caller).await;
    connection.step();
    connection.answer(1).await;
    assert_eq!((connection.step(), caller.take()), (0, 1));
    tokio::time::advance(2 * IDLE).await;
    assert_eq!(connection.woken.take(), 1, "the time has come");
}

#[tokio::test]
async fn a_caller_is_woken_although_the_stream_panics() {
    let (mut connection, caller) = (
        Stepped::over(None, |read| Fragile(read, false)),
        Arc::<Count>::default(),
    );
    let cookie = connection.submit(1, &caller).await[0];
    connection.step();
    connection.answer(1).await;
    let polled = catch_unwind(AssertUnwindSafe(|| connection.step()));
    assert!(polled.is_err());
    connection.driver = Box::pin(pending());
    assert_eq!(caller.take(), 1);
    let answer = connection.transmission.poll_answer(cookie, Waker::noop());
    assert!(matches!(answer, Poll::Ready(Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn a_request_is_overdue_although_there_is_always_something_else_to_do() {
    const EACH: usize = 10;
    let mut connection = Stepped::over(Some(LIMIT), |read| read);
    let caller = Arc::<Count>::default();
    connection.submit(1, &caller).await;
    connection.step();
    connection.hear().await;
    let begin = Instant::now();
    for _ in 0..1_000_000 {
        connection.submit(EACH, &caller).await;
        // It writes these, and then takes in the answers to those before.
        if let Poll::Ready(ended) = connection.poll() {
            assert!(matches!(
                ended,
                Ended::Failed(Error::Timeout(Phase::Reply, _))
            ));
            assert!(begin.elapsed() >= LIMIT);
            return;
        }
        connection.answer(EACH).await;
        tokio::time::advance(LIMIT / 10).await;
    }
    panic!("it is never found");
}
