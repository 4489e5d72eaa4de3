//! Asks for the status of one part of a range after the other.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::ops::RangeBounds;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::context::BASE_ALLOCATION;
use crate::error::{Error, Result};
use crate::extent::{BlockStatus, Extent};
use crate::request::{Bounds, Client, Started, block_status, bounds, op, resolve};
use crate::wire::{Command, ProtocolError};

/// A walk through a range of an export: its position, and the request in flight.
pub(super) struct Survey<C: Client> {
    client: C,
    bounds: Bounds,
    timeout: Option<Duration>,
    pub(super) position: Option<Position>,
    pending: Option<Started<op::Status, C>>,
}

/// The position of a walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    /// The offset up to which extents were returned.
    pub(super) at: u64,
    /// The end of the range.
    pub(super) end: u64,
    size: u64,
    /// The minimum block size: offset and length of requests are multiples of it.
    block: u64,
    /// Whether a request can be limited to some contexts.
    pub(super) filters: bool,
}

impl<C: Client> Survey<C> {
    pub(super) fn new(client: C, range: impl RangeBounds<u64>) -> Self {
        Self {
            client,
            bounds: bounds(&range),
            timeout: None,
            position: None,
            pending: None,
        }
    }

    pub(super) const fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = Some(timeout);
    }

    pub(super) const fn client(&self) -> &C {
        &self.client
    }

    /// Returns the position of the walk. The first call also looks up the export.
    pub(super) fn position(&mut self) -> Result<Position> {
        if let Some(position) = self.position {
            return Ok(position);
        }
        let filters = self.client.can_filter()?;
        let export = self.client.exported()?;
        let size = export.size();
        let range = resolve(self.bounds, size, Command::BLOCK_STATUS)?;
        let position = Position {
            at: range.start,
            end: range.end,
            size,
            block: export.alignment().into(),
            filters,
        };
        self.position = Some(position);
        Ok(position)
    }

    /// Records that the extents up to `at` were returned.
    pub(super) fn advance(&mut self, at: u64) {
        if let Some(position) = &mut self.position {
            position.at = at;
        }
    }

    /// Asks for the status from the position up to `end` at most, in these contexts or in all. Until
    /// the answer has come, later polls must have the same arguments.
    pub(super) fn poll_ask(
        &mut self,
        cx: &mut Context<'_>,
        end: u64,
        contexts: impl FnOnce() -> Option<Vec<String>>,
    ) -> Poll<Result<BlockStatus>> {
        let position = self.position()?;
        let client = &self.client;
        let timeout = self.timeout;
        let pending = self.pending.get_or_insert_with(|| {
            // P-114: offset and length are whole blocks, so the request is the aligned range around
            // it. P-121: the export may end inside a block, which is requested last.
            let start = position.at - position.at % position.block;
            let blocks = position.size - position.size % position.block;
            let end = if start < blocks {
                end.next_multiple_of(position.block).min(blocks)
            } else {
                position.size
            };
            let mut request = block_status(client, start, end.saturating_sub(start));
            if let Some(contexts) = contexts() {
                request = request.contexts(contexts);
            }
            if let Some(timeout) = timeout {
                request = request.timeout(timeout);
            }
            request.into_future()
        });
        let answer = std::task::ready!(Pin::new(pending).poll(cx));
        self.pending = None;
        Poll::Ready(answer)
    }

    /// Returns the status of the rest of a block, for a server that makes no progress because its
    /// extents do not end where its blocks do. As in QEMU, a partly allocated block counts as
    /// allocated. For other contexts than `base:allocation` no answer would always be right.
    pub(super) fn rest_of_block(&self, context: &str) -> Option<Extent> {
        let position = self.position.filter(|_| context == BASE_ALLOCATION)?;
        let rest = position.block - position.at % position.block;
        let length = rest.min(position.size - position.at);
        Some(Extent::new(position.at, length, 0))
    }

    /// Returns the error of a server that makes no progress: it describes nothing beyond what it
    /// described before, because its extents do not end where its blocks do.
    pub(super) fn stuck(&self) -> Error {
        let violation = ProtocolError::Extents("extents that end inside a block");
        self.client.violated(violation)
    }
}

impl<C: Client> fmt::Debug for Survey<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Survey")
            .field("bounds", &self.bounds)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
