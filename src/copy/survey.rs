//! Where the source has data, and where it is zero.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::file::LocalFile;
use super::nbd::{ATTEMPTS, ExtentStream, Nbd};
use crate::context::BASE_ALLOCATION;
use crate::error::{CopyFault, Error, Side};

/// How much is read, in bytes, when the source cannot say what is there; then it is asked again.
const UNKNOWN: u64 = 64 << 20;

/// A part of the source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Found {
    pub(super) range: Range<u64>,
    pub(super) is_zero: bool,
    /// Whether the source failed to say what is there.
    pub(super) is_failure: bool,
}

impl Found {
    pub(super) const fn data(range: Range<u64>) -> Self {
        Self {
            range,
            is_zero: false,
            is_failure: false,
        }
    }
}

/// Parts of the source, in order.
pub(super) type Survey = Pin<Box<dyn Stream<Item = Result<Found, CopyFault>> + Send>>;

/// Takes everything for data.
pub(super) fn whole(range: Range<u64>) -> Survey {
    let found = (!range.is_empty()).then(|| Ok(Found::data(range)));
    stream::iter(found).boxed()
}

/// Asks an NBD server where a range is zero.
pub(super) fn allocation(nbd: Nbd, range: Range<u64>) -> Survey {
    let asking = Asking {
        nbd,
        left: range,
        extents: None,
    };
    stream::try_unfold(asking, Asking::next).boxed()
}

struct Asking {
    nbd: Nbd,
    left: Range<u64>,
    extents: Option<ExtentStream>,
}

impl Asking {
    async fn next(mut self) -> Result<Option<(Found, Self)>, CopyFault> {
        let Range { start, end } = self.left;
        if start >= end {
            return Ok(None);
        }
        let mut attempts = 1;
        let (stop, is_zero, is_failure) = loop {
            let nbd = &self.nbd;
            let extents = self
                .extents
                .get_or_insert_with(|| nbd.extents(BASE_ALLOCATION, start..end));
            match extents.next().await {
                Some(Ok(extent)) => break (extent.end(), extent.is_zero(), false),
                Some(Err(Error::Request(error))) => {
                    tracing::debug!(%error, "reading what the source cannot describe");
                    self.extents = None;
                    break (end.min(start.saturating_add(UNKNOWN)), false, true);
                }
                Some(Err(error)) if attempts < ATTEMPTS && nbd.has_survived(&error) => {
                    attempts += 1;
                    self.extents = None;
                }
                Some(Err(error)) => return Err(error.of_side(Side::Source)),
                None => break (end, false, false),
            }
        };
        self.left.start = stop;
        let found = Found {
            range: start..stop,
            is_zero,
            is_failure,
        };
        Ok(Some((found, self)))
    }
}

/// Asks an NBD server what is dirty in a metadata context, and of that, where it is zero.
pub(super) fn dirty(nbd: &Nbd, context: &str, size: u64, asks: bool) -> Survey {
    let asks = asks && nbd.has_allocation();
    let nbd = nbd.clone();
    nbd.extents(context, 0..size)
        .map_err(|error| error.of_side(Side::Source))
        .try_filter(|extent| std::future::ready(extent.is_dirty()))
        .map_ok(move |extent| {
            let range = extent.offset..extent.end();
            match asks {
                true => allocation(nbd.clone(), range),
                false => whole(range),
            }
        })
        .try_flatten()
        .boxed()
}

/// Asks a file system where a file has holes.
pub(super) fn holes(file: Arc<LocalFile>, size: u64) -> Survey {
    let next = move |at: u64| {
        let file = file.clone();
        async move {
            if at >= size {
                return Ok(None);
            }
            let (stop, is_zero) = file.extent(at..size).await?;
            let found = Found {
                range: at..stop,
                is_zero,
                is_failure: false,
            };
            Ok(Some((found, stop)))
        }
    };
    stream::try_unfold(0, next).boxed()
}
