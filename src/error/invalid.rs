//! Requests and options that are refused before any byte is sent.

use std::fmt;

use crate::state::State;
use crate::wire::{Command, CommandFlags};

/// A request, an option or a call in the wrong state that was refused before any byte was sent.
///
/// What is neither, such as a host name or a certificate that cannot be used, is an
/// [`InvalidUse`](crate::InvalidUse).
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// The handle is in the wrong state.
    #[error("the connection is {state}, but must be {needed}")]
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
    /// A string with a NUL character, which the protocol rules out.
    #[error("the {what} contains a NUL character")]
    ContainsNul {
        /// The string.
        what: &'static str,
    },
    /// A string of more than 4096 bytes.
    #[error("the {what} has {length} bytes, and must not have more than 4096")]
    TooLongString {
        /// The string.
        what: &'static str,
        /// Its length, in bytes.
        length: usize,
    },
    /// The status of an empty range.
    #[error("{0} of 0 bytes")]
    ZeroLength(Command),
    /// The range goes past the end of the export.
    #[error(
        "{command} of {length} bytes at offset {offset} is outside the export, which has {size} bytes"
    )]
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
    #[error(
        "{command} of {length} bytes at offset {offset} is not aligned to the {alignment} bytes of a \
         block"
    )]
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
    #[error("{0} is not possible: the export is read-only")]
    ReadOnly(Command),
    /// The export may be writable, but this connection is not, see
    /// [`Builder::read_only`](crate::Builder::read_only).
    #[error("{0} is not possible: this connection is read-only, see `Builder::read_only`")]
    ReadOnlyConnection(Command),
    /// The export may be writable, but this disk takes no changes, see
    /// [`Changes::Refuse`](crate::Changes::Refuse).
    #[error("{0} is not possible: this disk refuses changes, see `DiskBuilder::changes`")]
    ReadOnlyDisk(Command),
    /// The server does not offer the command.
    #[error("the server does not offer {0}")]
    Unsupported(Command),
    /// The server does not offer the flag.
    #[error("the server does not offer the flag {0}")]
    UnsupportedFlag(&'static str),
    /// Flags that are not documented for the command.
    #[error("flags not defined for {command}: {}", FlagNames(*.flags))]
    WrongFlags {
        /// The command.
        command: Command,
        /// The flags it does not have.
        flags: CommandFlags,
    },
    /// More than one call can read: with [`read_structured`](crate::Connection::read_structured),
    /// than one message has; with [`read`](crate::Connection::read), than
    /// [`Limits::read`](crate::Limits::read), which can be raised.
    #[error("{command} of {length} bytes exceeds the limit of {limit} for one call: use several")]
    TooLong {
        /// The command.
        command: Command,
        /// How much was asked for, in bytes.
        length: u64,
        /// How much is possible, in bytes.
        limit: u64,
    },
    /// There is no memory for what a read gives. If it was sent, nothing came of it.
    #[error("not enough memory for a READ of {length} bytes: read less at a time")]
    OutOfMemory {
        /// How much was asked for, in bytes.
        length: u64,
    },
    /// Block status needs metadata contexts, and none was negotiated.
    #[error("no metadata context was negotiated: ask for one with `Builder::meta_context`")]
    NoContexts,
    /// A context that was not negotiated.
    #[error(
        "metadata context {name:?} was not negotiated{}: ask for it with `Builder::meta_context`",
        Negotiated(.negotiated)
    )]
    UnknownContext {
        /// The context.
        name: String,
        /// The contexts that were negotiated.
        negotiated: Vec<String>,
    },
    /// Something the connection was not negotiated for.
    #[error("{0}")]
    NotNegotiated(&'static str),
}

impl InvalidRequest {
    /// Returns the error of a context that is not among those that were negotiated.
    pub(crate) fn unknown_context<'a>(
        name: &str,
        negotiated: impl Iterator<Item = &'a str>,
    ) -> Self {
        Self::UnknownContext {
            name: name.to_owned(),
            negotiated: negotiated.map(str::to_owned).collect(),
        }
    }

    /// The number libnbd gives in this case.
    pub(super) fn errno(&self) -> i32 {
        match self {
            Self::State {
                state: State::Created,
                ..
            } => 107,
            Self::ReadOnly(_) | Self::ReadOnlyConnection(_) | Self::ReadOnlyDisk(_) => 1,
            Self::OutOfBounds {
                command: Command::WRITE | Command::TRIM | Command::WRITE_ZEROES,
                ..
            } => 28,
            Self::TooLong { .. } => 34,
            Self::OutOfMemory { .. } => 12,
            Self::TooLongString { .. } => 36,
            Self::NotNegotiated(_) => 95,
            _ => 22,
        }
    }
}

/// The contexts that were negotiated, in a sentence about one that was not.
struct Negotiated<'a>(&'a [String]);

impl fmt::Display for Negotiated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The most contexts that a sentence can name.
        const MOST: usize = 8;
        let Some((first, others)) = self.0.split_first() else {
            return f.write_str(", and no other context was");
        };
        write!(f, ", but {first:?}")?;
        for other in others.iter().take(MOST - 1) {
            write!(f, ", {other:?}")?;
        }
        match self.0.len().saturating_sub(MOST) {
            0 => {}
            more => write!(f, " and {more} more")?,
        }
        f.write_str(match others {
            [] => " was",
            _ => " were",
        })
    }
}

/// The names of flags, without that of their type.
struct FlagNames(CommandFlags);

impl fmt::Display for FlagNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bitflags::parser::to_writer(&self.0, f)
    }
}
