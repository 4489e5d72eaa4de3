//! The states of a connection.

use std::fmt;

/// Where a connection stands.
///
/// [`Connection::ready`](crate::Connection::ready) and
/// [`Connection::closed`](crate::Connection::closed) wait for what comes next; the others can be
/// looked at.
///
/// ```text
///                                    ┌──── one option ────┐
///                                    ▼                    │
/// Created ──connect──▶ Connecting ──(opt_mode)──▶ Negotiating ──opt_go──▶ Ready
///                          │  └─────────────────────────────────────────▶ │
///                          ▼                              ▼               ▼
///                     Closed or Dead               Closed or Dead   Closed or Dead
/// ```
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

impl State {
    pub(crate) const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Created,
            1 => Self::Connecting,
            2 => Self::Negotiating,
            3 => Self::Ready,
            4 => Self::Closed,
            _ => Self::Dead,
        }
    }
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
