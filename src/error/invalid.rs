//! Requests that are refused before any byte is sent.

use crate::state::State;
use crate::wire::{Command, CommandFlags};

/// A request that was refused before any byte was sent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// The handle is in the wrong state.
    #[error("connection is {state}, but must be {needed}")]
    State {
        /// The state it is in.
        state: State,
        /// The state it would have to be in.
        needed: &'static str,
    },
    /// An argument that cannot be used.
    #[error("invalid {what}: {why}")]
    Argument {
        /// The argument.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A string of more than 4096 bytes.
    #[error("{what} of {length} bytes, more than 4096")]
    TooLongString {
        /// The string.
        what: &'static str,
        /// Its length, in bytes.
        length: usize,
    },
    /// Something the caller's own policy does not allow.
    #[error("{0}")]
    Forbidden(String),
    /// Something this build of the crate cannot do.
    #[error("{0}")]
    NotBuilt(&'static str),
    /// A URI of a connection that has no address: it was made over a socket, a stream or a command
    /// of the caller's.
    #[error("the connection was not made to an address, so no URI leads there")]
    NoAddress,
    /// There is no Tokio runtime here, or none that can do what is needed: some can be built
    /// without time, or without I/O.
    #[error("no Tokio runtime that will do: {0}")]
    NoRuntime(&'static str),
    /// Read, write, trim, zero, cache or status of nothing.
    #[error("{0} of 0 bytes")]
    ZeroLength(Command),
    /// The range goes past the end of the export.
    #[error("{command} at {offset}+{length} is outside the export of {size} bytes")]
    OutOfBounds {
        /// The command.
        command: Command,
        /// Where, in bytes.
        offset: u64,
        /// How much, in bytes.
        length: u64,
        /// The size of the export, in bytes.
        size: u64,
    },
    /// Offset or length is not a multiple of the server's minimum block size.
    #[error("{command} at {offset}+{length} is not aligned to {alignment} bytes")]
    Unaligned {
        /// The command.
        command: Command,
        /// Where, in bytes.
        offset: u64,
        /// How much, in bytes.
        length: u64,
        /// The minimum block size, in bytes.
        alignment: u32,
    },
    /// The export is read-only.
    #[error("{0} on a read-only export")]
    ReadOnly(Command),
    /// The server does not offer the command.
    #[error("the server does not offer {0}")]
    Unsupported(Command),
    /// The server does not offer the flag.
    #[error("the server does not offer the flag {0}")]
    UnsupportedFlag(&'static str),
    /// Flags that are not documented for the command.
    #[error("{command} has no such flags: {flags:?}")]
    WrongFlags {
        /// The command.
        command: Command,
        /// The flags it does not have.
        flags: CommandFlags,
    },
    /// More than one call can read: with [`read_structured`](crate::Connection::read_structured),
    /// than one message has; with [`read`](crate::Connection::read), than
    /// [`Limits::read`](crate::Limits::read), which can be raised.
    #[error(
        "{command} of {length} bytes is more than the {limit} of one call: ask for it in parts"
    )]
    TooLong {
        /// The command.
        command: Command,
        /// How much was asked for, in bytes.
        length: u64,
        /// How much is possible, in bytes.
        limit: u64,
    },
    /// There is no memory for what a read gives. If it was sent, nothing came of it.
    #[error("no memory for the {length} bytes of a read: read less at a time")]
    OutOfMemory {
        /// How much was asked for, in bytes.
        length: u64,
    },
    /// Block status needs metadata contexts, and none was negotiated.
    #[error("no metadata context was negotiated")]
    NoContexts,
    /// A context that was not negotiated.
    #[error("metadata context {0:?} was not negotiated")]
    UnknownContext(String),
    /// Something the connection was not negotiated for.
    #[error("{0}")]
    NotNegotiated(&'static str),
}

impl InvalidRequest {
    /// The number libnbd gives in this case.
    pub(super) fn errno(&self) -> i32 {
        match self {
            Self::State {
                state: State::Created,
                ..
            } => 107,
            Self::ReadOnly(_) | Self::Forbidden(_) => 1,
            Self::OutOfBounds {
                command: Command::WRITE | Command::TRIM | Command::WRITE_ZEROES,
                ..
            } => 28,
            Self::TooLong { .. } => 34,
            Self::OutOfMemory { .. } => 12,
            Self::TooLongString { .. } => 36,
            Self::NotNegotiated(_) | Self::NotBuilt(_) => 95,
            _ => 22,
        }
    }
}
