//! The one error type, sorted by who is at fault.

mod attempt;
mod ending;
mod invalid;
mod kind;
mod refusal;
mod request;
#[cfg(test)]
mod tests;
mod tls;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;

pub(crate) use attempt::{WithCauses, raw_os_error, trying};
pub use ending::{ChildReport, Delivery, Ending, LostConnection, Phase};
pub use invalid::InvalidRequest;
pub use kind::ErrorKind;
pub use refusal::Refusal;
pub use request::RequestError;
pub use tls::{ClientCertificate, TlsError, TlsFailure};

use crate::state::State;
use crate::wire::{Command, Errno, OptionReplyType, ProtocolError};

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something failed, sorted by who is at fault.
///
/// [`Invalid`](Self::Invalid), [`Request`](Self::Request) and
/// [`DurabilityUnknown`](Self::DurabilityUnknown) leave an established connection usable, and in
/// option mode so does [`Refused`](Self::Refused). The others are about the connection as a whole:
/// it has ended, once, and everybody who was waiting gets the same cause. (A request that timed
/// out before it was sent fails alone.) [`is_fatal`](Self::is_fatal) tells which it is.
///
/// The text is one sentence that includes the cause, fit for a log or a user; what the server said
/// is in it, escaped. So [`source`](std::error::Error::source) gives nothing: whoever prints an
/// error with its sources would print the cause twice. The error of the operating system or of the
/// TLS library is [`LostConnection::io`] or [`TlsError::io`].
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
    /// A flush succeeded, but an earlier one has failed with this error, and changes that were
    /// acknowledged before that one may be lost: see
    /// [`Connection::clear_flush_error`](crate::Connection::clear_flush_error).
    DurabilityUnknown(RequestError),
    /// The server broke the protocol; the connection is dead.
    Protocol(ProtocolError, Ending),
    /// The connection could not be made, or was lost, or the server is shutting down and takes no
    /// further requests.
    Disconnected(LostConnection, Ending),
    /// The connection could not be made secure; it is dead.
    Tls(TlsError, Ending),
    /// A deadline passed. The connection is dead; or, without an [`Ending`], a request timed out
    /// before it was sent, and the connection goes on.
    Timeout(Phase, Option<Ending>),
    /// The connection was closed by this side.
    Closed(Ending),
}

impl Error {
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
            Self::Invalid(_)
            | Self::DurabilityUnknown(_)
            | Self::Protocol(..)
            | Self::Closed(_) => false,
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
            Self::Request(_) | Self::DurabilityUnknown(_) => Delivery::MaybeSent,
            _ => self
                .ending()
                .map_or(Delivery::NotSent, |ending| ending.delivery),
        }
    }

    /// Whether changes that the server has acknowledged may be lost for this reason: a flush failed
    /// or tells of an earlier one that did, or the connection ended before what was acknowledged
    /// had been flushed.
    ///
    /// It says nothing of requests that were not acknowledged: see [`delivery`](Self::delivery).
    ///
    /// ```
    /// # use nbd_client::{Connection, testing};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// conn.write(0, "lost?").await?;
    /// assert!(conn.has_unflushed_writes());
    /// server.hang_up(); // as it does when it crashes
    /// assert!(conn.closed().await.has_unflushed_writes());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn has_unflushed_writes(&self) -> bool {
        match self {
            Self::Request(request) => request.command == Command::FLUSH,
            Self::DurabilityUnknown(_) => true,
            _ => self.ending().is_some_and(Ending::has_unflushed_writes),
        }
    }

    /// Whether the connection is over: it has ended, or it is about to and takes no further
    /// requests.
    ///
    /// If not, a request or an option has failed alone, and others may succeed.
    ///
    /// This is about connections that are established. An attempt to connect that fails is over,
    /// whatever the reason and whatever this says: if [`Invalid`](Self::Invalid) is the reason, such
    /// as a host with a NUL byte, this is `false`, for later calls on the same handle too.
    /// [`Connection::state`](crate::Connection::state) tells whether a handle has ended.
    ///
    /// ```
    /// # use nbd_client::{Connection, testing};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// let error = conn.read(1 << 20, 512).await.unwrap_err();
    /// assert!(!error.is_fatal()); // past the end of the export
    /// server.hang_up();
    /// let error = conn.read(0, 512).await.unwrap_err();
    /// assert!(error.is_fatal());
    ///
    /// let conn = Connection::new();
    /// let error = conn.connect_tcp("a\0b", 10809).await.unwrap_err();
    /// assert!(!error.is_fatal() && conn.is_dead());
    /// # assert!(!conn.read(0, 512).await.unwrap_err().is_fatal());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Invalid(InvalidRequest::State { state, .. }) => {
                matches!(state, State::Closed | State::Dead)
            }
            Self::Invalid(_) | Self::DurabilityUnknown(_) => false,
            Self::Refused(refusal) => refusal.fatal,
            // The connection ends as soon as what is in flight has been answered.
            Self::Request(request) => request.errno == Errno::ESHUTDOWN,
            Self::Timeout(_, ending) => ending.is_some(),
            Self::Protocol(..) | Self::Disconnected(..) | Self::Tls(..) | Self::Closed(_) => true,
        }
    }

    /// What is known about a connection that has ended; `None` if it has not, or if it was the
    /// server's answer that ended it.
    #[must_use]
    pub const fn ending(&self) -> Option<&Ending> {
        match self {
            Self::Protocol(_, ending)
            | Self::Disconnected(_, ending)
            | Self::Tls(_, ending)
            | Self::Timeout(_, Some(ending))
            | Self::Closed(ending) => Some(ending),
            _ => None,
        }
    }

    /// Whether there is room for what is known of the server process.
    pub(crate) fn takes_child(&self) -> bool {
        matches!(self, Self::Refused(_)) || self.ending().is_some()
    }

    /// What is known of the server process, if this connection ran one: of a connection that has
    /// ended, or of a refusal that ended the attempt to connect.
    #[must_use]
    pub fn child(&self) -> Option<&ChildReport> {
        match self {
            Self::Refused(refusal) => refusal.child(),
            _ => self.ending().and_then(Ending::child),
        }
    }

    fn ending_mut(&mut self) -> Option<&mut Ending> {
        match self {
            Self::Protocol(_, ending)
            | Self::Disconnected(_, ending)
            | Self::Tls(_, ending)
            | Self::Timeout(_, Some(ending))
            | Self::Closed(ending) => Some(ending),
            _ => None,
        }
    }

    /// The same error, which has ended the connection.
    pub(crate) const fn into_fatal(mut self) -> Self {
        if let Self::Refused(refusal) = &mut self {
            refusal.fatal = true;
        }
        self
    }

    /// The same error for a request of which this much is known.
    pub(crate) fn delivered(mut self, delivery: Delivery) -> Self {
        if let Some(ending) = self.ending_mut() {
            ending.delivery = delivery;
        }
        self
    }

    /// The same error for a connection that ended like this.
    pub(crate) fn with_unflushed(mut self, unflushed: bool) -> Self {
        if let Some(ending) = self.ending_mut() {
            ending.unflushed |= unflushed;
        }
        self
    }

    /// The same error with what is known of the server process.
    pub(crate) fn with_child(mut self, report: ChildReport) -> Self {
        if let Some(place) = self.child_mut() {
            *place = Some(Arc::new(report));
        }
        self
    }

    /// Where the server process's report belongs in this error.
    fn child_mut(&mut self) -> Option<&mut Option<Arc<ChildReport>>> {
        match self {
            Self::Refused(refusal) => Some(&mut refusal.child),
            _ => self.ending_mut().map(|ending| &mut ending.child),
        }
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

    /// The server has said that it is shutting down.
    pub(crate) fn shutting_down() -> Self {
        let error = io::Error::new(io::ErrorKind::ConnectionAborted, ending::ShuttingDown);
        Self::io(Phase::Shutdown, error)
    }

    pub(crate) fn tls(error: TlsError) -> Self {
        Self::Tls(error, Ending::default())
    }

    pub(crate) fn timeout(phase: Phase) -> Self {
        Self::Timeout(phase, Some(Ending::default()))
    }

    /// A request timed out before any of it was sent.
    pub(crate) const fn unsent() -> Self {
        Self::Timeout(Phase::Request, None)
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
            Self::DurabilityUnknown(request) => write!(
                f,
                "what was written before an earlier flush may be lost: {request}"
            )?,
            Self::Protocol(violation, _) => write!(f, "server broke the protocol: {violation}")?,
            Self::Disconnected(lost, _) => lost.fmt(f)?,
            Self::Tls(error, _) => error.fmt(f)?,
            Self::Timeout(_, None) => f.write_str("timed out before it was sent")?,
            Self::Timeout(phase, Some(_)) => write!(f, "timed out during {phase}")?,
            Self::Closed(_) => f.write_str("connection closed by this side")?,
        }
        if self.ending().is_some_and(Ending::has_unflushed_writes) {
            f.write_str("; not all acknowledged writes were flushed")?;
        }
        match self.child() {
            Some(child) => write!(f, "; {child}"),
            None => Ok(()),
        }
    }
}

/// The text includes the cause, so there is no source.
impl std::error::Error for Error {}

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
