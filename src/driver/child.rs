//! The server process of a connection.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use super::inner::Inner;
use crate::driver::timer::{after, until};
use crate::error::{Error, Phase};
use crate::transport::child::Child;

/// How long to read what a server sent before it exited. The limit matters only if a process that
/// the server has started still has the socket.
const LINGER: Duration = Duration::from_millis(100);
/// How long a lost connection waits for the exit status of its server.
const POST_MORTEM: Duration = Duration::from_millis(200);
/// How long a failed attempt to connect waits for the exit status of its server.
const FAREWELL: Duration = Duration::from_millis(500);

/// Runs `serving` until it ends, or returns `None` if the server process exits before.
pub(super) async fn beside<T>(
    child: Option<&mut Child>,
    inner: &Inner,
    mut serving: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let Some(child) = child else {
        return Some(serving.await);
    };
    {
        // The exit is polled only when it may have come, not each time the connection is polled.
        let mut exit: FuturesUnordered<_> = std::iter::once(child.ended()).collect();
        tokio::select! {
            biased;
            ended = &mut serving => return Some(ended),
            _ = exit.next() => {}
        }
    }
    // The socket is closed now, unless another process has it.
    child.tell();
    if let Some(ended) = until(after(LINGER), &mut serving).await {
        return Some(ended);
    }
    match inner.transmission() {
        // The driver knows which requests have been sent.
        Some(transmission) if !transmission.is_parting() => {
            transmission.fail(Error::eof(Phase::Request));
            Some(serving.await)
        }
        _ => None,
    }
}

/// Returns whether other connections go on using the server. They may be about to end as well: with the
/// server, or because they have parted until this time.
pub(super) async fn is_used(child: &mut Child, parted: Option<Instant>) -> bool {
    let until = parted.unwrap_or_else(|| Instant::now() + POST_MORTEM);
    timeout_at(until, child.deserted()).await.is_err()
}

/// Adds what is known of the server process to the error of a failed connection. `deadline` is that
/// of an attempt to connect.
pub(super) async fn post_mortem(
    child: &mut Child,
    error: Error,
    deadline: Option<Instant>,
) -> Error {
    if !error.takes_child() {
        return error;
    }
    if matches!(error, Error::Timeout(..)) {
        child.close(Duration::ZERO);
    } else {
        // A server that listens does not notice the end of a connection, but may be about to exit.
        child.close(POST_MORTEM);
        let now = Instant::now();
        let until = match deadline {
            Some(deadline) => deadline.min(now + FAREWELL),
            None => now + POST_MORTEM,
        };
        let _ = timeout_at(until, child.terminate()).await;
    }
    let mut report = child.report().await;
    let error = match child.run_failure(&report) {
        Some(failure) => {
            report.was_not_run = true;
            failure
        }
        None => error,
    };
    error.with_child(report)
}
