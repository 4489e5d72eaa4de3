//! Extents, and the answer to a block status.

use std::sync::Arc;

use crate::context::{self, Status};

/// A metadata context that was negotiated.
#[allow(unreachable_pub, unnameable_types)] // with `session`, for benches
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Context {
    /// The number by which status chunks refer to the context.
    pub id: u32,
    /// The name of the context.
    pub name: Arc<str>,
}

/// A range of the export with the same status in one metadata context.
///
/// The flags are a plain number, since each context defines its own. The constants and methods here
/// are for `base:allocation` and QEMU's dirty bitmaps; [`status`](Self::status) knows more contexts.
#[doc(alias = "nbd_extent")]
///
/// With the feature `serde` it is written as `offset`, `length` and `flags`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[non_exhaustive]
pub struct Extent {
    /// The start, in bytes from the start of the export.
    pub offset: u64,
    /// The length in bytes; never zero.
    pub length: u64,
    /// The status; the context defines the meaning of the number.
    pub flags: u64,
}

impl Extent {
    /// The flag of `base:allocation` for an extent that is not allocated.
    #[doc(alias = "LIBNBD_STATE_HOLE")]
    pub const HOLE: u64 = context::HOLE;
    /// The flag of `base:allocation` for an extent that reads as zeroes.
    #[doc(alias = "LIBNBD_STATE_ZERO")]
    pub const ZERO: u64 = context::ZERO;
    /// The flag of `qemu:dirty-bitmap:*` for an extent that has been written since the bitmap was
    /// started.
    #[doc(alias = "LIBNBD_STATE_DIRTY")]
    pub const DIRTY: u64 = context::DIRTY;

    /// Creates an extent.
    #[must_use]
    pub const fn new(offset: u64, length: u64, flags: u64) -> Self {
        Self {
            offset,
            length,
            flags,
        }
    }
    /// Returns whether the extent is not allocated, in `base:allocation`. It need not read as
    /// zeroes.
    #[doc(alias = "LIBNBD_STATE_HOLE")]
    #[must_use]
    pub const fn is_hole(&self) -> bool {
        self.flags & Self::HOLE != 0
    }

    /// Returns whether the extent reads as zeroes, in `base:allocation`.
    #[doc(alias = "LIBNBD_STATE_ZERO")]
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.flags & Self::ZERO != 0
    }

    /// Returns whether the extent has been written since the bitmap was started, in
    /// `qemu:dirty-bitmap:*`.
    #[doc(alias = "LIBNBD_STATE_DIRTY")]
    #[must_use]
    pub const fn is_dirty(&self) -> bool {
        self.flags & Self::DIRTY != 0
    }

    /// Returns the meaning of the flags in a context.
    ///
    /// ```
    /// use nbd_client::{Extent, context::{self, Status}};
    ///
    /// let extent = Extent::new(0, 4096, 3);
    /// let status = extent.status(context::BASE_ALLOCATION);
    /// assert_eq!(status, Status::Allocation { hole: true, zero: true });
    /// assert_eq!(status.to_string(), "hole,zero");
    /// ```
    #[must_use]
    pub fn status(&self, context: &str) -> Status {
        Status::decode(context, self.flags)
    }

    /// Returns the end, in bytes from the start of the export.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

/// What a part of an export holds, in the metadata context `base:allocation`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Allocation {
    /// Allocated, and not known to read as zeroes.
    Data,
    /// Allocated, and reads as zeroes.
    Zero,
    /// Not allocated, and reads as zeroes.
    Hole,
    /// Not allocated, and reads as anything.
    Undefined,
}

impl Allocation {
    /// Returns whether the part is known to read as zeroes, so that it need not be read.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        matches!(self, Self::Zero | Self::Hole)
    }

    /// Returns whether the part is allocated.
    #[must_use]
    pub const fn is_allocated(self) -> bool {
        matches!(self, Self::Data | Self::Zero)
    }
}

/// A range of the export that is allocated in the same way, see
/// [`Connection::allocation`](crate::Connection::allocation).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct AllocationExtent {
    /// The start, in bytes from the start of the export.
    pub offset: u64,
    /// The length in bytes; never zero.
    pub length: u64,
    /// What the range holds.
    pub kind: Allocation,
}

/// A range of the export that has been written since a dirty bitmap was started, or one that has not,
/// see [`Connection::dirty_extents`](crate::Connection::dirty_extents).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct DirtyExtent {
    /// The start, in bytes from the start of the export.
    pub offset: u64,
    /// The length in bytes; never zero.
    pub length: u64,
    /// Whether the range has been written, in part or as a whole.
    pub is_dirty: bool,
}

impl AllocationExtent {
    /// Returns the end, in bytes from the start of the export.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

impl DirtyExtent {
    /// Returns the end, in bytes from the start of the export.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

/// The answer to a block status request: the extents of each metadata context.
///
/// A server may describe less than the requested range, and a different part in each context
/// (section "Metadata querying" of the protocol). To get all extents of a range, use
/// [`Connection::extents`](crate::Connection::extents).
///
/// # Examples
/// ```
/// # use nbd_client::testing;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nbd_client::Result<()> {
/// use nbd_client::{Connection, context};
///
/// # let disk = testing::Export::new(1 << 30);
/// # disk.write(1 << 20, b"data");
/// # let server = testing::Server::new(disk);
/// let conn = Connection::builder().meta_context(context::BASE_ALLOCATION).build();
/// conn.connect_stream(server.connect()).await?;
///
/// let status = conn.block_status(0, 2 << 20).await?;
/// for extent in status.get(context::BASE_ALLOCATION).unwrap_or_default() {
///     let what = if extent.is_zero() { "zeroes" } else { "data" };
///     println!("{} bytes of {what} at {}", extent.length, extent.offset);
/// }
/// # let extents = status.get(context::BASE_ALLOCATION).unwrap();
/// # assert!(extents[0].is_zero() && !extents[1].is_zero());
/// # Ok(())
/// # }
/// ```
#[doc(alias = "nbd_extent_callback")]
#[doc(alias = "nbd_extent64_callback")]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BlockStatus {
    pub(crate) contexts: Vec<(Arc<str>, Vec<Extent>)>,
}

impl BlockStatus {
    /// Returns the extents of a context, in order and without gaps, or `None` if the request was not
    /// for this context.
    #[must_use]
    pub fn get(&self, context: &str) -> Option<&[Extent]> {
        let found = self.contexts.iter().find(|(name, _)| &**name == context);
        found.map(|(_, extents)| &extents[..])
    }

    /// Removes the extents of a context, and returns them.
    pub(crate) fn take(&mut self, context: &str) -> Option<Vec<Extent>> {
        let found = self
            .contexts
            .iter_mut()
            .find(|(name, _)| &**name == context);
        found.map(|(_, extents)| std::mem::take(extents))
    }

    /// Returns every context with its extents.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[Extent])> {
        self.contexts
            .iter()
            .map(|(name, extents)| (&**name, &extents[..]))
    }

    /// Returns the number of contexts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contexts.len()
    }

    /// Returns whether there is no context.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.contexts.is_empty()
    }
}
