//! Requests that fail on the server.

use std::fmt;

use crate::wire::{Command, Errno, Text};

/// A request that failed on the server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestError {
    pub(crate) command: Command,
    pub(crate) errno: Errno,
    pub(crate) message: Text,
    pub(crate) offset: Option<u64>,
}

impl RequestError {
    /// The command that failed.
    #[must_use]
    pub const fn command(&self) -> Command {
        self.command
    }

    /// The error number as the server sent it, known or not.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        self.errno
    }

    /// The server's message, often empty.
    #[must_use]
    pub const fn message(&self) -> &Text {
        &self.message
    }

    /// Where it failed, in bytes from the start of the export, if the server said so.
    #[must_use]
    pub const fn offset(&self) -> Option<u64> {
        self.offset
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed on the server: {}", self.command, self.errno)?;
        if let Some(offset) = self.offset {
            write!(f, " at offset {offset}")?;
        }
        if self.message.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.message)
        }
    }
}
