//! Ranges as callers name them: `..`, `512..`, `..=1023`.

use std::ops::{Bound, Range, RangeBounds};

use crate::error::InvalidRequest;
use crate::wire::Command;

/// A range of an export whose size is not known yet.
pub(crate) type Bounds = (Bound<u64>, Bound<u64>);

/// Keeps any range as its bounds.
pub(crate) fn bounds(range: &impl RangeBounds<u64>) -> Bounds {
    (range.start_bound().cloned(), range.end_bound().cloned())
}

/// Returns the offsets of a range in an export of `size` bytes.
pub(crate) fn resolve(
    bounds: Bounds,
    size: u64,
    command: Command,
) -> Result<Range<u64>, InvalidRequest> {
    let start = match bounds.0 {
        Bound::Included(start) => Some(start),
        Bound::Excluded(before) => before.checked_add(1),
        Bound::Unbounded => Some(0),
    };
    let end = match bounds.1 {
        Bound::Included(last) => last.checked_add(1),
        Bound::Excluded(end) => Some(end),
        Bound::Unbounded => Some(size),
    };
    let (start, end) = (start.unwrap_or(u64::MAX), end.unwrap_or(u64::MAX));
    if start.max(end) > size {
        return Err(InvalidRequest::OutOfBounds {
            command,
            offset: start,
            length: end.saturating_sub(start),
            size,
        });
    }
    in_order(start..end)
}

/// Returns a range unless it is one that ends before it starts.
pub(crate) fn in_order(range: Range<u64>) -> Result<Range<u64>, InvalidRequest> {
    let Range { start, end } = range;
    if end < start {
        return Err(InvalidRequest::Argument {
            what: "range",
            why: format!("it ends at {end}, before it starts at {start}"),
        });
    }
    Ok(range)
}
