//! Which checks are made before a request is sent.

use bitflags::bitflags;

bitflags! {
    /// Which checks a request must pass before it is sent, see
    /// [`Connection::set_strict`](crate::Connection::set_strict).
    ///
    /// All of them, by default. Programs that test servers switch some off, to see how a server
    /// answers a request that it should refuse. Some checks always apply: no message has more than
    /// [64 MiB](crate::Limits::payload) of payload, a length that does not fit its header is sent as
    /// several messages, and a choice of contexts needs extended headers and contexts that were
    /// negotiated. How replies are checked does not change.
    ///
    /// The names are those of libnbd's `LIBNBD_STRICT_…`.
    #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
    pub struct Strict: u8 {
        /// Commands and flags must be offered by the server, nothing is written to a read-only
        /// export (P-132, P-149), and a block status needs contexts (P-143).
        const COMMANDS = 1 << 0;
        /// Flags must be documented for their command (P-134).
        const FLAGS = 1 << 1;
        /// The range must lie inside the export (P-115).
        const BOUNDS = 1 << 2;
        /// The length must not be zero (P-139).
        const ZERO_SIZE = 1 << 3;
        /// Offset and length must be multiples of the minimum block size (P-114), but for the end
        /// of an export whose size is not one itself (P-121).
        const ALIGN = 1 << 4;
        /// Reads and writes longer than [`max_payload`](crate::Export::max_payload) are sent as
        /// several (P-116), and so are long requests to cache. Without, a message has up to 64 MiB.
        const PAYLOAD = 1 << 5;
        /// The flag `PAYLOAD_LEN` of a write is set with extended headers and not without
        /// . Without this it is up to the caller's
        /// [`flags`](crate::Request::flags), and a wrong one can make the server lose track of
        /// where messages begin.
        const AUTO_FLAG = 1 << 6;
    }
}

impl Default for Strict {
    fn default() -> Self {
        Self::all()
    }
}
