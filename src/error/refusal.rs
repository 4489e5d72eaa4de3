//! Refusals of the server during negotiation.

use std::fmt;
use std::sync::Arc;

use super::{Attempts, ChildReport, Site};
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
    pub(crate) site: Option<Arc<Site>>,
    /// The attempts after which a disk gave up.
    pub(crate) attempts: Option<Attempts>,
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

impl Refusal {
    /// Whether the server is shutting down: it is left with `ABORT` (P-033).
    pub(crate) fn is_shutdown(&self) -> bool {
        self.reply == OptionReplyType::ERR_SHUTDOWN
    }

    /// Whether the text names the export.
    pub(super) fn names_export(&self) -> bool {
        self.reply == OptionReplyType::ERR_UNKNOWN && self.export().is_some()
    }

    fn export(&self) -> Option<&str> {
        self.site.as_ref()?.export.as_deref()
    }

    /// What the server would rather have, or what to do without it.
    const fn why(&self) -> &'static str {
        match self.reply {
            OptionReplyType::ERR_UNSUP => "not supported",
            OptionReplyType::ERR_POLICY => "forbidden by its policy",
            OptionReplyType::ERR_INVALID => "invalid",
            OptionReplyType::ERR_PLATFORM => "not supported on its platform",
            OptionReplyType::ERR_UNKNOWN => "no such export",
            OptionReplyType::ERR_SHUTDOWN => "it is shutting down",
            OptionReplyType::ERR_BLOCK_SIZE_REQD => {
                "it requires that block sizes are asked for: see `Builder::request_block_size`"
            }
            OptionReplyType::ERR_TOO_BIG => "too big",
            OptionReplyType::ERR_EXT_HEADER_REQD => {
                "it requires extended headers, or they rule the option out: see \
                 `Builder::extended_headers`"
            }
            _ => "unknown reason",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.option, self.reply, self.export()) {
            (_, OptionReplyType::ERR_TLS_REQD, _) => {
                f.write_str("the server requires TLS: use an nbds:// URI or `TlsMode::Require`")?;
            }
            (_, OptionReplyType::ERR_UNKNOWN, Some("")) => f.write_str(
                "the server has no default export: set the name of one that `opt_list` gives",
            )?,
            (_, OptionReplyType::ERR_UNKNOWN, Some(name)) => {
                write!(f, "the server has no export named {name:?}")?;
            }
            (OptionType::STARTTLS, _, _) => {
                let why = self.why();
                write!(f, "the server does not offer TLS (STARTTLS refused: {why}")?;
                self.number(f)?;
                f.write_str(")")?;
            }
            (option, _, _) => {
                write!(f, "the server refused {option}: {}", self.why())?;
                self.number(f)?;
            }
        }
        if self.message.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.message)
        }
    }
}

impl Refusal {
    /// The number of a reason that has no name.
    fn number(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reply.name() {
            Some(_) => Ok(()),
            None => write!(f, " {}", self.reply),
        }
    }
}
