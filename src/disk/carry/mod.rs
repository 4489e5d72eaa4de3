//! How a disk carries out requests: over one link after the other, until there is an answer.

mod carrier;
mod change;
mod flush;
mod pending;
mod reading;

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub(super) use carrier::Carried;
use flush::flush;
pub(super) use flush::flush_early;
pub use pending::Pending;
use reading::Reading;

use super::Disk;
use super::hub::{Hub, Link};
use crate::connection::Connection;
use crate::error::{Delivery, Error, Result};
use crate::export::Export;
use crate::request::{Client, Execute, Request, sealed};
use crate::wire::{CommandFlags, Errno, ProtocolError};

/// On how many lost links a request may have been before it fails.
const MOST_LOSSES: u32 = 3;

/// The work on a request.
type Work<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// A request that can be sent again.
struct Lasting<O> {
    operation: O,
    range: Range<u64>,
    flags: CommandFlags,
    is_unaligned: bool,
}

impl<O: Execute> Lasting<O> {
    fn new(request: Request<O, Disk>) -> Self {
        let is_unaligned = request.is_unaligned();
        let (operation, offset, length, flags) = request.into_parts();
        Self {
            operation,
            // Ranges that are too long are refused by the checks of each link.
            range: offset..offset.saturating_add(length),
            flags,
            is_unaligned,
        }
    }

    /// The request on a link. `operation` is what it was made with, or a copy.
    fn on(&self, connection: &Connection, operation: O) -> Request<O> {
        let length = self.range.end - self.range.start;
        Request::from_parts(
            connection,
            operation,
            self.range.start,
            length,
            self.flags,
            self.is_unaligned,
        )
    }
}

/// Whether the error says that the link is over, and not only the request.
fn is_lost(error: &Error) -> bool {
    error.is_fatal()
}

/// Whether anything of the request may have been sent.
fn was_sent(error: &Error) -> bool {
    error.delivery() != Delivery::NotSent
}

/// Whether the server has answered that it is shutting down: then nothing was carried out.
pub(super) fn is_shutdown(error: &Error) -> bool {
    matches!(error, Error::Request(request) if request.errno() == Errno::ESHUTDOWN)
}

/// The links that were lost under a request that changes nothing.
#[derive(Default)]
struct Losses {
    count: u32,
    /// Whether the request was sent over any link.
    was_sent: bool,
}

impl Losses {
    /// Takes a dead link out of use. Returns the error if that was one too many.
    fn add(&mut self, hub: &Hub, link: &Link, error: Error) -> Result<()> {
        hub.leave(link, &error);
        let was_sent = was_sent(&error);
        self.count += u32::from(was_sent);
        self.was_sent |= was_sent;
        if self.count < MOST_LOSSES {
            Ok(())
        } else {
            Err(error)
        }
    }

    /// Records that a link was left although it has not ended, because its server is silent.
    const fn left(&mut self) {
        self.was_sent = true;
    }

    /// The error of a request for which there is no link any more.
    fn without_link(&self, error: Error) -> Error {
        match self.was_sent {
            true => error.delivered(Delivery::MaybeSent),
            false => error,
        }
    }
}

/// Carries out what changes nothing: over another link if one is lost (R8).
async fn read<O: Execute>(hub: Arc<Hub>, request: Lasting<O>) -> Result<O::Output> {
    let copy = request.operation.again();
    let first = request.operation;
    let request = Lasting {
        operation: copy,
        ..request
    };
    let mut next = Some(first);
    let mut losses = Losses::default();
    loop {
        if hub.is_scattered(&request.range) {
            flush_early(&hub).await;
        }
        let link = hub.link(Some(&request.range)).await;
        let link = link.map_err(|error| losses.without_link(error))?;
        let operation = next.take().unwrap_or_else(|| request.operation.again());
        let answer = request.on(&link.connection, operation).into_future();
        let result = hub.unless_stalled(&link, answer).await;
        match result {
            None => losses.left(),
            Some(Err(error)) if is_lost(&error) => losses.add(&hub, &link, error)?,
            Some(result) => return result,
        }
    }
}

impl sealed::Sealed for Disk {}

impl Client for Disk {
    type Pending<O: Execute> = Pending<O>;
    type Reading = Reading;

    fn start<O: Execute>(request: Request<O, Self>) -> Pending<O> {
        Pending::new(request)
    }

    fn submit<O: Execute>(request: Request<O, Self>) -> Pending<O> {
        Pending::submit(request)
    }

    fn settle(&self) -> impl Future<Output = Result<()>> + Send + 'static {
        let hub = self.hub().clone();
        async move {
            hub.settle().await;
            Ok(())
        }
    }

    fn read_chunks(
        &self,
        offset: u64,
        length: u64,
        flags: CommandFlags,
        timeout: Option<Duration>,
    ) -> Reading {
        Reading::new(self, offset..offset.saturating_add(length), flags, timeout)
    }

    fn exported(&self) -> Result<Export> {
        Ok(self.hub().facts.export().clone())
    }

    fn can_filter(&self) -> Result<bool> {
        Ok(self.hub().facts.export().can_block_status_payload())
    }

    fn violated(&self, violation: ProtocolError) -> Error {
        let error = Error::from(violation);
        self.hub().give_up(error.clone());
        error
    }
}
