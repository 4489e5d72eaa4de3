//! Flushes: what they wait for, and what they promise.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::Hub;
use crate::disk::carry::is_shutdown;
use crate::error::{Error, RequestError, Result};
use crate::spans::Spans;

/// The flushes in flight, by their numbers, in the order in which they were sent.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    begun: u64,
    in_flight: BTreeSet<u64>,
}

/// A flush that was sent, until it is answered, or its link is lost or falls silent.
pub(in crate::disk) struct InFlight {
    hub: Arc<Hub>,
    number: u64,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.hub.core().flushes.in_flight.remove(&self.number);
        self.hub.flush_ended.notify_waiters();
    }
}

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

    /// Counts a flush that is about to be sent.
    pub(in crate::disk) fn begin_flush(self: &Arc<Self>) -> InFlight {
        let flushes = &mut self.core().flushes;
        flushes.begun += 1;
        flushes.in_flight.insert(flushes.begun);
        InFlight {
            hub: self.clone(),
            number: flushes.begun,
        }
    }

    /// Records the answer to a flush, if it has failed.
    pub(in crate::disk) fn note_flush<T>(&self, result: &Result<T>) {
        // A server that is shutting down has not tried it.
        if let Err(error @ Error::Request(failure)) = result {
            if !is_shutdown(error) {
                self.flush_failed(failure);
            }
        }
    }

    /// Waits for all flushes that were sent before this call. A server tells only once of what it could
    /// not make durable, perhaps to another of them.
    pub(in crate::disk) async fn other_flushes(&self) {
        let begun = self.core().flushes.begun;
        loop {
            let flushed = self.flush_ended.notified();
            let first = self.core().flushes.in_flight.first().copied();
            if first.is_none_or(|first| first > begun) {
                return;
            }
            flushed.await;
        }
    }

    /// Returns the mark of what is acknowledged.
    pub(in crate::disk) fn acknowledged(&self) -> u64 {
        self.core().table.acknowledged()
    }

    /// Records a flush that has succeeded on the server, and was sent at this mark.
    pub(in crate::disk) fn flushed(&self, mark: u64) {
        self.core().table.flushed(mark);
    }

    /// Says whether a flush that has succeeded keeps what it promises to its caller. What may be lost is
    /// said once, so only to a caller who listens.
    ///
    /// # Errors
    /// If a flush has failed before on any link, or what was acknowledged may be lost.
    pub(in crate::disk) fn promise(&self) -> Result<()> {
        self.no_failure()?;
        let lost = self.core().table.take_unsure();
        match lost.is_empty() {
            true => Ok(()),
            false => Err(Error::maybe_lost(lost)),
        }
    }

    /// Looks for a flush that has failed, and was not forgiven.
    ///
    /// # Errors
    /// If there is one, on any link, whoever has asked for it.
    pub(in crate::disk) fn no_failure(&self) -> Result<()> {
        let links = self.core().all_links();
        for link in links {
            if let Some(failure) = link.connection.flush_failure() {
                self.flush_failed(&failure);
            }
        }
        match &self.core().failure {
            Some(failure) => Err(Error::DurabilityUnknown(failure.clone().into())),
            None => Ok(()),
        }
    }

    /// Records a flush that failed on the server.
    pub(in crate::disk) fn flush_failed(&self, failure: &RequestError) {
        let mut core = self.core();
        core.failure.get_or_insert_with(|| failure.clone());
    }

    /// Forgets that a flush has failed.
    pub(in crate::disk) fn clear_flush_error(&self) {
        let links = self.core().all_links();
        for link in links {
            link.connection.clear_flush_error();
        }
        self.core().failure = None;
    }

    /// Returns what would be lost for good if the disk ended now: what may be lost already and no flush
    /// has said, or, if there is no link, what was not flushed.
    pub(in crate::disk) fn lost_for_good(&self) -> Vec<Range<u64>> {
        let core = self.core();
        let unflushed = core.table.unflushed();
        let mut lost: Spans<()> = Spans::default();
        unflushed.unsure().for_each(|range| lost.add(range));
        if core.links.is_empty() {
            unflushed.ranges().for_each(|range| lost.add(range));
        }
        lost.take().map(|(range, ())| range).collect()
    }
}
