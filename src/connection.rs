//! The handle on one connection.

use std::fmt;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum State {
    /// New: the connect calls are allowed, and only here.
    Created,
    /// Connecting or negotiating, or running one option in option mode.
    Connecting,
    /// In option mode, between options.
    Negotiating,
    /// The handshake is done: commands are accepted.
    Ready,
    /// Ended in an orderly way.
    Closed,
    /// Ended by a failure.
    Dead,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Connecting => "connecting",
            Self::Negotiating => "negotiating",
            Self::Ready => "ready",
            Self::Closed => "closed",
            Self::Dead => "dead",
        })
    }
}
