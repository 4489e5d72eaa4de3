//! Exports, and the features that a connection has negotiated.

mod block_size;
mod protocol;

use std::sync::Arc;

pub use block_size::BlockSize;
pub use protocol::{Handshake, Protocol};

use crate::extent::Context;
use crate::limits::MAX_PAYLOAD;
use crate::wire::{ProtocolError, ReplyStyle, Text, TransmissionFlags};

/// The payload limit if the server advertises none ("Size constraints"): 32 MiB.
const DEFAULT_PAYLOAD: u32 = 32 << 20;

/// An export: its size, its features, and its block sizes.
///
/// The values are those that the server reported when the export was entered; no method asks the
/// server again. The `can_*` and `is_*` methods are the "Transmission flags" of the protocol. A
/// command or flag that is not offered fails with [`Error::Invalid`](crate::Error::Invalid) before
/// it is sent.
///
/// # Examples
/// ```
/// # use nbd_client::{Connection, testing};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nbd_client::Result<()> {
/// # let server = testing::Server::new(testing::Export::new(1 << 20).block_sizes(512, 4096, 1 << 20));
/// # let conn = Connection::new();
/// # conn.connect_stream(server.connect()).await?;
/// let export = conn.export()?;
/// assert_eq!(export.size(), 1 << 20);
/// if export.can_trim() {
///     conn.trim(0, 4096).await?;
/// }
/// if let Some(sizes) = export.block_size() {
///     assert_eq!(sizes.minimum, 512); // of every offset and length
/// }
/// # Ok(())
/// # }
/// ```
///
/// With the feature `serde` it is written as a map of `name`, `canonical_name`, `description`, `size`,
/// `flags` (the number of the protocol), `block_size`, `contexts` (each with `id` and `name`), and
/// what this side has decided: `read_only` and `payload_limit`. Contexts that nobody asked for are
/// `stray_contexts`. A size or flags that no server may send are refused when it is read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Export {
    pub(crate) name: String,
    pub(crate) canonical_name: Option<String>,
    pub(crate) description: Option<Text>,
    pub(crate) size: u64,
    pub(crate) flags: TransmissionFlags,
    pub(crate) block_size: Option<BlockSize>,
    pub(crate) contexts: Vec<Context>,
    /// Whether this side makes no changes, whatever the server offers.
    pub(crate) read_only: bool,
    /// The largest payload of one message in either direction that this side allows, in bytes.
    pub(crate) payload_limit: u32,
    /// Contexts that the server reports although nobody asked for them.
    pub(crate) strays: Vec<Context>,
}

impl Export {
    /// Checks size and flags, and clears the flags whose prerequisites were not negotiated.
    ///
    /// # Errors
    /// If the size does not fit 63 bits, or the flags lack `HAS_FLAGS`.
    pub(crate) fn new(
        name: &str,
        size: u64,
        flags: TransmissionFlags,
        style: ReplyStyle,
    ) -> Result<Self, ProtocolError> {
        if i64::try_from(size).is_err() {
            return Err(ProtocolError::ExportSize(size));
        }
        if flags.is_empty() {
            // Old and simple servers do not know flags.
            tracing::debug!(export = name, "no transmission flags, not even HAS_FLAGS");
        } else if !flags.contains(TransmissionFlags::HAS_FLAGS) {
            // P-133: if any flag is set, HAS_FLAGS is.
            return Err(ProtocolError::TransmissionFlags(flags.bits()));
        }
        let mut flags = flags;
        // P-062: dependent features need structured replies or extended headers.
        if style == ReplyStyle::Simple {
            flags.remove(TransmissionFlags::SEND_DF);
        }
        if style != ReplyStyle::Extended {
            flags.remove(TransmissionFlags::BLOCK_STATUS_PAYLOAD);
        }
        if !flags.contains(TransmissionFlags::SEND_WRITE_ZEROES) {
            flags.remove(TransmissionFlags::SEND_FAST_ZERO);
        }
        Ok(Self {
            name: name.to_owned(),
            canonical_name: None,
            description: None,
            size,
            flags,
            block_size: None,
            contexts: Vec::new(),
            read_only: false,
            payload_limit: MAX_PAYLOAD,
            strays: Vec::new(),
        })
    }

    /// Returns the size in bytes.
    #[doc(alias = "nbd_get_size")]
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Returns the name that was requested; it is empty with the oldstyle handshake, which has no names.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the server's own name of the export, if it was requested with
    /// [`full_info`](crate::Builder::full_info) and the server has one.
    #[doc(alias = "nbd_get_canonical_export_name")]
    #[must_use]
    pub fn canonical_name(&self) -> Option<&str> {
        self.canonical_name.as_deref()
    }

    /// Returns the server's description of the export for humans, if it was requested with
    /// [`full_info`](crate::Builder::full_info) and the server has one.
    #[doc(alias = "nbd_get_export_description")]
    #[must_use]
    pub const fn description(&self) -> Option<&Text> {
        self.description.as_ref()
    }

    /// Returns the block sizes that the server advertises, or `None` if it advertises none.
    #[doc(alias = "nbd_get_block_size")]
    #[must_use]
    pub const fn block_size(&self) -> Option<BlockSize> {
        self.block_size
    }

    /// Returns the largest payload of one message, in bytes.
    ///
    /// It is the maximum block size, or 32 MiB if the server advertises none, and at most
    /// [`Limits::payload`](crate::Limits::payload). Longer reads and writes are split.
    #[doc(alias = "nbd_get_block_size")]
    #[doc(alias = "LIBNBD_SIZE_PAYLOAD")]
    #[must_use]
    pub fn max_payload(&self) -> u32 {
        // P-112: without block sizes, 32 MiB; P-116: a payload is at most the maximum.
        let Some(sizes) = self.block_size else {
            return self.payload_limit.clamp(1, DEFAULT_PAYLOAD);
        };
        let largest = sizes.maximum.min(self.payload_limit).max(sizes.minimum);
        largest - largest % sizes.minimum
    }

    /// Returns the number of bytes that offset and length of every request must be a multiple of.
    pub(crate) fn alignment(&self) -> u32 {
        self.block_size.map_or(1, |sizes| sizes.minimum)
    }

    /// Returns the largest length of one `CACHE` message, in bytes.
    pub(crate) fn max_cache(&self) -> u32 {
        self.block_size
            .map_or(DEFAULT_PAYLOAD, |sizes| sizes.maximum.min(DEFAULT_PAYLOAD))
    }

    /// Returns the preferred block size in bytes, or 64 KiB if the server advertises none.
    pub(crate) fn preferred(&self) -> u32 {
        self.block_size.map_or(1 << 16, |sizes| sizes.preferred)
    }

    /// Returns the names of the negotiated metadata contexts, see
    /// [`block_status`](crate::Connection::block_status).
    pub fn contexts(&self) -> impl Iterator<Item = &str> {
        self.contexts.iter().map(|context| &*context.name)
    }

    /// Returns whether this metadata context was negotiated.
    #[doc(alias = "nbd_can_meta_context")]
    #[must_use]
    pub fn has_context(&self, name: &str) -> bool {
        self.contexts().any(|context| context == name)
    }

    pub(crate) fn find_context(&self, name: &str) -> Option<Context> {
        self.contexts
            .iter()
            .find(|context| &*context.name == name)
            .cloned()
    }

    /// Returns the transmission flags that the server sent, without those whose prerequisites were
    /// not negotiated.
    ///
    /// They are the server's, whatever [`read_only`](crate::Builder::read_only) says.
    ///
    /// Some servers send no flags at all, not even [`HAS_FLAGS`](TransmissionFlags::HAS_FLAGS).
    /// Their exports can be read and written, and nothing else is offered.
    #[must_use]
    pub const fn flags(&self) -> TransmissionFlags {
        self.flags
    }

    /// Returns whether this connection cannot write to the export: the server says so, or
    /// [`read_only`](crate::Builder::read_only) is set. In the latter case `can_trim`, `can_zero`,
    /// `can_fast_zero` and `can_fua` are false, too.
    #[doc(alias = "nbd_is_read_only")]
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.read_only || self.flags.contains(TransmissionFlags::READ_ONLY)
    }

    /// Returns whether the server offers something that only changes need, and changes are allowed.
    const fn offers_change(&self, needed: TransmissionFlags) -> bool {
        !self.read_only && self.flags.contains(needed)
    }

    /// Returns whether the export behaves like a rotating disk.
    #[doc(alias = "nbd_is_rotational")]
    #[must_use]
    pub const fn is_rotational(&self) -> bool {
        self.flags.contains(TransmissionFlags::ROTATIONAL)
    }

    /// Returns whether the server offers `flush`.
    #[doc(alias = "nbd_can_flush")]
    #[must_use]
    pub const fn can_flush(&self) -> bool {
        self.flags.contains(TransmissionFlags::SEND_FLUSH)
    }

    /// Returns whether the server offers `fua`, which makes a single change durable.
    #[doc(alias = "nbd_can_fua")]
    #[must_use]
    pub const fn can_fua(&self) -> bool {
        self.offers_change(TransmissionFlags::SEND_FUA)
    }

    /// Returns whether the server offers `trim`.
    #[doc(alias = "nbd_can_trim")]
    #[must_use]
    pub const fn can_trim(&self) -> bool {
        self.offers_change(TransmissionFlags::SEND_TRIM)
    }

    /// Returns whether the server offers `write_zeroes`.
    #[doc(alias = "nbd_can_zero")]
    #[must_use]
    pub const fn can_zero(&self) -> bool {
        self.offers_change(TransmissionFlags::SEND_WRITE_ZEROES)
    }

    /// Returns whether the server offers `fast_zero`: `write_zeroes` fails rather than be slow.
    #[doc(alias = "nbd_can_fast_zero")]
    #[must_use]
    pub const fn can_fast_zero(&self) -> bool {
        self.offers_change(TransmissionFlags::SEND_FAST_ZERO)
    }

    /// Returns whether the server offers `dont_fragment`: a read is answered in one piece.
    #[doc(alias = "nbd_can_df")]
    #[must_use]
    pub const fn can_df(&self) -> bool {
        self.flags.contains(TransmissionFlags::SEND_DF)
    }

    /// Returns whether the server offers `cache`.
    #[doc(alias = "nbd_can_cache")]
    #[must_use]
    pub const fn can_cache(&self) -> bool {
        self.flags.contains(TransmissionFlags::SEND_CACHE)
    }

    /// Returns whether several connections to the export see the same data, and a flush of one
    /// covers the others.
    #[doc(alias = "nbd_can_multi_conn")]
    #[must_use]
    pub const fn can_multi_conn(&self) -> bool {
        self.flags.contains(TransmissionFlags::CAN_MULTI_CONN)
    }

    /// Returns whether `block_status` can be limited to some of the contexts.
    #[doc(alias = "nbd_can_block_status_payload")]
    #[must_use]
    pub const fn can_block_status_payload(&self) -> bool {
        self.flags.contains(TransmissionFlags::BLOCK_STATUS_PAYLOAD)
    }
}

/// An export as the server lists it.
#[doc(alias = "nbd_list_callback")]
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct ListedExport {
    /// The name of the export.
    pub name: String,
    /// The description for humans, often empty.
    pub description: Text,
}

/// The export of a connection, shared by its handles.
pub(crate) type SharedExport = Arc<Export>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_a_limit_that_is_aligned() {
        let mut export =
            Export::new("", 0, TransmissionFlags::HAS_FLAGS, ReplyStyle::Simple).unwrap();
        assert_eq!(export.max_payload(), 32 << 20);
        export.block_size = BlockSize::new(4096, 4096, u32::MAX).ok();
        assert_eq!(export.max_payload(), 64 << 20);
        export.block_size = BlockSize::new(512, 512, 1536).ok();
        assert_eq!(export.max_payload(), 1536);
    }

    #[test]
    fn flags_without_their_ground_are_cleared() {
        let all = TransmissionFlags::all() - TransmissionFlags::SEND_WRITE_ZEROES;
        let export = Export::new("", 0, all, ReplyStyle::Simple).unwrap();
        assert!(!export.can_df() && !export.can_block_status_payload());
        assert!(!export.can_fast_zero());
        assert!(Export::new("", 0, TransmissionFlags::SEND_FLUSH, ReplyStyle::Extended).is_err());
        let none = Export::new("", 0, TransmissionFlags::empty(), ReplyStyle::Extended).unwrap();
        assert!(!none.can_flush() && !none.is_read_only());
        assert!(
            Export::new(
                "",
                1 << 63,
                TransmissionFlags::HAS_FLAGS,
                ReplyStyle::Extended
            )
            .is_err()
        );
    }
}
