//! The states of a connection.

use std::fmt;

/// The state of a connection, see [`Connection::state`](crate::Connection::state).
///
/// [`Connection::ready`](crate::Connection::ready) and
/// [`Connection::closed`](crate::Connection::closed) wait for a state.
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
    /// The connection is new. The connect calls are allowed in this state only.
    Created,
    /// The connection is being made, or runs one option in option mode.
    Connecting,
    /// The connection is in option mode, between options.
    Negotiating,
    /// The handshake is done, and commands are accepted.
    Ready,
    /// The connection has ended in an orderly way.
    Closed,
    /// The connection has ended by a failure.
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
