//! How much a server may make this side keep or do.

use crate::wire::option::MAX_UNKNOWN_INFO;
use crate::wire::reply::MAX_EXTENTS;

/// Largest payload this crate sends or asks for in one message, whatever the server allows: 64 MiB,
/// unless [`Limits::payload`](crate::Limits::payload) says otherwise.
pub const MAX_PAYLOAD: u32 = 64 << 20;

/// How much a server may send before it counts as hostile.
///
/// Every length and every number that a server chooses is compared with a ceiling before memory
/// is set aside for it; what lies above ends the connection with
/// [`Error::Protocol`](crate::Error::Protocol). The defaults leave room for everything that honest
/// servers do. Raise one for a server that does more, or lower it where many connections to
/// strangers share little memory.
///
/// Not here, because they bound this side: requests and bytes in flight
/// ([`max_in_flight`](crate::Builder::max_in_flight),
/// [`max_in_flight_bytes`](crate::Builder::max_in_flight_bytes)) and the deadlines
/// ([`handshake_timeout`](crate::Builder::handshake_timeout),
/// [`shutdown_timeout`](crate::Builder::shutdown_timeout)). Nor are strings: that names, descriptions
/// and messages have at most [`wire::MAX_STRING`](crate::wire::MAX_STRING) bytes is the protocol's
/// own rule.
///
/// # Examples
/// ```
/// use nbd_client::{Connection, Limits};
///
/// let mut limits = Limits::default();
/// limits.listed_exports = 100;
/// limits.payload = 1 << 20;
/// let conn = Connection::builder().limits(limits).build();
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Exports in the answer to one `LIST`. Default: 10 000.
    pub listed_exports: u32,
    /// Bytes of names and descriptions, with four for each name's length, in the answer to one
    /// `LIST`. Default: 8 MiB.
    pub listed_bytes: u32,
    /// Metadata contexts in the answer to one query. Default: 1024.
    pub contexts: u32,
    /// Pieces of information about one export. Default: 64.
    pub infos: u32,
    /// Bytes of a piece of information of a kind that this crate does not know; it is read and
    /// dropped. At least the 4098 of known kinds. Default: 64 KiB.
    pub info_bytes: u32,
    /// Bytes of payload of one message, either way, whatever the server allows; longer reads and
    /// writes are split, see [`max_payload`](crate::Export::max_payload): 1 MiB keeps small requests
    /// quick beside huge reads. At least one block, if the server has block sizes. Default: 64 MiB.
    pub payload: u32,
    /// Bytes that one [`read`](crate::Connection::read) may ask for: the buffer is as large as a
    /// program believes an export to be, and the server says how large that is. A longer one is
    /// refused before it is sent, with [`TooLong`](crate::InvalidRequest::TooLong), and the
    /// connection goes on. [`read_into`](crate::Connection::read_into) a buffer of your own has no
    /// limit. Default: 1 GiB.
    pub read: u64,
    /// Extents of one metadata context in the answer to one block status. Default: 2^20, which is
    /// what the protocol expects servers to keep to. How many of them are kept depends on
    /// [`max_in_flight_bytes`](crate::Builder::max_in_flight_bytes).
    pub extents: u32,
    /// Error chunks in one reply. Default: 64.
    pub error_chunks: u16,
    /// Separate pieces that a read may consist of before gaps between them are filled, counted at
    /// any time; pieces that touch count as one. Default: 64, or more by
    /// [`fragment_bytes`](Self::fragment_bytes).
    pub fragments: u32,
    /// A read may have one fragment, and [`Chunks`](crate::Chunks) one piece in its queue, for every
    /// so many of its bytes, where that is more than [`fragments`](Self::fragments) and
    /// [`queued_chunks`](Self::queued_chunks) allow. At least 1. Default: 512.
    pub fragment_bytes: u32,
    /// Pieces of a read that wait in [`Chunks`](crate::Chunks) to be taken. Default: 4096, or more
    /// by [`fragment_bytes`](Self::fragment_bytes).
    pub queued_chunks: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            listed_exports: 10_000,
            listed_bytes: 8 << 20,
            contexts: 1024,
            infos: 64,
            info_bytes: MAX_UNKNOWN_INFO,
            payload: MAX_PAYLOAD,
            read: 1 << 30,
            extents: MAX_EXTENTS,
            error_chunks: 64,
            fragments: 64,
            fragment_bytes: 512,
            queued_chunks: 4096,
        }
    }
}

impl Limits {
    /// Most separate fragments of a read of `length` bytes.
    pub(crate) fn most_fragments(&self, length: u64) -> u64 {
        self.by_length(self.fragments, length)
    }

    /// Most pieces of a read of `length` bytes that wait to be taken.
    pub(crate) fn most_queued(&self, length: u64) -> u64 {
        self.by_length(self.queued_chunks, length)
    }

    fn by_length(&self, least: u32, length: u64) -> u64 {
        // An honest server fragments at blocks; memory stays in proportion to the read.
        let fragments = length / u64::from(self.fragment_bytes.max(1));
        fragments.max(least.into())
    }
}
