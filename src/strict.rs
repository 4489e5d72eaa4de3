//! The checks that a request must pass before it is sent.

use bitflags::bitflags;

bitflags! {
    /// The checks that a request must pass before it is sent, see
    /// [`Connection::set_strict`](crate::Connection::set_strict).
    ///
    /// All checks are on by default. Programs that test servers switch some off, to see how a
    /// server answers a request that it should refuse. Some checks always apply: a message has at
    /// most [64 MiB](crate::Limits::payload) of payload, a length that does not fit its header is
    /// sent as several messages, and a choice of contexts needs extended headers and negotiated
    /// contexts. The checks of replies do not change.
    ///
    /// The words in quotation marks are section titles of the protocol; the names of the flags are
    /// those of libnbd's `LIBNBD_STRICT_…`.
    #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
    pub struct Strict: u8 {
        /// The server must offer the command and its flags, the export must not be read-only if the
        /// command changes it ("Transmission flags"), and a block status needs contexts ("Metadata
        /// querying").
        #[doc(alias = "LIBNBD_STRICT_COMMANDS")]
        const COMMANDS = 1 << 0;
        /// The flags must be documented for the command ("Command flags").
        #[doc(alias = "LIBNBD_STRICT_FLAGS")]
        const FLAGS = 1 << 1;
        /// The range must lie inside the export ("Size constraints").
        #[doc(alias = "LIBNBD_STRICT_BOUNDS")]
        const BOUNDS = 1 << 2;
        /// No request of length zero is sent ("Request types"): one for an empty range succeeds
        /// without being sent, and the block status of an empty range is refused. Without this
        /// check, the server is asked.
        #[doc(alias = "LIBNBD_STRICT_ZERO_SIZE")]
        const ZERO_SIZE = 1 << 3;
        /// Offset and length must be multiples of the minimum block size ("Size constraints"). The
        /// length may end at the end of the export instead.
        #[doc(alias = "LIBNBD_STRICT_ALIGN")]
        const ALIGN = 1 << 4;
        /// A read or write longer than [`max_payload`](crate::Export::max_payload) is sent as
        /// several messages ("Size constraints"), and so is a long request to cache. Without this
        /// check, a message has up to 64 MiB.
        #[doc(alias = "LIBNBD_STRICT_PAYLOAD")]
        const PAYLOAD = 1 << 5;
        /// The flag `PAYLOAD_LEN` of a write is set with extended headers and cleared without them
        /// ("Request message" in the extension `extension-ext-header`). Without this check, the
        /// flag is what the caller's [`flags`](crate::Request::flags) say; a wrong one can make the
        /// server lose track of where messages begin.
        #[doc(alias = "LIBNBD_STRICT_AUTO_FLAG")]
        const AUTO_FLAG = 1 << 6;
    }
}

impl Default for Strict {
    fn default() -> Self {
        Self::all()
    }
}
