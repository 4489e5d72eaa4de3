//! The sentence that an error is.

use std::fmt::{self, Display as _};
use std::io;

use super::deadline::{Deadline, WHERE_TO_SPEAK};
use super::ending::Facts;
use super::{Delivery, Ending, Error, LostConnection, Phase};
use crate::uri::Uri;
use crate::wire::{OptionReplyType, OptionType, ProtocolError};

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_site(f)?;
        self.fmt_request(f)?;
        match self {
            Self::Invalid(invalid) => invalid.fmt(f)?,
            Self::InvalidUse(invalid) => invalid.fmt(f)?,
            Self::Refused(refusal) => refusal.fmt(f)?,
            Self::MissingContext(missing) => missing.fmt(f)?,
            Self::Request(request) => request.fmt(f)?,
            Self::DurabilityUnknown(lost) => lost.fmt(f)?,
            Self::OutcomeUnknown(lost) => lost.fmt(f)?,
            Self::Held { range, generation } => write!(
                f,
                "{} bytes at offset {} cannot be changed: a change that was sent over connection \
                 {generation}, which was lost, may still be carried out; until a fence \
                 (`DiskBuilder::fence`) or `Disk::assume_fenced` ends that, only the same bytes can \
                 be written there, and nothing if it was a trim or a part of a block",
                range.end - range.start,
                range.start
            )?,
            Self::ExportChanged { what, was, is } => {
                write!(f, "the export has changed: {what} was {was}, and is {is}")?;
            }
            Self::Protocol(violation @ ProtocolError::NotNbd { .. }, _) => violation.fmt(f)?,
            Self::Protocol(violation, _) => {
                write!(f, "the server broke the protocol: {violation}")?;
            }
            Self::Disconnected(lost, ending) => fmt_lost(lost, ending, f)?,
            Self::Tls(error, _) => error.fmt(f)?,
            Self::Timeout(phase, ending) => {
                let phase = *phase;
                let none = Facts::default();
                let facts = ending.facts.as_deref().unwrap_or(&none);
                let is_sent = !ending.goes_on || ending.delivery == Delivery::MaybeSent;
                Deadline {
                    phase,
                    facts,
                    is_sent,
                }
                .fmt(f)?;
            }
            Self::Closed(_) => f.write_str("this side closed the connection")?,
            Self::Copy(copy) => copy.fmt(f)?,
        }
        if let Some(uri) = self.meant_socket() {
            write!(f, " (to name a Unix socket, write {uri})")?;
        }
        if let Some(attempts) = self.attempts() {
            write!(f, "; {attempts}")?;
        }
        if self.ending().is_some_and(Ending::has_unflushed_writes) {
            f.write_str("; not all acknowledged writes were flushed")?;
        }
        match self.child() {
            Some(child) if !child.was_not_run => write!(f, "; {child}"),
            _ => Ok(()),
        }
    }
}

impl Error {
    /// The request that failed, unless the rest of the sentence names it.
    fn fmt_request(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(facts) = self.details().and_then(|ending| ending.facts.as_deref()) else {
            return Ok(());
        };
        match facts.request {
            Some(request) if facts.overdue != Some(request) => write!(f, "{request} failed: "),
            _ => Ok(()),
        }
    }

    /// The Unix socket that was probably meant by the name of an export that was not reached.
    fn meant_socket(&self) -> Option<Uri> {
        let is_not_there = match self {
            Self::Disconnected(lost, _) => lost.io().kind() == io::ErrorKind::ConnectionRefused,
            Self::Refused(refusal) => refusal.reply() == OptionReplyType::ERR_UNKNOWN,
            _ => false,
        };
        self.site().filter(|_| is_not_there)?.meant_socket()
    }

    /// Server and export, unless the rest of the sentence names them.
    fn fmt_site(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(site) = self.site() else {
            return Ok(());
        };
        match self {
            Self::Disconnected(lost, _) if lost.is_attempt() => Ok(()),
            Self::Disconnected(lost, _) if lost.phase().is_before_export() => {
                site.server_only().fmt(f)
            }
            Self::Timeout(phase, _) if phase.is_before_export() => site.server_only().fmt(f),
            Self::Refused(refusal) if refusal.names_export() => site.server_only().fmt(f),
            Self::Protocol(ProtocolError::NotNbd { .. }, _) | Self::Tls(..) => {
                site.server_only().fmt(f)
            }
            _ => site.fmt(f),
        }
    }
}

/// How the connection was lost; during the handshake with the option that may be the reason, and
/// how to do without it.
fn fmt_lost(lost: &LostConnection, ending: &Ending, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    lost.fmt(f)?;
    let facts = ending.facts.as_deref();
    if let Some(option) = facts.and_then(|facts| facts.asked) {
        write!(f, ", after the option {option}")?;
        if let (OptionType::EXPORT_NAME, Some(site)) = (option, facts.and_then(Facts::site)) {
            write!(f, " for {:?}", site.export.as_deref().unwrap_or_default())?;
        }
        if let Some(way) = without(option).filter(|_| lost.is_close()) {
            write!(f, ": {way}")?;
        }
    }
    let Some(child) = ending.child().filter(|_| lost.phase() == Phase::Greeting) else {
        return Ok(());
    };
    match child.status() {
        Some(status) if status.success() => {
            write!(f, ": did it go into the background? {WHERE_TO_SPEAK}")
        }
        None if !child.has_ended => write!(f, ": does it listen elsewhere? {WHERE_TO_SPEAK}"),
        _ => Ok(()),
    }
}

/// What to do about a server that hangs up on an option.
const fn without(option: OptionType) -> Option<&'static str> {
    Some(match option {
        OptionType::EXTENDED_HEADERS => "`Builder::extended_headers(false)` leaves it out",
        OptionType::STRUCTURED_REPLY => "`Builder::structured_replies(false)` leaves it out",
        OptionType::STARTTLS => "`TlsMode::Disable` leaves it out",
        OptionType::SET_META_CONTEXT => "`Builder::request_meta_context(false)` leaves it out",
        OptionType::GO => "`Builder::force_export_name(true)` does without it",
        OptionType::EXPORT_NAME => "it may not have that export",
        _ => return None,
    })
}

/// The sentence, for a `main` that returns it; the structure with `{:#?}`.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return fmt::Display::fmt(self, f);
        }
        let mut tuple = f.debug_tuple(match self {
            Self::Invalid(_) => "Invalid",
            Self::InvalidUse(_) => "InvalidUse",
            Self::Refused(_) => "Refused",
            Self::MissingContext(_) => "MissingContext",
            Self::Request(_) => "Request",
            Self::DurabilityUnknown(_) => "DurabilityUnknown",
            Self::OutcomeUnknown(_) => "OutcomeUnknown",
            Self::Held { .. } => "Held",
            Self::ExportChanged { .. } => "ExportChanged",
            Self::Protocol(..) => "Protocol",
            Self::Disconnected(..) => "Disconnected",
            Self::Tls(..) => "Tls",
            Self::Timeout(..) => "Timeout",
            Self::Closed(_) => "Closed",
            Self::Copy(_) => "Copy",
        });
        match self {
            Self::Invalid(invalid) => tuple.field(invalid),
            Self::InvalidUse(invalid) => tuple.field(invalid),
            Self::Refused(refusal) => tuple.field(refusal),
            Self::MissingContext(missing) => tuple.field(missing),
            Self::Request(request) => tuple.field(request),
            Self::DurabilityUnknown(lost) => tuple.field(lost),
            Self::OutcomeUnknown(lost) => tuple.field(lost),
            Self::Held { range, generation } => tuple.field(range).field(generation),
            Self::ExportChanged { what, was, is } => tuple.field(what).field(was).field(is),
            Self::Protocol(violation, ending) => tuple.field(violation).field(ending),
            Self::Disconnected(lost, ending) => tuple.field(lost).field(ending),
            Self::Tls(error, ending) => tuple.field(error).field(ending),
            Self::Timeout(phase, ending) => tuple.field(phase).field(ending),
            Self::Closed(ending) => tuple.field(ending),
            Self::Copy(copy) => tuple.field(copy),
        };
        tuple.finish()
    }
}

/// The text includes the cause, so there is no source.
impl std::error::Error for Error {}
