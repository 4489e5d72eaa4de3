//! Errors of every kind.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::*;
use crate::state::State;
use crate::uri::UriError;
use crate::wire::{Command, CommandFlags, Errno, OptionReplyType};

pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// An error of somebody else's, who prints its cause or leaves that to its callers.
#[derive(Debug)]
pub(super) struct Foreign {
    prints: bool,
    cause: io::Error,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the tunnel broke")?;
        if self.prints {
            write!(f, ": {}", self.cause)?;
        }
        Ok(())
    }
}

impl std::error::Error for Foreign {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

pub(super) fn broken_pipe() -> io::Error {
    io::Error::from_raw_os_error(32)
}

pub(super) fn foreign(prints: bool) -> io::Error {
    let cause = broken_pipe();
    io::Error::other(Foreign { prints, cause })
}

/// Failures of a stream: as the operating system, a layer above it, or a stranger tells them.
pub(super) fn failures() -> Vec<io::Error> {
    vec![
        broken_pipe(),
        io::ErrorKind::UnexpectedEof.into(),
        io::Error::other("no luck"),
        foreign(false),
        foreign(true),
    ]
}

pub(super) fn request_error() -> RequestError {
    RequestError {
        request: FailedRequest {
            command: Command::WRITE,
            offset: 0,
            length: 512,
        },
        errno: Errno::EIO,
        message: "bad sector".into(),
        failed_at: None,
        site: None,
    }
}

pub(super) fn invalid() -> Vec<InvalidRequest> {
    use InvalidRequest as I;
    let command = Command::WRITE;
    let (offset, length, size, limit) = (4096, 512, 1024, 256);
    vec![
        I::State {
            state: State::Created,
            needed: "ready",
        },
        I::Argument {
            what: "limit",
            why: "it is 0".into(),
        },
        I::ContainsNul {
            what: "export name",
        },
        I::TooLongString {
            what: "export name",
            length: 5000,
        },
        I::ZeroLength(command),
        I::OutOfBounds {
            command,
            offset,
            length,
            size,
        },
        I::Unaligned {
            command,
            offset,
            length,
            alignment: 4096,
        },
        I::ReadOnly(command),
        I::ReadOnlyConnection(command),
        I::ReadOnlyDisk(command),
        I::Unsupported(command),
        I::UnsupportedFlag("FUA"),
        I::WrongFlags {
            command,
            flags: CommandFlags::DF,
        },
        I::TooLong {
            command,
            length,
            limit,
        },
        I::OutOfMemory { length },
        I::NoContexts,
        I::UnknownContext {
            name: "x:y".into(),
            negotiated: vec!["base:allocation".into(), "a:b".into()],
        },
        I::UnknownContext {
            name: "x:y".into(),
            negotiated: Vec::new(),
        },
        I::NotNegotiated("extended headers"),
    ]
}

pub(super) fn misuse() -> Vec<InvalidUse> {
    use InvalidUse as U;
    let host = || "host";
    vec![
        U::NoRuntime("connecting requires a Tokio runtime"),
        U::InRuntime {
            call: "Disk::read_at",
            twin: "Connection::read",
        },
        U::Forked,
        U::NotBuilt("this build has no vsock"),
        U::Empty { what: host() },
        U::ContainsNul { what: host() },
        U::TooLong {
            what: "socket path",
            length: 200,
            limit: 107,
        },
        U::SocketName("a b".into()),
        U::ProgramName("-x".into()),
        U::NotASocket("a pipe"),
        U::Socket("bad file descriptor".into()),
        U::LocalAddress {
            address: [127, 0, 0, 1].into(),
            family: "IPv6",
        },
        U::NoTls,
        U::NoAuthority {
            hint: "; the system has none either".into(),
        },
        U::NoServerName,
        U::ServerName("a b".into()),
        U::TlsVersions,
        U::Credentials {
            what: "TLS client key",
            why: "it contains no private key".into(),
        },
        U::Uri {
            uri: None,
            error: UriError::Password,
        },
        U::uri(
            "nbds://alice:secret@host:0/",
            UriError::part("port", "it must be 1 to 65535"),
        ),
        U::uri(
            "nbd+ssh://host/",
            UriError::Forbidden {
                what: "running ssh",
                setting: "UriPolicy::ssh",
            },
        ),
        U::NoAddress,
        U::NotAnAddress,
        U::NoChild,
        U::ChildEnded,
        U::Signal(99),
    ]
}

pub(super) fn uri_errors() -> Vec<UriError> {
    use UriError as E;
    let (scheme, hint) = ("nbd", " (did you mean nbd+unix?)");
    vec![
        E::TooLong { length: 70_000 },
        E::NoScheme { hint },
        E::UnknownScheme {
            scheme: "http".into(),
            hint,
        },
        E::NoAuthority { scheme, hint },
        E::Character {
            at: 7,
            character: ' ',
        },
        E::Escape { at: 7 },
        E::Fragment { at: 7 },
        E::Password,
        E::part("port", "it must be 1 to 65535"),
        E::UnknownParameter {
            name: "session_id".into(),
        },
        E::UnsupportedParameter {
            name: "tls-priority",
            hint: " (it is for GnuTLS)",
        },
        E::DuplicateParameter { name: "socket" },
        E::MissingParameter {
            name: "socket",
            scheme: "nbd+unix",
        },
        E::Misplaced {
            name: "socket",
            scheme,
            hint,
        },
        E::Forbidden {
            what: "reading files",
            setting: "UriPolicy::files",
        },
    ]
}

pub(super) const TLS_FAILURES: [TlsFailure; 16] = [
    TlsFailure::NotPossible,
    TlsFailure::UnknownIssuer,
    TlsFailure::Expired,
    TlsFailure::NotYetValid,
    TlsFailure::WrongName,
    TlsFailure::WrongPurpose,
    TlsFailure::Revoked,
    TlsFailure::RevocationUnknown,
    TlsFailure::BadCertificate,
    TlsFailure::NoClientCertificate,
    TlsFailure::ClientCertificateRejected,
    TlsFailure::PskRejected,
    TlsFailure::PskIgnored,
    TlsFailure::Closed,
    TlsFailure::Io,
    TlsFailure::Handshake,
];

pub(super) const READ: FailedRequest = FailedRequest {
    command: Command::READ,
    offset: 8192,
    length: 4096,
};

pub(super) const FLUSH: FailedRequest = FailedRequest {
    command: Command::FLUSH,
    offset: 0,
    length: 0,
};

pub(super) const PHASES: [Phase; 8] = [
    Phase::Connect,
    Phase::Greeting,
    Phase::Handshake,
    Phase::Tls,
    Phase::Request,
    Phase::Stall,
    Phase::Reply,
    Phase::Shutdown,
];

/// A context that is missing, where there are this many others.
pub(super) fn missing_context(others: usize) -> Error {
    let name = "qemu:dirty-bitmap:b0".into();
    let available = (1..=others).map(|at| format!("qemu:dirty-bitmap:b{at}"));
    Error::MissingContext(MissingContext::new(name, available.collect(), true))
}

/// An export that is smaller than it was.
pub(super) fn export_changed() -> Error {
    Error::ExportChanged {
        what: "its size",
        was: "1048576".into(),
        is: "4096".into(),
    }
}

pub(super) fn copies() -> Vec<CopyFault> {
    use CopyFault as F;
    let cause = || Arc::new(io::Error::from_raw_os_error(28));
    let (side, action) = (Side::Destination, "write");
    vec![
        F::Nbd {
            side: Side::Source,
            cause: Error::eof(Phase::Request),
        },
        F::Io {
            side,
            action,
            range: Some(4096..8192),
            cause: cause(),
        },
        F::Io {
            side,
            action: "sync",
            range: None,
            cause: cause(),
        },
        F::TooSmall {
            source: 1 << 30,
            destination: 4096,
        },
        F::ReadOnly,
        F::Different { offset: 512 },
        F::OtherCopy {
            why: "the source had 512 bytes, and has 1024".into(),
        },
        F::Impossible("there is no source"),
        F::Checkpoint(cause()),
        F::Cancelled,
    ]
}

/// Every variant, with every kind of cause.
pub(super) fn every() -> Vec<Error> {
    let refusal = Refusal {
        option: crate::wire::OptionType::GO,
        reply: OptionReplyType::ERR_POLICY,
        message: "not you".into(),
        fatal: false,
        child: None,
        site: None,
        attempts: None,
    };
    let mut every: Vec<_> = invalid().into_iter().map(Error::Invalid).collect();
    every.extend(misuse().into_iter().map(Error::InvalidUse));
    every.extend([
        Error::Refused(refusal),
        missing_context(2),
        Error::Request(request_error()),
        Error::DurabilityUnknown(request_error().into()),
        Error::maybe_lost(std::iter::once(0..4096).collect()),
        Error::lost_change(Command::WRITE, 0..512, Some(1), Error::eof(Phase::Request)),
        Error::Held {
            range: 0..512,
            generation: 1,
        },
        export_changed(),
        ProtocolError::NotDone.into(),
        Error::timeout(Phase::Request, LIMIT),
        Error::overdue(LIMIT, READ).unsent(),
        Error::closed(),
    ]);
    every.extend(
        copies()
            .into_iter()
            .map(|fault| Error::copy(fault, 0, false)),
    );
    for failure in failures() {
        every.push(Error::io(Phase::Request, failure));
    }
    for failure in failures() {
        every.push(Error::tls(TlsError::new(TlsFailure::Handshake, failure)));
    }
    every
}
