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
    failure: Option<Failure>,
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

    /// Returns the number of acknowledged changes: a flush that is sent now covers them.
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Records the answer to a flush that covers the first `covered` changes. Returns the answer for
    /// the caller, which is an error if an earlier flush failed.
    pub fn flushed(
        &mut self,
        covered: u64,
        result: Result<Answer, Error>,
    ) -> Result<Answer, Error> {
        match result {
            Ok(answer) => {
                self.durable = self.durable.max(covered);
                match &self.failure {
                    Some(failure) => Err(Error::DurabilityUnknown(failure.error.clone().into())),
                    None => Ok(answer),
                }
            }
            Err(Error::Request(error)) => {
                if covered > self.durable {
                    // The first cause is kept.
                    let first = self.failure.take().map(|first| first.error);
                    let error = first.unwrap_or_else(|| error.clone());
                    self.failure = Some(Failure { covered, error });
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

    #[test]
    fn a_flush_covers_what_was_acknowledged_when_it_was_sent() {
        let mut ledger = Ledger::default();
        assert!(!ledger.has_unflushed());
        ledger.acknowledge();
        let covered = ledger.acknowledged();
        ledger.acknowledge();
        assert!(ledger.flushed(covered, Ok(Answer::Done)).is_ok());
        assert!(ledger.has_unflushed());
        assert!(
            ledger
                .flushed(ledger.acknowledged(), Ok(Answer::Done))
                .is_ok()
        );
        assert!(!ledger.has_unflushed());
        // An answer that comes late takes nothing back.
        assert!(ledger.flushed(covered, Ok(Answer::Done)).is_ok());
        assert!(!ledger.has_unflushed());
    }

    #[test]
    fn after_a_failure_flushes_fail_until_it_is_forgiven() {
        let mut ledger = Ledger::default();
        ledger.acknowledge();
        assert!(ledger.flushed(1, failure(Errno::EIO)).is_err());
        ledger.acknowledge();
        for _ in 0..3 {
            let late = ledger.flushed(2, Ok(Answer::Done));
            assert!(
                matches!(late, Err(Error::DurabilityUnknown(e)) if e.errno() == Errno::EIO),
                "the first cause stands"
            );
            assert!(ledger.flushed(2, failure(Errno::ENOSPC)).is_err());
            assert!(ledger.has_unflushed());
        }
        ledger.forgive();
        assert!(!ledger.has_unflushed());
        assert!(ledger.flushed(2, Ok(Answer::Done)).is_ok());
    }

    #[test]
    fn forgiving_says_nothing_of_later_changes() {
        let mut ledger = Ledger::default();
        ledger.acknowledge();
        assert!(ledger.flushed(1, failure(Errno::EIO)).is_err());
        ledger.acknowledge();
        ledger.forgive();
        assert!(ledger.has_unflushed());
    }

    #[test]
    fn a_failed_flush_of_nothing_leaves_no_doubt() {
        let mut ledger = Ledger::default();
        ledger.acknowledge();
        assert!(ledger.flushed(1, Ok(Answer::Done)).is_ok());
        assert!(ledger.flushed(1, failure(Errno::EIO)).is_err());
        assert!(!ledger.has_unflushed());
        assert!(ledger.flushed(1, Ok(Answer::Done)).is_ok());
    }
}
