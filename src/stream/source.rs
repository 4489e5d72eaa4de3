//! What is to be read: one range, the extents of the allocation, or extents of the caller's.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;

use crate::context::BASE_ALLOCATION;
use crate::error::{InvalidRequest, Result};
use crate::extent::Extent;
use crate::extents::Extents;
use crate::request::{Bounds, Client, resolve};
use crate::wire::Command;

/// Extents of the caller's.
type Given = Pin<Box<dyn Stream<Item = Result<Extent>> + Send>>;

/// A part of the export, either to be read or known to be zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) is_zero: bool,
}

/// The spans to read, in order.
pub(super) enum Source<C: Client> {
    /// A range, all of it.
    Whole(Bounds),
    /// A range, and of it what is not zero, if the server says what is.
    Sparse(Bounds),
    /// What the server says of the allocation.
    Allocation(Box<Extents<C>>),
    /// What the caller says.
    Given(Given),
    /// Nothing more.
    Over,
}

impl<C: Client> Source<C> {
    /// Returns the next span. It may have no length. Requests for block status have this timeout.
    pub(super) fn poll_next(
        &mut self,
        client: &C,
        timeout: Option<Duration>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Span>>> {
        loop {
            match self {
                Self::Whole(bounds) => {
                    let bounds = *bounds;
                    *self = Self::Over;
                    let size = client.exported()?.size();
                    let range = resolve(bounds, size, Command::READ)?;
                    return Poll::Ready(Some(Ok(Span {
                        offset: range.start,
                        length: range.end.saturating_sub(range.start),
                        is_zero: false,
                    })));
                }
                Self::Sparse(bounds) => {
                    let bounds = *bounds;
                    *self = match client.exported()?.has_context(BASE_ALLOCATION) {
                        true => {
                            let mut extents = Extents::new(client.clone(), BASE_ALLOCATION, bounds);
                            if let Some(timeout) = timeout {
                                extents = extents.timeout(timeout);
                            }
                            Self::Allocation(Box::new(extents.merged_for_reading()))
                        }
                        false => Self::Whole(bounds),
                    };
                }
                Self::Allocation(extents) => {
                    let extent = ready!(Pin::new(extents).poll_next(cx)?);
                    return Poll::Ready(extent.map(|extent| {
                        Ok(Span {
                            offset: extent.offset,
                            length: extent.length,
                            is_zero: extent.is_zero(),
                        })
                    }));
                }
                Self::Given(extents) => {
                    let Some(extent) = ready!(extents.as_mut().poll_next(cx)?) else {
                        return Poll::Ready(None);
                    };
                    let Extent { offset, length, .. } = extent;
                    let size = client.exported()?.size();
                    if offset.checked_add(length).is_none_or(|end| end > size) {
                        let command = Command::READ;
                        return Poll::Ready(Some(Err(InvalidRequest::OutOfBounds {
                            command,
                            offset,
                            length,
                            size,
                        }
                        .into())));
                    }
                    return Poll::Ready(Some(Ok(Span {
                        offset,
                        length,
                        is_zero: false,
                    })));
                }
                Self::Over => return Poll::Ready(None),
            }
        }
    }
}

impl<C: Client> fmt::Debug for Source<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bounds) => f.debug_tuple("Whole").field(bounds).finish(),
            Self::Sparse(bounds) => f.debug_tuple("Sparse").field(bounds).finish(),
            Self::Allocation(_) => f.write_str("Allocation"),
            Self::Given(_) => f.write_str("Given"),
            Self::Over => f.write_str("Over"),
        }
    }
}
