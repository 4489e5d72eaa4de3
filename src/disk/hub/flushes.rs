//! Flushes: what they wait for, and what they promise.

use super::Hub;
use crate::error::{Error, RequestError, Result};

impl Hub {
    /// Waits until all changes have ended that were begun before this call.
    pub(in crate::disk) async fn settle(&self) {
        let mark = self.core().table.begun();
        loop {
            let settled = self.settled.notified();
            if self.core().table.is_settled(mark) {
                return;
            }
            self.hand_over(None);
            settled.await;
        }
    }

    /// Returns the mark of what is acknowledged.
    pub(in crate::disk) fn acknowledged(&self) -> u64 {
        self.core().table.acknowledged()
    }

    /// Records a flush that has succeeded on the server, and was sent at this mark.
    ///
    /// # Errors
    /// If what was acknowledged before may be lost.
    pub(in crate::disk) fn flushed(&self, mark: u64) -> Result<()> {
        let mut core = self.core();
        core.table.flushed(mark);
        let lost = core.table.take_unsure();
        if let Some(failure) = &core.failure {
            return Err(Error::DurabilityUnknown(failure.clone().into()));
        }
        match lost.is_empty() {
            true => Ok(()),
            false => Err(Error::maybe_lost(lost)),
        }
    }

    /// Records a flush of the disk's own that has succeeded: what may be lost is left to be said.
    pub(in crate::disk) fn flushed_early(&self, mark: u64) {
        self.core().table.flushed(mark);
    }

    /// Records a flush that failed on the server.
    pub(in crate::disk) fn flush_failed(&self, failure: &RequestError) {
        let mut core = self.core();
        core.failure.get_or_insert_with(|| failure.clone());
    }

    /// Forgets that a flush has failed.
    pub(in crate::disk) fn clear_flush_error(&self) {
        self.core().failure = None;
    }
}
