//! The names of known metadata contexts, and the meaning of their flags.
//!
//! The server decides which contexts an export has; ask for them by name with
//! [`Builder::meta_context`](crate::Builder::meta_context). Contexts with other names work as well,
//! but their flags are plain numbers.

use std::fmt;

/// The context that says which parts of an export are allocated, and which read as zeroes. It is
/// the only one that the protocol defines (section "The `base:` metadata namespace").
#[doc(alias = "LIBNBD_CONTEXT_BASE_ALLOCATION")]
pub const BASE_ALLOCATION: &str = "base:allocation";

/// QEMU's context that says how deep in a chain of backing files the data of each part lies.
#[doc(alias = "LIBNBD_CONTEXT_QEMU_ALLOCATION_DEPTH")]
pub const QEMU_ALLOCATION_DEPTH: &str = "qemu:allocation-depth";

/// The prefix of the names of QEMU's dirty bitmaps; the name of the bitmap follows.
#[doc(alias = "LIBNBD_CONTEXT_QEMU_DIRTY_BITMAP")]
pub const QEMU_DIRTY_BITMAP: &str = "qemu:dirty-bitmap:";

/// The flags of [`BASE_ALLOCATION`].
pub(crate) const HOLE: u64 = 1;
pub(crate) const ZERO: u64 = 2;
/// The flag of [`QEMU_DIRTY_BITMAP`].
pub(crate) const DIRTY: u64 = 1;

/// Returns the name of the context of a dirty bitmap of QEMU, which says what has been written since
/// the bitmap was started.
///
/// ```
/// use nbd_client::{Connection, context};
///
/// let conn = Connection::builder()
///     .meta_context(context::qemu_dirty_bitmap("monday"))
///     .build();
/// assert_eq!(context::qemu_dirty_bitmap("monday"), "qemu:dirty-bitmap:monday");
/// # drop(conn);
/// ```
#[doc(alias = "LIBNBD_CONTEXT_QEMU_DIRTY_BITMAP")]
#[must_use]
pub fn qemu_dirty_bitmap(bitmap: &str) -> String {
    format!("{QEMU_DIRTY_BITMAP}{bitmap}")
}

/// The meaning of the flags of an extent, see [`Extent::status`](crate::Extent::status).
///
/// `Display` uses the words of `nbdinfo`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Status {
    /// The status in [`BASE_ALLOCATION`].
    Allocation {
        /// Whether nothing is allocated here. The content is undefined, unless `zero` is set, too.
        hole: bool,
        /// Whether the extent reads as zeroes.
        zero: bool,
    },
    /// The status in [`QEMU_DIRTY_BITMAP`]: whether the extent has been written since the bitmap was
    /// started.
    Dirty(bool),
    /// The status in [`QEMU_ALLOCATION_DEPTH`]: 0 if the extent is not allocated, 1 if it is in the
    /// image itself, 2 if it is in the backing file, and so on.
    Depth(u64),
    /// The flags in an unknown context.
    Other(u64),
}

impl Status {
    /// Returns the meaning of `flags` in a context.
    #[must_use]
    pub fn decode(context: &str, flags: u64) -> Self {
        // P-174: unknown status bits are ignored.
        match context {
            BASE_ALLOCATION => Self::Allocation {
                hole: flags & HOLE != 0,
                zero: flags & ZERO != 0,
            },
            QEMU_ALLOCATION_DEPTH => Self::Depth(flags),
            _ if context.starts_with(QEMU_DIRTY_BITMAP) => Self::Dirty(flags & DIRTY != 0),
            _ => Self::Other(flags),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allocation { hole, zero } => match (hole, zero) {
                (false, false) => "data",
                (true, false) => "hole",
                (false, true) => "zero",
                (true, true) => "hole,zero",
            },
            Self::Dirty(false) => "clean",
            Self::Dirty(true) => "dirty",
            Self::Depth(0) => "absent",
            Self::Depth(1) => "local",
            Self::Depth(depth) => return write!(f, "backing depth {depth}"),
            Self::Other(flags) => return write!(f, "{flags}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_put_into_words() {
        let bitmap = qemu_dirty_bitmap("b");
        for (context, flags, words) in [
            (BASE_ALLOCATION, 0, "data"),
            (BASE_ALLOCATION, 1, "hole"),
            (BASE_ALLOCATION, 2, "zero"),
            (BASE_ALLOCATION, 3, "hole,zero"),
            // P-174: unknown status bits are ignored.
            (BASE_ALLOCATION, 0xf0, "data"),
            (&bitmap, 0, "clean"),
            (&bitmap, 1, "dirty"),
            (QEMU_ALLOCATION_DEPTH, 0, "absent"),
            (QEMU_ALLOCATION_DEPTH, 1, "local"),
            (QEMU_ALLOCATION_DEPTH, 7, "backing depth 7"),
            ("x:y", 9, "9"),
            ("qemu:dirty-bitmap", 1, "1"),
        ] {
            let status = Status::decode(context, flags);
            assert_eq!(status.to_string(), words, "{context}");
        }
    }
}
