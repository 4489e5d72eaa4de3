//! The one error type, sorted by who is at fault.

mod attempt;
mod context;
mod copy;
mod deadline;
mod details;
mod disk;
mod ending;
mod invalid;
mod kind;
mod lost;
mod misuse;
mod refusal;
mod request;
mod site;
#[cfg(test)]
mod tests;
mod text;
mod tls;

use std::convert::Infallible;
use std::ops::Range;

#[cfg(unix)]
pub(crate) use attempt::trying_with_hint;
pub(crate) use attempt::{Reason, described, raw_os_error, trying};
pub use context::MissingContext;
pub use copy::{CopyError, CopyFault, Side};
pub use disk::{LostChange, MaybeLost};
pub(crate) use ending::Attempts;
pub use ending::{ChildReport, Delivery, Ending, Phase};
pub use invalid::InvalidRequest;
pub use kind::ErrorKind;
pub use lost::LostConnection;
pub use misuse::InvalidUse;
pub use refusal::Refusal;
pub use request::{FailedRequest, RequestError};
pub(crate) use site::Site;
pub use tls::{ClientCertificate, TlsError, TlsFailure};

use crate::state::State;
use crate::wire::{Command, Errno, OptionReplyType, ProtocolError};

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something failed, sorted by who is at fault.
///
/// [`Invalid`](Self::Invalid), [`InvalidUse`](Self::InvalidUse), [`Request`](Self::Request) and
/// [`DurabilityUnknown`](Self::DurabilityUnknown) leave an established connection usable, and in
/// option mode so do [`Refused`](Self::Refused) and [`MissingContext`](Self::MissingContext). The
/// others are about the connection as a whole: it has ended, once, and every request that was waiting
/// gets the same cause. (A request that timed out before it was sent fails alone, and so does one of a
/// [`Disk`](crate::Disk).)
/// [`is_fatal`](Self::is_fatal) tells which it is, and [`request`](Self::request) names the request.
///
/// The text is one sentence, fit for a log or a user: where, what and why, and what to do next where
/// that is known. It includes the cause, and what the server said, escaped. So
/// [`source`](std::error::Error::source) gives nothing: whoever prints an error with its sources would
/// print the cause twice. The error of the operating system or of the TLS library is [`LostConnection::io`] or [`TlsError::io`]. `Debug` gives the same sentence, so that
/// a `main` that returns a [`Result`] ends with it; with `{:#?}` it shows the structure.
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
#[doc(alias = "nbd_get_error")]
#[derive(Clone)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked for something impossible. Nothing was sent.
    Invalid(InvalidRequest),
    /// The caller used the library in a way that cannot work. Nothing was done.
    InvalidUse(InvalidUse),
    /// The server refused during negotiation. In option mode the negotiation goes on; otherwise
    /// this is the end of the attempt to connect.
    Refused(Refusal),
    /// The server does not have a metadata context that the connection
    /// [requires](crate::Builder::require_meta_context). In option mode the negotiation goes on;
    /// otherwise this is the end of the attempt to connect.
    MissingContext(MissingContext),
    /// The request failed on the server.
    Request(RequestError),
    /// A flush succeeded, but changes that were acknowledged before may be lost: an earlier flush has
    /// failed, see [`Connection::clear_flush_error`](crate::Connection::clear_flush_error), or a
    /// [`Disk`](crate::Disk) lost its connection before they were flushed, which it says once.
    DurabilityUnknown(MaybeLost),
    /// A [`Disk`](crate::Disk) lost the connection over which a change had been sent, or the deadline of
    /// the change passed, before the answer came. The server may have carried it out, and may yet do
    /// so. The disk goes on; writing the same bytes again is safe if the change
    /// [is repeatable](LostChange::is_repeatable).
    OutcomeUnknown(Box<LostChange>),
    /// A change was not sent: it would write other bytes than one whose outcome is unknown, and that
    /// one could undo it later. A [fence](crate::Fence) ends this, and so does
    /// [`Disk::assume_fenced`](crate::Disk::assume_fenced).
    Held {
        /// The bytes, counted from the start of the export.
        range: Range<u64>,
        /// The number of the connection that was lost, counted from 1.
        generation: u64,
    },
    /// A [`Disk`](crate::Disk) connected again, and the export is not what it was.
    ExportChanged {
        /// What has changed.
        what: &'static str,
        /// What it was.
        was: String,
        /// What it is now.
        is: String,
    },
    /// The server broke the protocol; the connection is dead.
    Protocol(ProtocolError, Ending),
    /// The connection could not be made, or was lost, or the server is shutting down and takes no
    /// further requests.
    Disconnected(LostConnection, Ending),
    /// The connection could not be made secure; it is dead.
    Tls(TlsError, Ending),
    /// A deadline passed. The connection is dead; or a request timed out before it was sent, or one of a
    /// [`Disk`](crate::Disk) that changes nothing, and the connection goes on: then
    /// [`ending`](Self::ending) is `None`.
    Timeout(Phase, Ending),
    /// The connection was closed by this side.
    Closed(Ending),
    /// A [copy](crate::copy()) failed.
    Copy(Box<CopyError>),
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
            | Self::InvalidUse(_)
            | Self::MissingContext(_)
            | Self::DurabilityUnknown(_)
            | Self::Held { .. }
            | Self::ExportChanged { .. }
            | Self::Protocol(..)
            | Self::Closed(_) => false,
            Self::OutcomeUnknown(lost) => lost.cause().is_retryable(),
            Self::Copy(copy) => copy.nbd().is_some_and(Self::is_retryable),
        }
    }

    /// Whether the request may have reached the server.
    ///
    /// After [`Delivery::MaybeSent`] a write, trim or zero may have been applied, or may yet be
    /// applied by a server that is still working on it.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        match self {
            Self::Invalid(_) | Self::InvalidUse(_) | Self::Refused(_) | Self::MissingContext(_) => {
                Delivery::NotSent
            }
            Self::Request(_) | Self::DurabilityUnknown(_) | Self::OutcomeUnknown(_) => {
                Delivery::MaybeSent
            }
            _ => self
                .details()
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
            Self::Request(failed) => failed.request.command == Command::FLUSH,
            Self::DurabilityUnknown(_) => true,
            Self::Copy(copy) => copy.nbd().is_some_and(Self::has_unflushed_writes),
            _ => self.ending().is_some_and(Ending::has_unflushed_writes),
        }
    }

    /// Whether the connection is over: it has ended, or it is about to and takes no further
    /// requests.
    ///
    /// If not, a request or an option has failed alone, and others may succeed. A request to a
    /// [`Disk`](crate::Disk) fails with the error of its last connection, and the disk may go on with
    /// another one: [`Disk::ended`](crate::Disk::ended) tells whether it does.
    ///
    /// This is about connections that are established. An attempt to connect that fails is over,
    /// whatever the reason and whatever this says: if [`InvalidUse`](Self::InvalidUse) is the reason,
    /// such as a host with a NUL byte, this is `false`, for later calls on the same handle too.
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
            Self::Invalid(_)
            | Self::InvalidUse(_)
            | Self::DurabilityUnknown(_)
            | Self::OutcomeUnknown(_)
            | Self::Held { .. } => false,
            Self::Copy(copy) => copy.nbd().is_some_and(Self::is_fatal),
            Self::Refused(refusal) => refusal.fatal,
            Self::MissingContext(missing) => missing.fatal,
            // The connection ends as soon as what is in flight has been answered.
            Self::Request(request) => request.errno == Errno::ESHUTDOWN,
            Self::Timeout(_, ending) => !ending.goes_on,
            Self::Protocol(..)
            | Self::Disconnected(..)
            | Self::Tls(..)
            | Self::ExportChanged { .. }
            | Self::Closed(_) => true,
        }
    }

    /// What is known about a connection that has ended; `None` if it has not, or if it was the
    /// server's answer that ended it.
    #[must_use]
    pub const fn ending(&self) -> Option<&Ending> {
        match self.details() {
            Some(ending) if !ending.goes_on => Some(ending),
            _ => None,
        }
    }

    /// Which request failed; `None` if the error is not that of a request, but of a connection, an
    /// option, or an argument.
    ///
    /// If the request [failed on the server](Self::Request), this is the message that failed, which
    /// may be a part of what was asked for, see [`RequestError`].
    ///
    /// ```
    /// # use nbd_client::{Connection, testing};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// server.hang_up();
    /// let error = conn.read(8192, 512).await.unwrap_err();
    /// let request = error.request().unwrap();
    /// assert_eq!((request.offset(), request.length()), (8192, 512));
    /// assert_eq!(
    ///     error.to_string(),
    ///     "READ of 512 bytes at offset 8192 failed: the server closed the connection"
    /// );
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn request(&self) -> Option<FailedRequest> {
        match self {
            Self::Request(failed) => Some(failed.request),
            Self::DurabilityUnknown(lost) => lost.failure().map(|failed| failed.request),
            Self::OutcomeUnknown(lost) => Some(lost.request()),
            _ => self.details()?.facts.as_ref()?.request,
        }
    }

    /// What is known of the server process, if this connection ran one: of a connection that has
    /// ended, or of a refusal that ended the attempt to connect.
    #[must_use]
    pub fn child(&self) -> Option<&ChildReport> {
        match self {
            Self::Refused(refusal) => refusal.child(),
            Self::MissingContext(missing) => missing.child(),
            _ => self.ending().and_then(Ending::child),
        }
    }
}

impl From<InvalidRequest> for Error {
    fn from(invalid: InvalidRequest) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<InvalidUse> for Error {
    fn from(invalid: InvalidUse) -> Self {
        Self::InvalidUse(invalid)
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
