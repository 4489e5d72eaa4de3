//! The changes that the server has acknowledged, and those that are durable.

use super::Answer;
use crate::error::{Error, RequestError};

/// Counts the acknowledged changes, and those that a flush has made durable.
///
/// Changes with `FUA` are durable without a flush, and are not counted.
#[derive(Debug, Default)]
pub struct Ledger {
    acknowledged: u64,
    /// The number of changes, from the first on, that a flush has covered.
    durable: u64,
    /// The number of changes, from the first on, for which failures count no longer.
    forgiven: u64,
    failure: Option<Failure>,
}

/// The changes that a flush covers, by their numbers.
#[derive(Clone, Copy, Debug)]
pub struct Covered {
    start: u64,
    end: u64,
}

/// A failed flush. The server may have dropped what it could not write, and a later flush succeeds
/// without it: the changes that this flush should have covered stay in doubt.
#[derive(Debug)]
struct Failure {
    covered: u64,
    error: RequestError,
}

impl Ledger {
    /// Counts a change that the server has acknowledged and that is not durable.
    pub const fn acknowledge(&mut self) {
        self.acknowledged = self.acknowledged.wrapping_add(1);
    }

    /// Returns the changes that a flush covers which is sent now.
    pub const fn covered(&self) -> Covered {
        Covered {
            start: self.durable,
            end: self.acknowledged,
        }
    }

    /// Records the answer to a flush that was sent to cover these changes. Returns the answer for the
    /// caller, which is an error if an earlier flush failed.
    pub fn flushed(
        &mut self,
        Covered { start, end }: Covered,
        result: Result<Answer, Error>,
    ) -> Result<Answer, Error> {
        match result {
            Ok(answer) => {
                self.durable = self.durable.max(end);
                match &self.failure {
                    Some(failure) => Err(Error::DurabilityUnknown(failure.error.clone().into())),
                    None => Ok(answer),
                }
            }
            Err(Error::Request(error)) => {
                // Another flush may have succeeded meanwhile: that is no more to be trusted than one that
                // succeeds later.
                if end > start.max(self.forgiven) {
                    // The first cause is kept.
                    let first = self.failure.take().map(|first| first.error);
                    let error = first.unwrap_or_else(|| error.clone());
                    self.failure = Some(Failure {
                        covered: end,
                        error,
                    });
                }
                Err(Error::Request(error))
            }
            lost => lost,
        }
    }

    /// Returns whether acknowledged changes may not be durable.
    pub const fn has_unflushed(&self) -> bool {
        self.acknowledged > self.durable || self.failure.is_some()
    }

    /// Returns the flush that has failed first, unless that is forgiven.
    pub const fn failure(&self) -> Option<&RequestError> {
        match &self.failure {
            Some(failure) => Some(&failure.error),
            None => None,
        }
    }

    /// Treats everything that failed flushes should have covered as handled by the caller.
    pub fn forgive(&mut self) {
        if let Some(failure) = self.failure.take() {
            self.durable = self.durable.max(failure.covered);
            self.forgiven = failure.covered;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FailedRequest;
    use crate::wire::{Command, Errno};

    fn failure(errno: Errno) -> Result<Answer, Error> {
        Err(Error::Request(RequestError {
            site: None,
            request: FailedRequest {
                command: Command::FLUSH,
                offset: 0,
                length: 0,
            },
            errno,
            message: Default::default(),
            failed_at: None,
        }))
    }

    const fn from(start: u64, end: u64) -> Covered {
        Covered { start, end }
    }

    #[test]
    fn a_flush_covers_what_was_acknowledged_when_it_was_sent() {
        let mut ledger = Ledger::default();
        assert!(!ledger.has_unflushed());
        ledger.acknowledge();
        let covered = ledger.covered();
        ledger.acknowledge();
        assert!(ledger.flushed(covered, Ok(Answer::Done)).is_ok());
        assert!(ledger.has_unflushed());
        assert!(ledger.flushed(ledger.covered(), Ok(Answer::Done)).is_ok());
        assert!(!ledger.has_unflushed());
        // An answer that comes late takes nothing back.
        assert!(ledger.flushed(covered, Ok(Answer::Done)).is_ok());
        assert!(!ledger.has_unflushed());
    }

    #[test]
    fn after_a_failure_flushes_fail_until_it_is_forgiven() {
        let mut ledger = Ledger::default();
        ledger.acknowledge();
        assert!(ledger.flushed(from(0, 1), failure(Errno::EIO)).is_err());
        ledger.acknowledge();
        for _ in 0..3 {
            let late = ledger.flushed(from(0, 2), Ok(Answer::Done));
            assert!(
                matches!(late, Err(Error::DurabilityUnknown(e)) if e.errno() == Errno::EIO),
                "the first cause stands"
            );
            assert!(ledger.flushed(from(0, 2), failure(Errno::ENOSPC)).is_err());
            assert!(ledger.has_unflushed());
        }
        ledger.forgive();
        assert!(!ledger.has_unflushed());
        assert!(ledger.flushed(from(0, 2), Ok(Answer::Done)).is_ok());
    }

    #[test]
    fn forgiving_says_nothing_of_later_changes() {
        let mut ledger = Ledger::default();
        ledger.acknowledge();
        assert!(ledger.flushed(from(0, 1), failure(Errno::EIO)).is_err());
        ledger.acknowledge();
        ledger.forgive();
        assert!(ledger.has_unflushed());
    }

    #[test]
    fn a_failed_flush_of_nothing_leaves_no_doubt() {
        let mut ledger = Ledger::default();
        ledger.acknowledge();
        assert!(ledger.flushed(from(0, 1), Ok(Answer::Done)).is_ok());
        assert!(ledger.flushed(from(1, 1), failure(Errno::EIO)).is_err());
        assert!(!ledger.has_unflushed());
        assert!(ledger.flushed(from(1, 1), Ok(Answer::Done)).is_ok());
    }

    #[test]
    fn a_flush_that_fails_leaves_doubt_although_another_one_succeeds_meanwhile() {
        let mut ledger = Ledger::default();
        ledger.acknowledge();
        let covered = ledger.covered();
        assert!(ledger.flushed(covered, Ok(Answer::Done)).is_ok());
        assert!(!ledger.has_unflushed());
        assert!(ledger.flushed(covered, failure(Errno::EIO)).is_err());
        assert!(ledger.has_unflushed());
        let later = ledger.flushed(ledger.covered(), Ok(Answer::Done));
        assert!(matches!(later, Err(Error::DurabilityUnknown(_))));
        ledger.forgive();
        assert!(ledger.flushed(covered, failure(Errno::EIO)).is_err());
        assert!(!ledger.has_unflushed(), "that was forgiven");
    }
}
