//! Flushes over one of several links.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Lasting, Losses, is_lost};
use crate::disk::hub::{Hub, Link};
use crate::error::{Delivery, Error, Result};
use crate::request::{Execute, Request};

/// Flushes on one link what was acknowledged on all (P7). What that promises is said when the caller
/// takes the result: see [`Hub::promise`].
pub(super) async fn flush<O: Execute>(hub: Arc<Hub>, request: Lasting<O>) -> Result<O::Output> {
    hub.settle().await;
    let mut losses = Losses::default();
    loop {
        let link = hub.link(None).await;
        let link = link.map_err(|error| losses.without_link(error))?;
        let mark = hub.acknowledged();
        let flush = request.on(&link.connection, request.operation.again());
        let Some(result) = send(&hub, &link, flush).await else {
            losses.left();
            continue;
        };
        match result {
            Ok(output) => {
                hub.flushed(mark);
                hub.other_flushes().await;
                return Ok(output);
            }
            // An earlier one has failed: unless that is forgiven by now, it is said. Its own task has
            // recorded it first, unless its link had fallen silent, so the caller can forgive it.
            Err(Error::DurabilityUnknown(_)) => {
                hub.flushed(mark);
                hub.other_flushes().await;
                hub.no_failure()?;
            }
            Err(error) if is_lost(&error) => losses.add(&hub, &link, error)?,
            Err(error) => return Err(error),
        }
    }
}

/// Flushes for the disk's own sake: too much is unflushed, or a read needs what several links have
/// written (P6).
pub(in crate::disk) async fn flush_early(hub: &Arc<Hub>) {
    let mark = hub.acknowledged();
    let Ok(link) = hub.link(None).await else {
        return;
    };
    match send(hub, &link, link.connection.flush()).await {
        Some(Ok(()) | Err(Error::DurabilityUnknown(_))) => hub.flushed(mark),
        Some(Err(error)) if is_lost(&error) => hub.leave(&link, &error),
        // If it has failed, the next flush of a caller says so, too.
        Some(Err(_)) | None => {}
    }
}

/// Sends a flush over a link. A task waits for the answer, because a failure concerns whoever flushes
/// next, over whatever link, and the caller may not poll. Returns `None` if the link falls silent.
async fn send<O: Execute>(
    hub: &Arc<Hub>,
    link: &Arc<Link>,
    flush: Request<O>,
) -> Option<Result<O::Output>> {
    let in_flight = hub.begin_flush();
    let mut answer = flush.submit();
    let (sender, receiver) = oneshot::channel();
    let (its, link) = (hub.clone(), link.clone());
    hub.spawn(async move {
        let result = its.unless_stalled(&link, &mut answer).await;
        let is_answered = result.is_some();
        if let Some(result) = &result {
            its.note_flush(result);
        }
        drop(in_flight);
        let _ = sender.send(result);
        if !is_answered {
            its.note_flush(&answer.await);
        }
    });
    let gone = || Some(Err(Error::closed().delivered(Delivery::MaybeSent)));
    receiver.await.unwrap_or_else(|_| gone())
}
