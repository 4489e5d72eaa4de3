//! What a connection has negotiated.

use crate::wire::HandshakeFlags;

/// The protocol features that were negotiated, see
/// [`Connection::protocol`](crate::Connection::protocol).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct Protocol {
    /// The kind of handshake.
    pub handshake: Handshake,
    /// The handshake flags that both sides agreed on: those that the server offered and
    /// [`handshake_flags`](crate::Builder::handshake_flags) accepts. None in the oldstyle handshake.
    #[doc(alias = "nbd_get_handshake_flags")]
    pub handshake_flags: HandshakeFlags,
    /// Whether structured replies were negotiated, or extended headers, which include them.
    #[doc(alias = "nbd_get_structured_replies_negotiated")]
    pub structured_replies: bool,
    /// Whether extended headers were negotiated.
    #[doc(alias = "nbd_get_extended_headers_negotiated")]
    pub extended_headers: bool,
}

/// The kinds of handshake.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Handshake {
    /// Oldstyle: the server has one export, and there are no options.
    Oldstyle,
    /// Newstyle without option replies: only `EXPORT_NAME` can be sent.
    Newstyle,
    /// Fixed newstyle: options are answered.
    FixedNewstyle,
}

impl Handshake {
    /// Returns the name that libnbd uses: `oldstyle`, `newstyle` or `newstyle-fixed`.
    #[doc(alias = "nbd_get_protocol")]
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Oldstyle => "oldstyle",
            Self::Newstyle => "newstyle",
            Self::FixedNewstyle => "newstyle-fixed",
        }
    }
}
