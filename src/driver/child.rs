//! What a connection does with the process of its server.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use super::shared::Shared;
use crate::driver::timer::{after, until};
use crate::error::{Error, Phase};
use crate::transport::child::Child;

/// How long it may take until all is read that a server said before it exited. Only processes that
/// it has left behind, with its socket, can make this necessary.
const LINGER: Duration = Duration::from_millis(100);
/// How long a lost connection waits to learn how its server ended.
const POST_MORTEM: Duration = Duration::from_millis(200);
/// How long a failed attempt to connect waits for that.
const FAREWELL: Duration = Duration::from_millis(500);

/// Does what is to be done on a connection, until its server has exited: then `None`.
pub(super) async fn beside<T>(
    child: Option<&mut Child>,
    shared: &Shared,
    serving: impl Future<Output = T>,
) -> Option<T> {
    let mut serving = pin!(serving);
    let Some(child) = child else {
        return Some(serving.await);
    };
    {
        // It asks for the end of the process only when that may have come, and not as often as
        // the connection has something to do.
        let mut exit: FuturesUnordered<_> = std::iter::once(child.ended()).collect();
        tokio::select! {
            biased;
            ended = &mut serving => return Some(ended),
            _ = exit.next() => {}
        }
    }
    // The socket is closed, unless others have it.
    child.tell();
    if let Some(ended) = until(after(LINGER), &mut serving).await {
        return Some(ended);
    }
    match shared.link() {
        // Its driver knows what has been sent.
        Some(link) if !link.is_parting() => {
            link.fail(Error::eof(Phase::Request));
            Some(serving.await)
        }
        _ => None,
    }
}

/// The error of a connection that has failed, with what is known of its server's process; of an
/// attempt to connect that had to be over by `deadline`, if one is given.
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
        // Also one that listens, to which the end of a connection is nothing, may be about to exit.
        child.close(POST_MORTEM);
        let now = Instant::now();
        let until = match deadline {
            Some(deadline) => deadline.min(now + FAREWELL),
            None => now + POST_MORTEM,
        };
        let _ = timeout_at(until, child.terminate()).await;
    }
    error.with_child(child.report().await)
}
