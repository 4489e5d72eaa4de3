//! What the server has acknowledged, and what of it is durable.

use super::Answer;
use crate::error::{Error, RequestError};

/// Counts acknowledged changes, and how far flushes have made them durable.
///
/// Changes with `FUA` are durable by themselves and not counted.
#[derive(Debug, Default)]
pub struct Ledger {
    acknowledged: u64,
    /// How many of them, from the first on, a flush has covered.
    durable: u64,
    failure: Option<Failure>,
}

/// A flush that failed. The server may have dropped what it could not write, so that a later
/// flush succeeds without it: what this one should have covered stays in doubt.
#[derive(Debug)]
struct Failure {
    mark: u64,
    error: RequestError,
}

impl Ledger {
    /// The server has acknowledged a change that is not durable.
    pub const fn acknowledge(&mut self) {
        self.acknowledged = self.acknowledged.wrapping_add(1);
    }

    /// What a flush that is sent now will cover.
    pub const fn mark(&self) -> u64 {
        self.acknowledged
    }

    /// Takes the answer to a flush that covers what was acknowledged at `mark`; says what its
    /// caller is told.
    pub fn flushed(&mut self, mark: u64, result: Result<Answer, Error>) -> Result<Answer, Error> {
        match result {
            Ok(answer) => {
                self.durable = self.durable.max(mark);
                match &self.failure {
                    Some(failure) => Err(Error::DurabilityUnknown(failure.error.clone())),
                    None => Ok(answer),
                }
            }
            Err(Error::Request(error)) => {
                if mark > self.durable {
                    // The first cause stands.
                    let first = self.failure.take().map(|first| first.error);
                    let error = first.unwrap_or_else(|| error.clone());
                    self.failure = Some(Failure { mark, error });
                }
                Err(Error::Request(error))
            }
            lost => lost,
        }
    }

    /// Whether something is acknowledged and not known to be durable.
    pub const fn has_unflushed(&self) -> bool {
        self.acknowledged > self.durable || self.failure.is_some()
    }

    /// What the flushes that failed should have covered is the caller's business from now on.
    pub fn forgive(&mut self) {
        if let Some(failure) = self.failure.take() {
            self.durable = self.durable.max(failure.mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Command, Errno};

    fn failure(errno: Errno) -> Result<Answer, Error> {
        Err(Error::Request(RequestError {
            command: Command::FLUSH,
            offset: 0,
            length: 0,
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
        let mark = ledger.mark();
        ledger.acknowledge();
        assert!(ledger.flushed(mark, Ok(Answer::Done)).is_ok());
        assert!(ledger.has_unflushed());
        assert!(ledger.flushed(ledger.mark(), Ok(Answer::Done)).is_ok());
        assert!(!ledger.has_unflushed());
        // An answer that comes late takes nothing back.
        assert!(ledger.flushed(mark, Ok(Answer::Done)).is_ok());
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
