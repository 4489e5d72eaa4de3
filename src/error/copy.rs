//! Why a copy failed.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::{Error, Reason, raw_os_error};

/// A side of a copy.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Side {
    /// What is read.
    Source,
    /// What is written.
    Destination,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "the source",
            Self::Destination => "the destination",
        })
    }
}

/// Why a [copy](crate::copy()) failed: on which side, doing what, and where.
#[derive(Clone, Debug)]
pub struct CopyError {
    pub(super) fault: CopyFault,
    pub(super) done: u64,
    /// Whether a checkpoint was kept, from which another copy can go on.
    pub(super) is_kept: bool,
}

/// What went wrong in a copy.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CopyFault {
    /// An NBD server, or the connection to it.
    Nbd {
        /// Which side it is.
        side: Side,
        /// What it said, or how the connection ended.
        cause: Error,
    },
    /// A file, a device, or a stream.
    Io {
        /// Which side it is.
        side: Side,
        /// What was done, such as `"read"`.
        action: &'static str,
        /// Where, in bytes from the start, if it was about some bytes.
        range: Option<Range<u64>>,
        /// The error of the operating system.
        cause: Arc<io::Error>,
    },
    /// The destination has not enough room. Nothing was written, unless the source is a stream, whose
    /// length shows only at its end.
    TooSmall {
        /// The size of the source in bytes.
        source: u64,
        /// The size of the destination in bytes.
        destination: u64,
    },
    /// The destination is read-only. Nothing was written.
    ReadOnly,
    /// Both sides were read again, and are not equal.
    Different {
        /// The first byte that is different, from the start, as far as was read.
        offset: u64,
    },
    /// The checkpoint is of another copy. Nothing was written.
    OtherCopy {
        /// What is not as it was.
        why: String,
    },
    /// What was asked for is not possible with these places. Nothing was written.
    Impossible(&'static str),
    /// The checkpoint could not be kept.
    Checkpoint(Arc<io::Error>),
    /// The caller ended the copy.
    Cancelled,
}

impl CopyError {
    /// What went wrong.
    #[must_use]
    pub const fn fault(&self) -> &CopyFault {
        &self.fault
    }

    /// How many bytes had been copied, or were skipped because they needed no copying.
    #[must_use]
    pub const fn done(&self) -> u64 {
        self.done
    }

    /// Which side failed, if it was one.
    #[must_use]
    pub const fn side(&self) -> Option<Side> {
        match &self.fault {
            CopyFault::Nbd { side, .. } | CopyFault::Io { side, .. } => Some(*side),
            CopyFault::TooSmall { .. } | CopyFault::ReadOnly => Some(Side::Destination),
            _ => None,
        }
    }

    /// The error of the server or of the connection, if that is what went wrong.
    #[must_use]
    pub const fn nbd(&self) -> Option<&Error> {
        match &self.fault {
            CopyFault::Nbd { cause, .. } => Some(cause),
            _ => None,
        }
    }

    /// The error of the operating system, if that is what went wrong.
    #[must_use]
    pub fn io(&self) -> Option<&io::Error> {
        match &self.fault {
            CopyFault::Io { cause, .. } | CopyFault::Checkpoint(cause) => Some(cause),
            _ => None,
        }
    }

    pub(super) fn errno(&self) -> Option<i32> {
        const ENOSPC: i32 = 28;
        const EINVAL: i32 = 22;
        const EROFS: i32 = 30;
        const ECANCELED: i32 = 125;
        const EIO: i32 = 5;
        const EISDIR: i32 = 21;
        const ESPIPE: i32 = 29;
        match &self.fault {
            CopyFault::Nbd { cause, .. } => cause.errno(),
            CopyFault::Io { cause, .. } | CopyFault::Checkpoint(cause) => raw_os_error(cause)
                .or_else(|| match cause.kind() {
                    io::ErrorKind::IsADirectory => Some(EISDIR),
                    io::ErrorKind::NotSeekable => Some(ESPIPE),
                    _ => None,
                }),
            CopyFault::TooSmall { .. } => Some(ENOSPC),
            CopyFault::ReadOnly => Some(EROFS),
            CopyFault::Different { .. } => Some(EIO),
            CopyFault::OtherCopy { .. } | CopyFault::Impossible(_) => Some(EINVAL),
            CopyFault::Cancelled => Some(ECANCELED),
        }
    }

    pub(super) fn io_kind(&self) -> io::ErrorKind {
        match &self.fault {
            CopyFault::Nbd { cause, .. } => io::Error::from(cause.clone()).kind(),
            CopyFault::Io { cause, .. } | CopyFault::Checkpoint(cause) => cause.kind(),
            CopyFault::TooSmall { .. } => io::ErrorKind::StorageFull,
            CopyFault::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
            CopyFault::Different { .. } => io::ErrorKind::InvalidData,
            CopyFault::OtherCopy { .. } | CopyFault::Impossible(_) => io::ErrorKind::InvalidInput,
            CopyFault::Cancelled => io::ErrorKind::Interrupted,
        }
    }
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)?;
        if self.done > 0 {
            write!(f, "; {} bytes were copied", self.done)?;
        }
        match self.fault {
            // It is another source or destination now.
            CopyFault::Nbd {
                cause: Error::ExportChanged { .. },
                ..
            } => Ok(()),
            CopyFault::Cancelled | CopyFault::Nbd { .. } | CopyFault::Io { .. } if self.is_kept => {
                f.write_str("; a checkpoint was kept, and `Copying::resume` goes on from there")
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for CopyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nbd { side, cause } => write!(f, "{side} of the copy: {cause}"),
            Self::Io {
                side,
                action,
                range,
                cause,
            } => {
                write!(f, "cannot {action} {side} of the copy")?;
                if let Some(Range { start, end }) = range {
                    write!(
                        f,
                        ", {} bytes at offset {start}",
                        end.saturating_sub(*start)
                    )?;
                }
                write!(f, ": {}", Reason(cause))
            }
            Self::TooSmall {
                source,
                destination,
            } => write!(
                f,
                "the destination of the copy is too small: it has {destination} bytes, and the source \
                 {source}"
            ),
            Self::ReadOnly => f.write_str(
                "the destination of the copy is read-only: let its server allow writing",
            ),
            Self::Different { offset } => {
                write!(f, "source and destination are different at offset {offset}")
            }
            Self::OtherCopy { why } => write!(
                f,
                "the checkpoint is of another copy: {why}; copy from the start, without it"
            ),
            Self::Impossible(why) => f.write_str(why),
            Self::Checkpoint(cause) => {
                write!(
                    f,
                    "cannot keep the checkpoint of the copy: {}",
                    Reason(cause)
                )
            }
            Self::Cancelled => f.write_str("the copy was cancelled"),
        }
    }
}

impl From<CopyFault> for CopyError {
    fn from(fault: CopyFault) -> Self {
        Self {
            fault,
            done: 0,
            is_kept: false,
        }
    }
}

impl From<CopyFault> for Error {
    fn from(fault: CopyFault) -> Self {
        Self::Copy(Box::new(fault.into()))
    }
}

impl Error {
    /// A copy failed after this many bytes, and the newest checkpoint was kept or not.
    pub(crate) fn copy(fault: CopyFault, done: u64, is_kept: bool) -> Self {
        Self::Copy(Box::new(CopyError {
            fault,
            done,
            is_kept,
        }))
    }

    /// The error of one side of a copy.
    pub(crate) fn of_side(self, side: Side) -> CopyFault {
        CopyFault::Nbd { side, cause: self }
    }
}
