//! Limits on the resources that a server can make the client use.

use crate::wire::option::MAX_UNKNOWN_INFO;
use crate::wire::reply::MAX_EXTENTS;

/// The default of [`Limits::payload`](crate::Limits::payload), 64 MiB: the largest payload of one
/// message in either direction, whatever the server allows.
pub const MAX_PAYLOAD: u32 = 64 << 20;

/// How much a server may send before it counts as hostile.
///
/// Every length and every count that a server chooses is compared with a limit before memory is
/// allocated for it. What exceeds a limit ends the connection with
/// [`Error::Protocol`](crate::Error::Protocol). The defaults leave room for everything that honest
/// servers do. Raise a limit for a server that does more, or lower it if many connections to
/// unknown servers share little memory.
///
/// The bounds on what this side does are options of the builder: requests and bytes in flight
/// ([`max_in_flight`](crate::Builder::max_in_flight),
/// [`max_in_flight_bytes`](crate::Builder::max_in_flight_bytes)) and the deadlines
/// ([`handshake_timeout`](crate::Builder::handshake_timeout),
/// [`shutdown_timeout`](crate::Builder::shutdown_timeout)). The length of strings is fixed by the
/// protocol ("Conventions"): names, descriptions and messages have at most
/// [`wire::MAX_STRING`](crate::wire::MAX_STRING) bytes.
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
    /// The number of exports in the answer to one `LIST`. Default: 10 000.
    pub listed_exports: u32,
    /// The bytes of names and descriptions in the answer to one `LIST`, with four more for each
    /// name. Default: 8 MiB.
    pub listed_bytes: u32,
    /// The number of metadata contexts in the answer to one query. Default: 1024.
    pub contexts: u32,
    /// The number of pieces of information about one export. Default: 64.
    pub infos: u32,
    /// The bytes of a piece of information of an unknown kind, which is read and dropped. The 4098
    /// bytes of known kinds are always allowed. Default: 64 KiB.
    pub info_bytes: u32,
    /// The bytes of payload of one message in either direction, whatever the server allows. Longer
    /// reads and writes are split, see [`max_payload`](crate::Export::max_payload). One block is
    /// always allowed, if the server advertises block sizes. 1 MiB keeps small requests quick beside
    /// huge reads. Default: 64 MiB.
    pub payload: u32,
    /// The length of one [`read`](crate::Connection::read) in bytes. A program may read as much as
    /// the server says that the export has. A longer read is refused before it is sent, with
    /// [`TooLong`](crate::InvalidRequest::TooLong), and the connection goes on.
    /// [`read_into`](crate::Connection::read_into) has no limit. Default: 1 GiB.
    pub read: u64,
    /// The number of extents of one metadata context in the answer to one block status. How many of
    /// them are kept depends on [`max_in_flight_bytes`](crate::Builder::max_in_flight_bytes).
    /// Default: 2^20, which the protocol expects servers not to exceed ("Request types").
    pub extents: u32,
    /// The number of error chunks in one reply. Default: 64.
    pub error_chunks: u16,
    /// The number of separate fragments that a read may consist of at any time, while gaps between
    /// them are not filled. Pieces that touch each other count as one fragment. Default: 64, or more
    /// by [`fragment_bytes`](Self::fragment_bytes).
    pub fragments: u32,
    /// The bytes of a read for which it may always have one fragment, and
    /// [`Chunks`](crate::Chunks) one piece in its queue, if that is more than
    /// [`fragments`](Self::fragments) and [`queued_chunks`](Self::queued_chunks) allow. At least 1.
    /// Default: 512.
    pub fragment_bytes: u32,
    /// The number of pieces of a read that wait in [`Chunks`](crate::Chunks) to be taken. Default:
    /// 4096, or more by [`fragment_bytes`](Self::fragment_bytes).
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
    /// Returns the largest number of fragments of a read of `length` bytes.
    pub(crate) fn most_fragments(&self, length: u64) -> u64 {
        self.by_length(self.fragments, length)
    }

    /// Returns the largest number of queued pieces of a read of `length` bytes.
    pub(crate) fn most_queued(&self, length: u64) -> u64 {
        self.by_length(self.queued_chunks, length)
    }

    fn by_length(&self, least: u32, length: u64) -> u64 {
        // An honest server splits at blocks, so memory stays in proportion to the read.
        let fragments = length / u64::from(self.fragment_bytes.max(1));
        fragments.max(least.into())
    }
}
