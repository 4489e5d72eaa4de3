//! Limits on the resources that a server can make the client use.

/// The default of [`Limits::payload`](crate::Limits::payload), 64 MiB: the largest payload of one
/// message in either direction, whatever the server allows.
pub const MAX_PAYLOAD: u32 = 64 << 20;

/// The most pieces of information about one export.
pub(crate) const MAX_INFOS: u32 = 64;
/// The most error chunks in one reply.
pub(crate) const MAX_ERROR_CHUNKS: u16 = 64;
/// The fewest separate fragments that any read may consist of while gaps between them are not
/// filled. Pieces that touch each other count as one fragment.
const FRAGMENTS: u64 = 64;
/// How many pieces of any structured read may wait to be taken, as long as all such reads together take
/// no more memory than may be in flight.
const QUEUED_CHUNKS: u64 = 4096;
/// The memory of a waiting piece besides its data, in bytes: its place in the queue, which grows in
/// doubles, and its allocations.
const QUEUED_CHUNK: u64 = 160;
/// A read may have one fragment, and one waiting piece, for each of so many bytes: an honest server
/// splits at blocks, so memory stays in proportion to the read.
const FRAGMENT_BYTES: u64 = 512;

/// How much a server may send before it counts as hostile.
///
/// Every length and every count that a server chooses is compared with a limit before memory is
/// allocated for it. What exceeds a limit ends the connection with
/// [`Error::Protocol`](crate::Error::Protocol). The defaults leave room for everything that honest
/// servers do. Raise a limit for a server that does more, or lower it if many connections to
/// unknown servers share little memory.
///
/// Some limits are fixed: 64 pieces of information about an export, of 64 KiB each; 2^20 extents of
/// one metadata context in one answer, which the protocol expects servers not to exceed ("Request
/// types"), of which [`max_in_flight_bytes`](crate::Builder::max_in_flight_bytes) decides how many
/// are kept; 64 error chunks in one reply; 64 separate fragments of a read, and 4096 pieces of a
/// [structured read](crate::Connection::read_structured) that wait to be taken, or one for each 512
/// bytes of the read if that is more. If many structured reads are begun at once, of small pieces only
/// as many may wait as `max_in_flight_bytes` has memory for, but 64 of each read.
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
/// let limits = Limits::default().listed_exports(100).payload(1 << 20);
/// assert_eq!(limits.payload, 1 << 20);
/// let conn = Connection::builder().limits(limits).build();
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// The number of exports in the answer to one `LIST`. Default: 10 000.
    pub listed_exports: u32,
    /// The bytes of names and descriptions in the answer to one `LIST`, with four more for each
    /// name. Default: 8 MiB.
    pub listed_bytes: u32,
    /// The number of metadata contexts in the answer to one query. Default: 1024.
    pub contexts: u32,
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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            listed_exports: 10_000,
            listed_bytes: 8 << 20,
            contexts: 1024,
            payload: MAX_PAYLOAD,
            read: 1 << 30,
        }
    }
}

impl Limits {
    /// Sets the number of exports in the answer to one `LIST`, see the
    /// [field](#structfield.listed_exports).
    #[must_use]
    pub const fn listed_exports(mut self, listed_exports: u32) -> Self {
        self.listed_exports = listed_exports;
        self
    }

    /// Sets the bytes of names and descriptions in the answer to one `LIST`,
    /// see the [field](#structfield.listed_bytes).
    #[must_use]
    pub const fn listed_bytes(mut self, listed_bytes: u32) -> Self {
        self.listed_bytes = listed_bytes;
        self
    }

    /// Sets the number of metadata contexts in the answer to one query, see the
    /// [field](#structfield.contexts).
    #[must_use]
    pub const fn contexts(mut self, contexts: u32) -> Self {
        self.contexts = contexts;
        self
    }

    /// Sets the bytes of payload of one message in either direction, see the
    /// [field](#structfield.payload).
    #[must_use]
    pub const fn payload(mut self, payload: u32) -> Self {
        self.payload = payload;
        self
    }

    /// Sets the length of one [`read`](crate::Connection::read) in bytes, see the
    /// [field](#structfield.read).
    #[must_use]
    pub const fn read(mut self, read: u64) -> Self {
        self.read = read;
        self
    }
}

/// Returns the most fragments of a read of `length` bytes.
pub(crate) fn most_fragments(length: u64) -> u64 {
    FRAGMENTS.max(length / FRAGMENT_BYTES)
}

/// Returns the most waiting pieces of a structured read of `length` bytes, for which there are `share`
/// bytes of memory besides its data.
pub(crate) fn most_queued(length: u64, share: u64) -> u64 {
    let kept = QUEUED_CHUNKS.min(share / QUEUED_CHUNK);
    kept.max(most_fragments(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reads_may_have_one_piece_for_each_sector() {
        assert_eq!([0, 64 * 512, 65 * 512].map(most_fragments), [64, 64, 65]);
        assert_eq!(
            [0, 4096 * 512, 4097 * 512].map(|length| most_queued(length, 1 << 20)),
            [4096, 4096, 4097]
        );
        assert_eq!([0, 65 * 512].map(|length| most_queued(length, 0)), [64, 65]);
        assert_eq!(most_queued(0, 1000 * QUEUED_CHUNK), 1000);
    }

    #[test]
    fn each_setter_sets_its_limit_and_no_other() {
        let default = Limits::default();
        let mut expected = default;
        expected.listed_exports = 1;
        assert_eq!(default.listed_exports(1), expected);
        expected.listed_bytes = 2;
        let limits = default.listed_exports(1).listed_bytes(2);
        assert_eq!(limits, expected);
        expected.contexts = 3;
        assert_eq!(limits.contexts(3), expected);
        expected.payload = 4;
        assert_eq!(limits.contexts(3).payload(4), expected);
        expected.read = 5;
        assert_eq!(limits.contexts(3).payload(4).read(5), expected);
    }
}
