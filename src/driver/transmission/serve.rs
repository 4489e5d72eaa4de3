//! The methods of `Transmission` that only the driver calls.

use std::task::Waker;
use std::time::Duration;

use super::Transmission;
use crate::driver::output::Output;
use crate::driver::sync::atomic::Ordering;
use crate::error::Error;

/// What the driver is to do.
#[derive(Debug)]
pub(in crate::driver) enum Duty {
    /// Move bytes.
    Serve,
    /// Move bytes, and wait for callers whose requests have messages to come: nothing else holds
    /// `DISC` back.
    Await,
    /// `DISC` is queued: write it, and wait for the server to close.
    Part,
    /// `DISC` is queued, and requests are in flight: write it, take their answers, and wait so long
    /// for the server to close.
    Drain(Duration),
    /// `DISC` is queued, and the last handle is gone: write it, and do not wait long.
    Leave,
    /// The session has ended with this error, and every request was answered.
    Stop(Error),
}

impl Transmission {
    /// Begins a poll of the driver: keeps its waker, tells the session what was written, moves
    /// queued bytes into `output`, and returns what is to be done.
    pub(in crate::driver) fn begin_poll(
        &self,
        waker: &Waker,
        output: &mut Output,
        woken: &mut Vec<Waker>,
    ) -> Duty {
        let mut guard = self.core();
        let core = &mut *guard;
        core.scheduled = false;
        core.awaits_caller = false;
        match &mut core.driver {
            Some(old) => old.clone_from(waker),
            old => *old = Some(waker.clone()),
        }
        let session = &mut core.session;
        session.set_written(output.written());
        // Once DISC is queued, there is no unsent request to fail.
        if std::mem::take(&mut core.discarding) && !session.is_disconnecting() {
            session.discard_unsent(output.outbox());
        }
        let duty = if let Some(error) = session.ended().cloned() {
            session.finish();
            Duty::Stop(error)
        } else if core.detached {
            // P-145: DISC may be sent at any time.
            if !session.is_disconnecting() {
                session.disconnect_now();
            }
            Duty::Leave
        } else if let Some(patience) = core.leaving {
            // P-145: DISC may be sent at any time.
            if !session.is_disconnecting() {
                session.disconnect_now();
            }
            Duty::Drain(patience)
        } else if session.try_disconnect() {
            Duty::Part
        } else if session.awaits_callers() {
            Duty::Await
        } else {
            Duty::Serve
        };
        if output.outbox().is_empty() {
            session.take_outbox(output.outbox());
        }
        session.take_woken(woken);
        self.publish(session);
        duty
    }

    /// Moves the bytes that were queued while earlier output was written into `output`. Returns
    /// whether there were any.
    pub(in crate::driver) fn take_output(&self, output: &mut Output) -> bool {
        let session = &mut self.core().session;
        let any = session.has_output();
        if any {
            session.take_outbox(output.outbox());
        }
        any
    }

    /// Returns whether `DISC` was queued and taken to be written.
    pub(in crate::driver) fn is_parting(&self) -> bool {
        let core = self.core();
        core.session.is_disconnecting() && !core.session.has_output()
    }

    /// Records that the server has closed the connection after it had read `DISC`.
    pub(in crate::driver) fn set_drained(&self) {
        let mut core = self.core();
        core.drained = core.leaving.is_some();
    }

    /// Marks the driver as about to run, so that callers do not wake it.
    pub(in crate::driver) fn mark_scheduled(&self) {
        self.core().scheduled = true;
    }

    /// Has the caller that is woken next wake the driver when it has run.
    pub(in crate::driver) fn await_caller(&self) {
        self.core().awaits_caller = true;
    }

    /// Frees memory of an idle connection.
    pub(in crate::driver) fn shrink(&self) {
        self.core().session.shrink();
    }

    /// Records how many bytes were written since the handshake.
    pub(in crate::driver) fn count_sent(&self, written: u64) {
        self.sent.store(written, Ordering::Relaxed);
    }

    /// Counts bytes that were received.
    pub(in crate::driver) fn count_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
