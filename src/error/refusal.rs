//! Refusals of the server during negotiation.

use std::fmt;
use std::sync::Arc;

use super::ChildReport;
use crate::wire::{OptionReplyType, OptionType, Text};

/// A refusal of the server during negotiation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    pub(crate) option: OptionType,
    pub(crate) reply: OptionReplyType,
    pub(crate) message: Text,
    /// The connection has ended with it.
    pub(crate) fatal: bool,
    pub(crate) child: Option<Arc<ChildReport>>,
}

impl Refusal {
    /// The option that was refused.
    #[must_use]
    pub const fn option(&self) -> OptionType {
        self.option
    }

    /// The reason, as a number of the protocol.
    #[must_use]
    pub const fn reply(&self) -> OptionReplyType {
        self.reply
    }

    /// The server's message, often empty.
    #[must_use]
    pub const fn message(&self) -> &Text {
        &self.message
    }

    /// What is known of the server process, if this connection ran one and the refusal ended the
    /// attempt to connect.
    #[must_use]
    pub fn child(&self) -> Option<&ChildReport> {
        self.child.as_deref()
    }

    pub(super) const fn errno(&self) -> Option<i32> {
        Some(match self.reply {
            OptionReplyType::ERR_UNKNOWN => 2,
            OptionReplyType::ERR_INVALID
            | OptionReplyType::ERR_TOO_BIG
            | OptionReplyType::ERR_BLOCK_SIZE_REQD => 22,
            OptionReplyType::ERR_TLS_REQD
            | OptionReplyType::ERR_UNSUP
            | OptionReplyType::ERR_EXT_HEADER_REQD => 95,
            OptionReplyType::ERR_SHUTDOWN => 108,
            _ => return None,
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.reply {
            OptionReplyType::ERR_UNSUP => "not supported",
            OptionReplyType::ERR_POLICY => "forbidden by its policy",
            OptionReplyType::ERR_INVALID => "invalid",
            OptionReplyType::ERR_PLATFORM => "not supported on its platform",
            OptionReplyType::ERR_TLS_REQD => "TLS is required",
            OptionReplyType::ERR_UNKNOWN => "no such export",
            OptionReplyType::ERR_SHUTDOWN => "it is shutting down",
            OptionReplyType::ERR_BLOCK_SIZE_REQD => "block sizes must be asked for",
            OptionReplyType::ERR_TOO_BIG => "too big",
            OptionReplyType::ERR_EXT_HEADER_REQD => "extended headers are in the way or required",
            _ => "unknown reason",
        };
        write!(f, "server refused {}: {why}", self.option)?;
        if self.reply.name().is_none() {
            write!(f, " {}", self.reply)?;
        }
        if self.message.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.message)
        }
    }
}
