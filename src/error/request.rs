//! Requests that fail on the server.

use std::fmt;
use std::sync::Arc;

use super::Site;
use crate::wire::{Command, Errno, Text};

/// Which request an error is about, see [`Error::request`](crate::Error::request).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FailedRequest {
    pub(crate) command: Command,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl FailedRequest {
    /// The command of the request.
    #[must_use]
    pub const fn command(&self) -> Command {
        self.command
    }

    /// The start of its range, in bytes from the start of the export; 0 for a flush.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The length of its range, in bytes; 0 for a flush.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }
}

/// Command and range, such as "READ of 4096 bytes at offset 8192".
impl fmt::Display for FailedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            offset,
            length,
        } = self;
        match *command {
            Command::FLUSH => write!(f, "{command}"),
            _ => write!(f, "{command} of {length} bytes at offset {offset}"),
        }
    }
}

/// A request that failed on the server.
///
/// Command, offset and length are those of the message that the server refused. A read or write
/// that is longer than one message can be is sent as several, and this is the one that failed: a
/// part of what was asked for. Where a flush stands in for
/// [`fua`](crate::Builder::emulate_fua), it may be the flush.
///
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
/// use nbd_client::Error;
///
/// if let Err(Error::Request(failure)) = conn.read(8192, 4096).await {
///     assert_eq!((failure.offset(), failure.length()), (8192, 4096));
///     assert_eq!(
///         failure.to_string(),
///         "READ of 4096 bytes at offset 8192 failed on the server: EIO (bad sector)"
///     );
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestError {
    pub(crate) request: FailedRequest,
    pub(crate) errno: Errno,
    pub(crate) message: Text,
    pub(crate) failed_at: Option<u64>,
    pub(crate) site: Option<Arc<Site>>,
}

impl RequestError {
    /// The command that failed.
    #[must_use]
    pub const fn command(&self) -> Command {
        self.request.command
    }

    /// Where the request begins, in bytes from the start of the export; 0 for a flush. Where in
    /// the request it failed is [`failed_at`](Self::failed_at).
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.request.offset
    }

    /// How much of the export the request is about, in bytes; 0 for a flush.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.request.length
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

    /// Where it failed, in bytes from the start of the export, if the server said so: an offset
    /// inside the request.
    #[doc(alias = "LIBNBD_READ_ERROR")]
    #[must_use]
    pub const fn failed_at(&self) -> Option<u64> {
        self.failed_at
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed on the server: ", self.request)?;
        if self.errno.name().is_none() {
            f.write_str("error ")?;
        }
        write!(f, "{}", self.errno)?;
        if let Some(at) = self.failed_at {
            write!(f, " at offset {at}")?;
        }
        if self.message.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_which_request_it_was_and_where_in_it_it_failed() {
        let mut error = RequestError {
            request: FailedRequest {
                command: Command::WRITE,
                offset: 1 << 40,
                length: 4096,
            },
            errno: Errno::EIO,
            message: Text::default(),
            failed_at: None,
            site: None,
        };
        assert_eq!(
            error.to_string(),
            "WRITE of 4096 bytes at offset 1099511627776 failed on the server: EIO"
        );
        error.errno = Errno(117);
        error.failed_at = Some((1 << 40) + 512);
        error.message = "bad sector".into();
        assert_eq!(
            error.to_string(),
            "WRITE of 4096 bytes at offset 1099511627776 failed on the server: \
             error 117 at offset 1099511628288 (bad sector)"
        );
        (error.request.command, error.failed_at) = (Command::FLUSH, None);
        assert_eq!(
            error.to_string(),
            "FLUSH failed on the server: error 117 (bad sector)"
        );
    }
}
