//! What a copy has done.

use std::ops::Range;
use std::time::Duration;

/// What a [copy](crate::copy()) has done. All lengths are in bytes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Copied {
    /// The size of the source.
    pub size: u64,
    /// What was read and written.
    pub data: u64,
    /// What is zero, whether it had to be written or not.
    pub zeroes: u64,
    /// What needed no copying: it is not [dirty](crate::Copying::only), or it was copied
    /// [before](crate::Copying::resume).
    pub skipped: u64,
    /// What was copied once more, because a server or a connection was lost.
    pub repeated: u64,
    /// How many times the source could not say where it is zero, and was read instead.
    pub status_failures: u64,
    /// What could not be read and is zero in the destination, in order, see
    /// [`salvage`](crate::Copying::salvage).
    pub salvaged: Vec<Range<u64>>,
    /// Where a server may still carry out writes of lost connections, with the bytes that are there
    /// already: nothing else must be written there before they are [fenced](crate::Fence). In order.
    pub unfenced: Vec<Range<u64>>,
    /// Whether both sides were read again and are equal, see [`verify`](crate::Copying::verify).
    pub verified: bool,
    /// The hash of the disk, see [`hash`](crate::Copying::hash).
    pub hash: Option<Vec<u8>>,
    /// How long it took.
    pub elapsed: Duration,
}
