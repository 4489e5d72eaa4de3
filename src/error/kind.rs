//! What kind of error it is: in the terms of this crate, of the system, and of the standard
//! library.

use std::io;

use super::{Error, InvalidRequest, TlsFailure, raw_os_error};
use crate::names::names;
use crate::wire::Errno;

/// Who is at fault, see [`Error::kind`].
///
/// `Display` writes the name in lower case, such as `disconnected`, and `FromStr` reads it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller.
    Invalid,
    /// The server said no during negotiation.
    Refused,
    /// The request failed on the server.
    Request,
    /// The server broke the protocol.
    Protocol,
    /// The connection was lost.
    Disconnected,
    /// The connection could not be made secure.
    Tls,
    /// A deadline passed.
    Timeout,
    /// This side closed the connection.
    Closed,
    /// A copy failed for another reason than an NBD server or its connection.
    Copy,
}

names!(
    ErrorKind,
    "kind of error",
    Invalid = "invalid",
    Refused = "refused",
    Request = "request",
    Protocol = "protocol",
    Disconnected = "disconnected",
    Tls = "tls",
    Timeout = "timeout",
    Closed = "closed",
    Copy = "copy",
);

impl Error {
    /// Who is at fault.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) | Self::InvalidUse(_) => ErrorKind::Invalid,
            Self::Refused(_) | Self::MissingContext(_) => ErrorKind::Refused,
            Self::Request(_) | Self::DurabilityUnknown(_) => ErrorKind::Request,
            // No connection was lost: only the deadline of the request has passed.
            Self::OutcomeUnknown(lost) if lost.generation().is_none() => lost.cause().kind(),
            Self::OutcomeUnknown(_) | Self::Held { .. } => ErrorKind::Disconnected,
            Self::ExportChanged { .. } => ErrorKind::Refused,
            Self::Protocol(..) => ErrorKind::Protocol,
            Self::Disconnected(..) => ErrorKind::Disconnected,
            Self::Tls(..) => ErrorKind::Tls,
            Self::Timeout(..) => ErrorKind::Timeout,
            Self::Closed(_) => ErrorKind::Closed,
            Self::Copy(copy) => copy.nbd().map_or(ErrorKind::Copy, Self::kind),
        }
    }

    /// The error number that fits best, in Linux numbering, as libnbd would report it.
    ///
    /// For a failed request it is the server's, or `EINVAL` for a number the protocol does not
    /// know.
    #[doc(alias = "nbd_get_errno")]
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        const ENOTCONN: i32 = 107;
        match self {
            Self::Invalid(invalid) => Some(invalid.errno()),
            Self::InvalidUse(invalid) => Some(invalid.errno()),
            Self::Refused(refusal) => refusal.errno(),
            Self::MissingContext(_) => Some(2),
            Self::Request(request) => i32::try_from(request.errno.known().0).ok(),
            Self::DurabilityUnknown(lost) => i32::try_from(lost.errno().known().0).ok(),
            Self::OutcomeUnknown(lost) => lost.cause().errno(),
            // EBUSY, ESTALE
            Self::Held { .. } => Some(16),
            Self::ExportChanged { .. } => Some(116),
            Self::Protocol(..) => Some(71),
            Self::Disconnected(lost, _) if lost.is_shutdown() => Some(108),
            Self::Disconnected(lost, _) => raw_os_error(lost.io()).or(Some(ENOTCONN)),
            Self::Tls(error, _) if error.failure() == TlsFailure::NotPossible => Some(95),
            Self::Tls(error, _) => raw_os_error(error.io()).or(Some(71)),
            Self::Timeout(..) => Some(110),
            Self::Closed(_) => Some(ENOTCONN),
            Self::Copy(copy) => copy.errno(),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Invalid(InvalidRequest::OutOfMemory { .. }) => io::ErrorKind::OutOfMemory,
            Error::InvalidUse(invalid) if invalid.is_forbidden() => io::ErrorKind::PermissionDenied,
            Error::Invalid(_) | Error::InvalidUse(_) => io::ErrorKind::InvalidInput,
            Error::Refused(_) => io::ErrorKind::ConnectionRefused,
            Error::MissingContext(_) => io::ErrorKind::NotFound,
            Error::Request(request) => match request.errno {
                Errno::EPERM => io::ErrorKind::PermissionDenied,
                Errno::ENOMEM => io::ErrorKind::OutOfMemory,
                Errno::ENOSPC => io::ErrorKind::StorageFull,
                Errno::ENOTSUP => io::ErrorKind::Unsupported,
                _ => io::ErrorKind::Other,
            },
            Error::DurabilityUnknown(_) => io::ErrorKind::Other,
            Error::OutcomeUnknown(lost) if lost.generation().is_none() => io::ErrorKind::TimedOut,
            Error::OutcomeUnknown(_) => io::ErrorKind::ConnectionAborted,
            Error::Held { .. } => io::ErrorKind::ResourceBusy,
            Error::ExportChanged { .. } => io::ErrorKind::StaleNetworkFileHandle,
            Error::Protocol(..) => io::ErrorKind::InvalidData,
            Error::Disconnected(lost, _) => lost.io().kind(),
            Error::Tls(error, _) => error.io().kind(),
            Error::Timeout(..) => io::ErrorKind::TimedOut,
            Error::Closed(_) => io::ErrorKind::NotConnected,
            Error::Copy(copy) => copy.io_kind(),
        };
        Self::new(kind, error)
    }
}
