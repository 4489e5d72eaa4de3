//! The one error type, sorted by who is at fault.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::process::ExitStatus;
use std::sync::Arc;

use crate::connection::State;
use crate::transport::raw_os_error;
use crate::transport::tls::{TlsError, TlsFailure};
use crate::wire::{Command, CommandFlags, Errno, OptionReplyType, OptionType, ProtocolError, Text};

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something failed, sorted by who is at fault.
///
/// [`Invalid`](Self::Invalid) and [`Request`](Self::Request) leave the connection usable, and in
/// option mode so does [`Refused`](Self::Refused). The others are about the connection as a whole:
/// it has ended, once, and everybody who was waiting gets the same cause. (A request that timed
/// out before it was sent fails alone.)
///
/// The text is one sentence that includes the cause, fit for a log or a user; what the server said
/// is in it, escaped.
///
/// # Examples
/// ```
/// # use nbd_client::{Connection, testing, wire::Errno};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nbd_client::Result<()> {
/// # let server = testing::Server::builder()
/// #     .export("", testing::Export::new(1 << 20))
/// #     .fail_with(|_| Some((Errno::EIO, "bad sector".into())))
/// #     .build();
/// # let conn = Connection::new();
/// # conn.connect_stream(server.connect()).await?;
/// use nbd_client::{Delivery, Error};
///
/// match conn.write(0, "data").await {
///     Ok(()) => {}
///     // This request failed, and others may do better.
///     Err(Error::Request(failure)) => println!("{failure}"),
///     Err(error @ Error::Invalid(_)) => panic!("a mistake of this program: {error}"),
///     // The connection is gone. On a new one, this write may be repeated without a thought …
///     Err(error) if error.is_retryable() && error.delivery() == Delivery::NotSent => {}
///     // … and this one only if nobody else may have written there in the meantime.
///     Err(error) => return Err(error),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked for something impossible. Nothing was sent.
    Invalid(InvalidRequest),
    /// The server refused during negotiation. In option mode the negotiation goes on; otherwise
    /// this is the end of the attempt to connect.
    Refused(Refusal),
    /// The request failed on the server.
    Request(RequestError),
    /// The server broke the protocol; the connection is dead.
    Protocol(ProtocolError, Ending),
    /// The connection could not be made, or was lost.
    Disconnected(LostConnection, Ending),
    /// The connection could not be made secure; it is dead.
    Tls(TlsError, Ending),
    /// A deadline passed; the connection is dead, unless this is a request that was not sent yet.
    Timeout(Phase, Ending),
    /// The connection was closed by this side.
    Closed(Ending),
}

/// Who is at fault, see [`Error::kind`].
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
}

impl Error {
    /// Who is at fault.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Refused(_) => ErrorKind::Refused,
            Self::Request(_) => ErrorKind::Request,
            Self::Protocol(..) => ErrorKind::Protocol,
            Self::Disconnected(..) => ErrorKind::Disconnected,
            Self::Tls(..) => ErrorKind::Tls,
            Self::Timeout(..) => ErrorKind::Timeout,
            Self::Closed(_) => ErrorKind::Closed,
        }
    }

    /// The error number that fits best, in Linux numbering, as libnbd would report it.
    ///
    /// For a failed request it is the server's, or `EINVAL` for a number the protocol does not
    /// know.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        const ENOTCONN: i32 = 107;
        match self {
            Self::Invalid(invalid) => Some(invalid.errno()),
            Self::Refused(refusal) => refusal.errno(),
            Self::Request(request) => i32::try_from(request.errno.known().0).ok(),
            Self::Protocol(..) => Some(71),
            Self::Disconnected(lost, _) => raw_os_error(lost.io()).or(Some(ENOTCONN)),
            Self::Tls(error, _) if error.failure() == TlsFailure::NotPossible => Some(95),
            Self::Tls(error, _) => raw_os_error(error.io()).or(Some(71)),
            Self::Timeout(..) => Some(110),
            Self::Closed(_) => Some(ENOTCONN),
        }
    }

    /// Whether the same request could succeed on a new connection to the same server.
    ///
    /// True for lost connections, deadlines, and a server that is shutting down. It says nothing
    /// about whether that is safe: repeating a write is the caller's decision, see
    /// [`delivery`](Self::delivery).
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Disconnected(..) | Self::Timeout(..) => true,
            Self::Tls(error, _) => error.is_retryable(),
            Self::Request(request) => request.errno == Errno::ESHUTDOWN,
            Self::Refused(refusal) => refusal.reply == OptionReplyType::ERR_SHUTDOWN,
            Self::Invalid(_) | Self::Protocol(..) | Self::Closed(_) => false,
        }
    }

    /// Whether the request may have reached the server.
    ///
    /// After [`Delivery::MaybeSent`] a write, trim or zero may have been applied, or may yet be
    /// applied by a server that is still working on it.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        match self {
            Self::Invalid(_) | Self::Refused(_) => Delivery::NotSent,
            Self::Request(_) => Delivery::MaybeSent,
            _ => self
                .ending()
                .map_or(Delivery::NotSent, |ending| ending.delivery),
        }
    }

    /// What is known about a connection that has ended; `None` if it has not.
    #[must_use]
    pub const fn ending(&self) -> Option<&Ending> {
        match self {
            Self::Protocol(_, ending)
            | Self::Disconnected(_, ending)
            | Self::Tls(_, ending)
            | Self::Timeout(_, ending)
            | Self::Closed(ending) => Some(ending),
            _ => None,
        }
    }

    fn ending_mut(&mut self) -> Option<&mut Ending> {
        match self {
            Self::Protocol(_, ending)
            | Self::Disconnected(_, ending)
            | Self::Tls(_, ending)
            | Self::Timeout(_, ending)
            | Self::Closed(ending) => Some(ending),
            _ => None,
        }
    }

    /// The same error for a request of which this much is known.
    pub(crate) fn delivered(mut self, delivery: Delivery) -> Self {
        if let Some(ending) = self.ending_mut() {
            ending.delivery = delivery;
        }
        self
    }

    /// The same error with the server process's last words.
    pub(crate) fn with_child(mut self, child: Option<ChildReport>) -> Self {
        if let (Some(ending), Some(child)) = (self.ending_mut(), child) {
            ending.child = Some(Arc::new(child));
        }
        self
    }

    pub(crate) fn io(phase: Phase, error: io::Error) -> Self {
        Self::Disconnected(
            LostConnection {
                phase,
                source: Arc::new(error),
            },
            Ending::default(),
        )
    }

    /// The server ended the connection where more was due.
    pub(crate) fn eof(phase: Phase) -> Self {
        Self::io(phase, io::ErrorKind::UnexpectedEof.into())
    }

    pub(crate) fn tls(error: TlsError) -> Self {
        Self::Tls(error, Ending::default())
    }

    pub(crate) fn timeout(phase: Phase) -> Self {
        Self::Timeout(phase, Ending::default())
    }

    pub(crate) fn closed() -> Self {
        Self::Closed(Ending::default())
    }

    pub(crate) const fn state(state: State, needed: &'static str) -> Self {
        Self::Invalid(InvalidRequest::State { state, needed })
    }

    pub(crate) fn argument(what: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid(InvalidRequest::Argument {
            what,
            why: why.into(),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(invalid) => invalid.fmt(f)?,
            Self::Refused(refusal) => refusal.fmt(f)?,
            Self::Request(request) => request.fmt(f)?,
            Self::Protocol(violation, _) => write!(f, "server broke the protocol: {violation}")?,
            Self::Disconnected(lost, _) => lost.fmt(f)?,
            Self::Tls(error, _) => error.fmt(f)?,
            Self::Timeout(phase, _) => write!(f, "timed out during {phase}")?,
            Self::Closed(_) => f.write_str("connection closed by this side")?,
        }
        match self.ending().and_then(Ending::child) {
            Some(child) => write!(f, "; {child}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Disconnected(lost, _) => Some(lost.io()),
            Self::Tls(error, _) => Some(error.io()),
            _ => None,
        }
    }
}

impl From<InvalidRequest> for Error {
    fn from(invalid: InvalidRequest) -> Self {
        Self::Invalid(invalid)
    }
}

/// For calls that take anything that can become something, and are given the thing itself.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<ProtocolError> for Error {
    fn from(violation: ProtocolError) -> Self {
        Self::Protocol(violation, Ending::default())
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Invalid(InvalidRequest::Forbidden(_)) => io::ErrorKind::PermissionDenied,
            Error::Invalid(_) => io::ErrorKind::InvalidInput,
            Error::Refused(_) => io::ErrorKind::ConnectionRefused,
            Error::Request(request) => match request.errno {
                Errno::EPERM => io::ErrorKind::PermissionDenied,
                Errno::ENOMEM => io::ErrorKind::OutOfMemory,
                Errno::ENOSPC => io::ErrorKind::StorageFull,
                Errno::ENOTSUP => io::ErrorKind::Unsupported,
                _ => io::ErrorKind::Other,
            },
            Error::Protocol(..) => io::ErrorKind::InvalidData,
            Error::Disconnected(lost, _) => lost.io().kind(),
            Error::Tls(error, _) => error.io().kind(),
            Error::Timeout(..) => io::ErrorKind::TimedOut,
            Error::Closed(_) => io::ErrorKind::NotConnected,
        };
        Self::new(kind, error)
    }
}

/// Whether a request may have reached the server.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Delivery {
    /// No byte of it was sent: repeating it is safe.
    #[default]
    NotSent,
    /// At least a part of it was handed to the network: its outcome is unknown.
    MaybeSent,
}

/// What was going on when a connection ended or a deadline passed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Phase {
    /// Reaching the server: name lookup, connecting, starting the command.
    Connect,
    /// Waiting for the server's first bytes.
    Greeting,
    /// Negotiating options.
    Handshake,
    /// Upgrading to TLS.
    Tls,
    /// Waiting for the reply to a request.
    Request,
    /// Waiting for any byte at all while requests are in flight.
    Stall,
    /// Waiting for the server to close after the last request.
    Shutdown,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Greeting => "the greeting",
            Self::Handshake => "the handshake",
            Self::Tls => "the TLS handshake",
            Self::Request => "transmission",
            Self::Stall => "a stall of the server",
            Self::Shutdown => "shutdown",
        })
    }
}

/// A connection that could not be made or was lost.
#[derive(Clone, Debug)]
pub struct LostConnection {
    phase: Phase,
    source: Arc<io::Error>,
}

impl LostConnection {
    /// What was going on.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The error of the operating system; `UnexpectedEof` if the server closed the connection.
    #[must_use]
    pub fn io(&self) -> &io::Error {
        &self.source
    }
}

impl fmt::Display for LostConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source.kind() == io::ErrorKind::UnexpectedEof && self.source.get_ref().is_none() {
            write!(f, "server closed the connection during {}", self.phase)
        } else {
            write!(
                f,
                "connection failed during {}: {}",
                self.phase, self.source
            )
        }
    }
}

/// What is known about a connection that has ended.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    delivery: Delivery,
    child: Option<Arc<ChildReport>>,
}

impl Ending {
    /// Whether the request this error answers may have reached the server.
    #[must_use]
    pub const fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// How the server process ended, if this connection ran one.
    #[must_use]
    pub fn child(&self) -> Option<&ChildReport> {
        self.child.as_deref()
    }
}

/// The end of a server that was started as a child process.
#[derive(Clone, Debug)]
pub struct ChildReport {
    pub(crate) status: Option<ExitStatus>,
    pub(crate) stderr: Text,
}

impl ChildReport {
    /// How the process ended; `None` if it could not be learnt.
    #[must_use]
    pub const fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// The last 4 KiB it wrote to its standard error.
    #[must_use]
    pub const fn stderr(&self) -> &Text {
        &self.stderr
    }
}

impl fmt::Display for ChildReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "the server process ended with {status}")?,
            None => f.write_str("the server process ended")?,
        }
        if self.stderr.is_empty() {
            return Ok(());
        }
        f.write_str(", saying:")?;
        // Lines stay lines; everything else that could move a cursor is escaped.
        for line in self.stderr.as_str().lines() {
            write!(f, "\n  {}", Text::from(line))?;
        }
        Ok(())
    }
}

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
    /// There is no Tokio runtime here.
    #[error("no Tokio runtime: {0}")]
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
    /// The length does not fit.
    #[error("{command} of {length} bytes is more than the {limit} possible here")]
    TooLong {
        /// The command.
        command: Command,
        /// How much was asked for, in bytes.
        length: u64,
        /// How much is possible, in bytes.
        limit: u64,
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
    fn errno(&self) -> i32 {
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
            Self::TooLongString { .. } => 36,
            Self::NotNegotiated(_) | Self::NotBuilt(_) => 95,
            _ => 22,
        }
    }
}

/// A refusal of the server during negotiation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    pub(crate) option: OptionType,
    pub(crate) reply: OptionReplyType,
    pub(crate) message: Text,
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

    const fn errno(&self) -> Option<i32> {
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
