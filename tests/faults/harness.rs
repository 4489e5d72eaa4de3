//! How every case is run: a connection with requests in flight, one of which is answered wrongly.

use std::fmt::Debug;
use std::time::Duration;

use nbd_client::testing::Peer;
use nbd_client::wire::option::ExportInfo;
use nbd_client::wire::{Command, ProtocolError, ReplyStyle, TransmissionFlags};
use nbd_client::{Connection, Delivery, Error, Phase, RequestError, Result, State};
use tokio::runtime::{Builder, RuntimeFlavor};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::answer::To;
pub(crate) use crate::ask::{Ask, BARE, Got};
pub(crate) use crate::random::Random;
use crate::shared::long;
pub(crate) use crate::transport::Transport;

pub(crate) const SIMPLE: [ReplyStyle; 1] = [ReplyStyle::Simple];
pub(crate) const STRUCTURED: [ReplyStyle; 1] = [ReplyStyle::Structured];
pub(crate) const EXTENDED: [ReplyStyle; 1] = [ReplyStyle::Extended];
/// The styles whose replies are chunks.
pub(crate) const CHUNKED: [ReplyStyle; 2] = [ReplyStyle::Structured, ReplyStyle::Extended];
pub(crate) const STYLES: [ReplyStyle; 3] = [
    ReplyStyle::Simple,
    ReplyStyle::Structured,
    ReplyStyle::Extended,
];

/// The size of the export.
pub(crate) const SIZE: u64 = 1 << 33;
/// The metadata contexts of the export, and their ids.
pub(crate) const CONTEXTS: [(u32, &str); 2] = [(10, "base:allocation"), (11, "x:y")];

/// An export that can do everything.
pub(crate) const fn info(size: u64) -> ExportInfo {
    let flags = TransmissionFlags::all()
        .difference(TransmissionFlags::READ_ONLY)
        .difference(TransmissionFlags::SEND_RESIZE);
    ExportInfo { size, flags }
}

/// Only hangs are found by this: nothing here takes as long even on a busy machine.
const WATCHDOG: Duration = Duration::from_secs(60);
/// How long a request that is not answered is given.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// What must come of a case.
pub(crate) enum Outcome<'a> {
    /// The violation ends the connection: everybody gets this cause.
    Fatal(&'a dyn Fn(&ProtocolError) -> bool),
    /// The request fails with this error, and the connection goes on.
    Failed(&'a dyn Fn(&RequestError) -> bool),
    /// The request succeeds with this, and the connection goes on.
    Tolerated(&'a dyn Fn(&Got) -> bool),
    /// Then the server leaves, and everybody is told that the connection is lost.
    Lost,
    /// Then the server is silent until the request expires, which ends the connection.
    Expired,
}

macro_rules! is {
    ($pattern:pat $(if $guard:expr)?) => {
        &|it: &_| matches!(it, $pattern $(if $guard)?)
    };
}
pub(crate) use is;

/// These styles as often as a long run is to have them.
pub(crate) fn repeated(styles: &[ReplyStyle]) -> impl Iterator<Item = ReplyStyle> {
    std::iter::repeat_n(styles, long::factor())
        .flatten()
        .copied()
}

/// Runs a test in each of these styles over every transport, with a watchdog; over sockets on both
/// runtimes.
pub(crate) fn each(styles: &[ReplyStyle], test: impl AsyncFn(ReplyStyle, Transport)) {
    let both = [RuntimeFlavor::CurrentThread, RuntimeFlavor::MultiThread];
    on(&both, styles, test);
}

/// The same for a test that lets the client run until it waits: there is one thread for both.
pub(crate) fn each_on_one_thread(styles: &[ReplyStyle], test: impl AsyncFn(ReplyStyle, Transport)) {
    on(&[RuntimeFlavor::CurrentThread], styles, test);
}

fn on(
    runtimes: &[RuntimeFlavor],
    styles: &[ReplyStyle],
    test: impl AsyncFn(ReplyStyle, Transport),
) {
    for style in repeated(styles) {
        for &transport in Transport::all() {
            for runtime in transport.runtimes(runtimes) {
                // Shown if it fails, and counted in a long run.
                println!("case: {style:?} over {transport:?}, {runtime:?}");
                alone(transport, runtime, async || {
                    let result = tokio::time::timeout(WATCHDOG, test(style, transport)).await;
                    assert!(result.is_ok(), "hangs with {style:?} over {transport:?}");
                });
            }
        }
    }
}

/// Runs a test over a pipe, on a clock that stands still while anything can be done: every
/// deadline passes when it must, and no real time with it.
pub(crate) fn paused(styles: &[ReplyStyle], test: impl AsyncFn(ReplyStyle)) {
    for style in repeated(styles) {
        println!("case: {style:?} over {:?}, paused", Transport::Duplex);
        alone(
            Transport::Duplex,
            &RuntimeFlavor::CurrentThread,
            async || test(style).await,
        );
    }
}

fn alone(transport: Transport, runtime: &RuntimeFlavor, test: impl AsyncFnOnce()) {
    let mut builder = if *runtime == RuntimeFlavor::MultiThread {
        Builder::new_multi_thread()
    } else {
        let mut builder = Builder::new_current_thread();
        builder.start_paused(transport == Transport::Duplex);
        builder
    };
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test());
}

/// Runs one row: `ask` in each of the `styles`, answered by what `says` gives.
pub(crate) fn row(
    styles: &[ReplyStyle],
    ask: Ask,
    says: &dyn Fn(&To) -> Vec<u8>,
    outcome: Outcome<'_>,
) {
    let run = async |style, transport| {
        let patience = match outcome {
            Outcome::Expired => PATIENCE,
            _ => Duration::MAX,
        };
        let mut case = Case::patient(style, transport, ask, patience).await;
        case.say(&says(&case.to)).await;
        match &outcome {
            Outcome::Fatal(is_cause) => case.assert_dead(is_cause).await,
            Outcome::Failed(is_error) => {
                let error = match case.asked().await {
                    Err(error) if error.is_fatal() => panic!("the connection goes on: {error:?}"),
                    Err(Error::Request(error)) => error,
                    other => panic!("not failed on the server: {other:?}"),
                };
                assert!(is_error(&error), "{error:?}");
                case.assert_usable().await;
            }
            Outcome::Tolerated(is_answer) => {
                let answer = case.asked().await.unwrap();
                assert!(is_answer(&answer), "{answer:?}");
                case.assert_usable().await;
            }
            Outcome::Lost => case.assert_lost().await,
            Outcome::Expired => case.assert_expired().await,
        }
    };
    match &outcome {
        Outcome::Expired => paused(styles, async |style| run(style, Transport::Duplex).await),
        _ => each(styles, run),
    }
}

/// A connection with three requests in flight: the one that is answered as the case will have it,
/// and one before and one after it.
pub(crate) struct Case {
    pub(crate) conn: Connection,
    pub(crate) peer: Peer,
    /// The request of the case.
    pub(crate) to: To,
    /// The other two: a read of 64 bytes at 2^20, and a cache, which waits for nothing.
    others: [To; 2],
    asked: Option<JoinHandle<Result<Got>>>,
    bystanders: [JoinHandle<Result<Got>>; 2],
    transport: Transport,
    start: Instant,
}

impl Case {
    pub(crate) async fn start(style: ReplyStyle, transport: Transport, ask: Ask) -> Self {
        Self::patient(style, transport, ask, Duration::MAX).await
    }

    /// The same, where the request of the case has a deadline.
    async fn patient(
        style: ReplyStyle,
        transport: Transport,
        ask: Ask,
        patience: Duration,
    ) -> Self {
        let mut builder = Connection::builder();
        for (_, context) in &CONTEXTS[..ask.contexts()] {
            builder = builder.meta_context(*context);
        }
        let (conn, mut peer) = transport.ready(style, builder).await;
        let mut head = async || peer.expect_request().await.unwrap().head;
        let read = conn.read(1 << 20, 64).into_future();
        let before = tokio::spawn(async move { read.await.map(Got::Data) });
        let first = head().await;
        let asked = tokio::spawn(ask.of(&conn, patience));
        let asked_head = head().await;
        let after = tokio::spawn(Ask::Cache.of(&conn, Duration::MAX));
        let last = head().await;
        let to = |head| To { style, head };
        Self {
            to: to(asked_head),
            others: [to(first), to(last)],
            asked: Some(asked),
            bystanders: [before, after],
            transport,
            start: Instant::now(),
            conn,
            peer,
        }
    }

    /// Sends bytes; a client that has left meanwhile does not hear all of them.
    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        let _ = self.peer.send_bytes(bytes).await;
    }

    /// What came of the request of the case.
    pub(crate) async fn asked(&mut self) -> Result<Got> {
        self.asked.take().unwrap().await.unwrap()
    }

    /// The request of the case is given up.
    pub(crate) async fn give_up(&mut self) {
        let asked = self.asked.take().unwrap();
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
    }

    /// Everybody has been told the same violation, and nobody can do anything any more.
    pub(crate) async fn assert_dead(mut self, is_cause: &dyn Fn(&ProtocolError) -> bool) {
        let mut results = Vec::new();
        if self.asked.is_some() {
            results.push(self.asked().await);
        }
        let mut cause = None;
        self.assert_ended(results, |error| {
            let Error::Protocol(violation, _) = error else {
                panic!("not a violation: {error:?}");
            };
            let first = cause.get_or_insert_with(|| violation.clone());
            assert_eq!(violation, first, "one cause for everybody");
        })
        .await;
        let cause = cause.unwrap();
        assert!(is_cause(&cause), "{cause:?}");
    }

    async fn assert_lost(mut self) {
        // Another one in its place: this one is dropped.
        self.peer = Peer::pair().0;
        let asked = self.asked().await;
        self.assert_ended(vec![asked], |error| {
            assert!(matches!(error, Error::Disconnected(..)), "{error:?}");
        })
        .await;
    }

    pub(crate) async fn assert_expired(mut self) {
        let asked = self.asked().await;
        assert_eq!(self.start.elapsed(), PATIENCE);
        self.start += PATIENCE;
        self.assert_ended(vec![asked], |error| {
            assert!(
                matches!(error, Error::Timeout(Phase::Request, _)),
                "{error:?}"
            );
        })
        .await;
    }

    /// Everybody in flight is told, and everybody who comes later, at once; the socket is closed.
    async fn assert_ended(mut self, mut results: Vec<Result<Got>>, mut check: impl FnMut(&Error)) {
        for bystander in self.bystanders {
            results.push(bystander.await.unwrap());
        }
        for result in results {
            let error = result.unwrap_err();
            check(&error);
            assert_eq!(error.delivery(), Delivery::MaybeSent);
            assert!(error.is_fatal(), "{error:?}");
        }
        check(&self.conn.closed().await);
        assert_eq!(self.conn.state(), State::Dead);
        assert_eq!(self.conn.in_flight(), 0);
        let late = self.conn.read(0, 1).await.unwrap_err();
        check(&late);
        assert_eq!(late.delivery(), Delivery::NotSent);
        // The end, or a reset if the client left without hearing everything.
        let _ = self.peer.expect_end().await;
        if self.transport == Transport::Duplex {
            assert_eq!(
                self.start.elapsed(),
                Duration::ZERO,
                "waited for a deadline"
            );
        }
    }

    /// The bystanders are answered, and so is who comes later; then the server hears goodbye.
    pub(crate) async fn assert_usable(mut self) {
        let [read, cache] = self.others;
        let data = [0x5a; 64];
        self.say(&cache.success()).await;
        self.say(&read.data(read.head.offset, &data, crate::answer::DONE))
            .await;
        let [before, after] = self.bystanders;
        assert!(before.await.unwrap().unwrap().is_data(&data));
        assert!(matches!(after.await.unwrap(), Ok(Got::Done)));
        assert_eq!(self.conn.state(), State::Ready);
        let (late, ()) = tokio::join!(self.conn.read(0, 4).into_future(), async {
            let read = self.peer.expect_command(Command::READ).await.unwrap().head;
            self.peer.send_data(&read, b"sync").await.unwrap();
        });
        assert_eq!(&late.unwrap()[..], b"sync");
        assert_eq!(self.conn.in_flight(), 0);
        if self.transport == Transport::Duplex {
            assert_eq!(
                self.start.elapsed(),
                Duration::ZERO,
                "waited for a deadline"
            );
        }
        goodbye(&self.conn, self.peer).await;
    }
}

/// An orderly end: `DISC`, and nothing after it.
pub(crate) async fn goodbye(conn: &Connection, mut peer: Peer) {
    let (disconnected, ()) = tokio::join!(conn.disconnect().into_future(), async {
        peer.expect_command(Command::DISC).await.unwrap();
        peer.expect_end().await.unwrap();
        drop(peer);
    });
    disconnected.unwrap();
    assert_eq!(conn.state(), State::Closed);
}

/// The error of a result, for those that must fail.
#[track_caller]
pub(crate) fn violation<T: Debug>(result: Result<T>) -> ProtocolError {
    match result {
        Err(Error::Protocol(violation, _)) => violation,
        other => panic!("not a violation: {other:?}"),
    }
}

/// Lets every other task run until it waits for something.
pub(crate) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}
