//! Block status: extents and their flags.

use std::sync::Arc;

/// A range of the export over which the status of one metadata context is the same.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct Extent {
    /// Where it begins, in bytes from the start of the export.
    pub offset: u64,
    /// How long it is, in bytes; never zero.
    pub length: u64,
    /// Its status; what the number means is up to the context.
    pub flags: u64,
}

impl Extent {
    /// In `base:allocation`: nothing is allocated here.
    pub const HOLE: u64 = 1;
    /// In `base:allocation`: this reads as zeroes.
    pub const ZERO: u64 = 2;
    /// In `qemu:dirty-bitmap:*`: this has been written since the bitmap was started.
    pub const DIRTY: u64 = 1;

    /// An extent.
    #[must_use]
    pub const fn new(offset: u64, length: u64, flags: u64) -> Self {
        Self {
            offset,
            length,
            flags,
        }
    }

    /// Where it ends, in bytes from the start of the export.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

/// The answer to a block status request: the extents of each metadata context.
///
/// A server may describe less than was asked for, and not equally much in each context.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BlockStatus {
    pub(crate) contexts: Vec<(Arc<str>, Vec<Extent>)>,
}

impl BlockStatus {
    /// The extents of a context, in order and without gaps; `None` if it was not asked for.
    #[must_use]
    pub fn get(&self, context: &str) -> Option<&[Extent]> {
        let found = self.contexts.iter().find(|(name, _)| &**name == context);
        found.map(|(_, extents)| &extents[..])
    }

    /// Every context with its extents.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[Extent])> {
        self.contexts
            .iter()
            .map(|(name, extents)| (&**name, &extents[..]))
    }

    /// How many contexts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contexts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.contexts.is_empty()
    }
}
