//! The life of a tool: how it ends, and the server processes that it has started with it.

use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::process::ExitCode;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::out::complain;
use crate::words;

/// What is added to the number of a signal for the exit code of a program that it has ended.
const BY_SIGNAL: i32 = 128;
/// How long the end of the runtime may take.
const LEAVE: Duration = Duration::from_secs(1);

/// Why a tool failed, or what it says of a signal.
pub(crate) trait Failure: Display + From<io::Error> + From<&'static str> {}
impl<E: Display + From<io::Error> + From<&'static str>> Failure for E {}

/// Runs a tool until it has done its work, or a signal ends it.
///
/// Its work must not block the thread: nothing else would notice the signal.
pub(crate) fn run<E: Failure>(
    tool: &str,
    work: impl Future<Output = Result<ExitCode, E>>,
) -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build();
    // This runtime ends its tasks without waiting. A read of the standard input may still wait.
    live(tool, runtime, Duration::ZERO, |signals| {
        signals.unless(work)
    })
}

/// Runs a tool that ends in order at the first signal, and at once at the second one.
pub(crate) fn run_in_order<E: Failure, F: Future<Output = Result<ExitCode, E>>>(
    tool: &str,
    runtime: io::Result<Runtime>,
    work: impl FnOnce(Signals) -> F,
) -> ExitCode {
    live(tool, runtime, LEAVE, work)
}

/// Runs a tool, and complains if it fails. Its server processes are told to end with the runtime.
fn live<E: Failure, F: Future<Output = Result<ExitCode, E>>>(
    tool: &str,
    runtime: io::Result<Runtime>,
    leave: Duration,
    work: impl FnOnce(Signals) -> F,
) -> ExitCode {
    let ended = runtime.map_err(|error| (error.into(), ExitCode::FAILURE));
    let ended = ended.and_then(|runtime| {
        let ended = runtime.block_on(until_the_second_signal(work));
        runtime.shutdown_timeout(leave);
        ended
    });
    ended.unwrap_or_else(|(error, code)| {
        complain!("{tool}: {}", words::of_tool(tool, &error.to_string()));
        code
    })
}

async fn until_the_second_signal<E: Failure, F: Future<Output = Result<ExitCode, E>>>(
    work: impl FnOnce(Signals) -> F,
) -> Result<ExitCode, (E, ExitCode)> {
    let signals = Signals::catch().map_err(|error| (error.into(), ExitCode::FAILURE))?;
    let ended = tokio::select! {
        result = work(signals.clone()) => result,
        () = signals.caught(2) => Err("ended by a second signal".into()),
    };
    ended.map_err(|error| (error, signals.code()))
}

/// The signals that have asked this program to end: Ctrl-C, SIGTERM, and SIGHUP, as when its terminal
/// is closed.
#[derive(Clone)]
pub(crate) struct Signals(watch::Receiver<Caught>);

#[derive(Clone, Copy, Default)]
struct Caught {
    count: usize,
    /// The exit code that the newest one asks for.
    code: i32,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        let (sender, receiver) = watch::channel(Caught::default());
        let mut signals = listen()?;
        tokio::spawn(async move {
            let mut count = 0;
            loop {
                let number = next(&mut signals).await;
                // For one closed terminal, the kernel and the shell may both send it.
                if count > 0 && number == SignalKind::hangup().as_raw_value() {
                    continue;
                }
                count += 1;
                let code = BY_SIGNAL + number;
                if count > 1 {
                    exit_soon(code);
                }
                sender.send_replace(Caught { count, code });
            }
        });
        Ok(Self(receiver))
    }

    /// Waits for the first signal.
    pub(crate) async fn first(self) {
        self.caught(1).await;
    }

    /// Works until the first signal.
    pub(crate) async fn unless<T, E: From<&'static str>>(
        self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        tokio::select! {
            result = work => result,
            () = self.first() => Err("ended by a signal before its work was done".into()),
        }
    }

    async fn caught(&self, count: usize) {
        let mut receiver = self.0.clone();
        // The sender lives as long as the runtime.
        let _ = receiver.wait_for(|caught| caught.count >= count).await;
    }

    /// Returns the exit code of a failure: what the signal asks for, if there was one.
    fn code(&self) -> ExitCode {
        match u8::try_from(self.0.borrow().code) {
            Ok(0) | Err(_) => ExitCode::FAILURE,
            Ok(code) => ExitCode::from(code),
        }
    }
}

/// Catches the signals, but for those that the caller of this program has it ignore, as `nohup` does.
fn listen() -> io::Result<Vec<(i32, Signal)>> {
    let ignored = ignored();
    let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
    let kinds = [SignalKind::hangup(), interrupt, terminate];
    let numbered = kinds.map(|kind| (kind.as_raw_value(), kind));
    let wanted = numbered
        .into_iter()
        .filter(|(number, _)| ignored >> (number - 1) & 1 == 0);
    wanted
        .map(|(number, kind)| Ok((number, signal(kind)?)))
        .collect()
}

/// Returns a bit for each signal that is ignored; where the system does not tell, SIGHUP may be.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(1)
}

/// Waits for a signal and returns its number.
async fn next(signals: &mut [(i32, Signal)]) -> i32 {
    poll_fn(|cx| {
        for (number, signal) in signals.iter_mut() {
            if signal.poll_recv(cx).is_ready() {
                return Poll::Ready(*number);
            }
        }
        Poll::Pending
    })
    .await
}

/// Ends the program also if its thread waits for something that does not come, such as the reader of
/// a full pipe.
fn exit_soon(code: i32) {
    thread::spawn(move || {
        thread::sleep(2 * LEAVE);
        std::process::exit(code);
    });
}
