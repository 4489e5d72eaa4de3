//! What can happen to changes when connections come and go, or flushes fail.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::{Error, FailedRequest, RequestError, Site};
use crate::wire::{Command, Errno};

/// Changes that the server has acknowledged and that may be lost nevertheless: a flush succeeded, but
/// an earlier one has failed, or the connection was lost before a flush.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MaybeLost {
    pub(super) failure: Option<RequestError>,
    pub(super) ranges: Vec<Range<u64>>,
    /// The server, if no flush has failed that names it.
    pub(super) site: Option<Arc<Site>>,
}

impl MaybeLost {
    /// The flush that failed first, if that is the reason.
    #[must_use]
    pub const fn failure(&self) -> Option<&RequestError> {
        self.failure.as_ref()
    }

    /// What may be lost, in bytes from the start of the export and in order, where it is known: a
    /// `Disk` knows it after a lost connection.
    #[must_use]
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// The error number of the flush that failed, and `EIO` if none did.
    #[must_use]
    pub fn errno(&self) -> Errno {
        self.failure
            .as_ref()
            .map_or(Errno::EIO, RequestError::errno)
    }

    pub(super) const fn site(&self) -> Option<&Arc<Site>> {
        match &self.failure {
            Some(failure) => failure.site.as_ref(),
            None => self.site.as_ref(),
        }
    }

    pub(super) const fn site_mut(&mut self) -> &mut Option<Arc<Site>> {
        match &mut self.failure {
            Some(failure) => &mut failure.site,
            None => &mut self.site,
        }
    }
}

impl From<RequestError> for MaybeLost {
    fn from(failure: RequestError) -> Self {
        Self {
            failure: Some(failure),
            ranges: Vec::new(),
            site: None,
        }
    }
}

impl fmt::Display for MaybeLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(failure) = &self.failure {
            return write!(
                f,
                "what was written before an earlier flush may be lost: {failure}"
            );
        }
        f.write_str("what was written before the connection was lost may be lost")?;
        let Some((first, others)) = self.ranges.split_first() else {
            return Ok(());
        };
        write!(
            f,
            ": {} bytes at offset {}",
            first.end - first.start,
            first.start
        )?;
        match others.len() {
            0 => {}
            1 => f.write_str(" and another range")?,
            more => write!(f, " and {more} other ranges")?,
        }
        f.write_str("; write it again, and flush")
    }
}

/// A change that was sent and not answered when its connection was lost, or its deadline passed. The server may have carried
/// it out, and may yet do so.
#[derive(Clone, Debug)]
pub struct LostChange {
    pub(super) command: Command,
    pub(super) range: Range<u64>,
    pub(super) generation: Option<u64>,
    pub(super) cause: Arc<Error>,
    /// Whether it is known what it writes: that can be written again.
    pub(super) is_repeatable: bool,
}

impl LostChange {
    /// The command.
    #[must_use]
    pub const fn command(&self) -> Command {
        self.command
    }

    /// What it was to change, in bytes from the start of the export.
    #[must_use]
    pub const fn range(&self) -> &Range<u64> {
        &self.range
    }

    /// The number of the connection that was lost, counted from 1; `None` if only the deadline of the
    /// request has passed.
    #[must_use]
    pub const fn generation(&self) -> Option<u64> {
        self.generation
    }

    pub(super) fn request(&self) -> FailedRequest {
        FailedRequest {
            command: self.command,
            offset: self.range.start,
            length: self.range.end - self.range.start,
        }
    }

    /// Whether the same bytes can be written again at once. Otherwise nothing can be written there until
    /// a [fence](crate::Fence), or [`Disk::assume_fenced`](crate::Disk::assume_fenced), says that this
    /// change is over: it is not known what it leaves, because it was a trim, or changed a part of a
    /// block.
    #[must_use]
    pub const fn is_repeatable(&self) -> bool {
        self.is_repeatable
    }

    /// Why the connection was lost.
    #[must_use]
    pub fn cause(&self) -> &Error {
        &self.cause
    }
}

impl fmt::Display for LostChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            generation, cause, ..
        } = self;
        let request = self.request();
        write!(f, "whether {request} was carried out is unknown")?;
        if let Some(generation) = generation {
            write!(f, ", connection {generation} was lost")?;
        }
        let cause = Error::clone(cause).without(request);
        write!(f, ": {cause}; ")?;
        f.write_str(match self.is_repeatable {
            true => "writing the same bytes again is safe",
            false => {
                "nothing can be written there until a fence (`DiskBuilder::fence`) or \
                 `Disk::assume_fenced` ends that"
            }
        })
    }
}

impl Error {
    /// A flush that succeeded although what was acknowledged before may be lost.
    pub(crate) const fn maybe_lost(ranges: Vec<Range<u64>>) -> Self {
        Self::DurabilityUnknown(MaybeLost {
            failure: None,
            ranges,
            site: None,
        })
    }

    /// A change that was sent and not answered when its connection was lost, or its deadline passed.
    pub(crate) fn lost_change(
        command: Command,
        range: Range<u64>,
        generation: Option<u64>,
        cause: Self,
    ) -> Self {
        Self::OutcomeUnknown(Box::new(LostChange {
            command,
            range,
            generation,
            cause: Arc::new(cause),
            // As long as no connection is lost, others wait for the answer.
            is_repeatable: generation.is_none() || command != Command::TRIM,
        }))
    }

    /// The same of a change of a part of a block, with the rest of which it writes what is not known.
    pub(crate) fn of_a_part(mut self) -> Self {
        if let Self::OutcomeUnknown(lost) = &mut self {
            lost.is_repeatable = false;
        }
        self
    }
}
