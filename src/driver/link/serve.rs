//! What only the driver does with a link.

use std::task::Waker;

use tokio::time::Instant;

use super::Link;
use crate::error::Error;
use crate::session::Session;
use crate::sync::atomic::Ordering;

/// What a connection wants of its driver.
#[derive(Debug)]
pub(in crate::driver) enum Duty {
    /// Move bytes.
    Serve,
    /// `DISC` is queued: write it, and wait for the server to close.
    Part,
    /// The same, but do not wait long: nobody does.
    Leave,
    /// Somebody has ended the connection with this error.
    Stop(Error),
}

impl Link {
    /// The driver is running, and this is how to wake it. Says what is to be done.
    pub(in crate::driver) fn begin_poll(&self, waker: &Waker) -> Duty {
        let mut core = self.core();
        core.scheduled = false;
        match &mut core.driver {
            Some(old) => old.clone_from(waker),
            old => *old = Some(waker.clone()),
        }
        if let Some(error) = core.session.ended() {
            return Duty::Stop(error.clone());
        }
        if core.abandoned {
            // P-145: allowed at any time.
            if !core.session.is_disconnecting() {
                core.session.disconnect_now();
            }
            return Duty::Leave;
        }
        if core.session.try_disconnect() {
            Duty::Part
        } else {
            Duty::Serve
        }
    }

    /// Since when the server has owed replies without a break. If it owes none, the
    /// driver will be woken by the next request.
    pub(in crate::driver) fn owing(&self) -> Option<Instant> {
        let mut core = self.core();
        core.unwatched = core.session.in_flight() == 0;
        core.owing.filter(|_| !core.unwatched)
    }

    /// The driver will run again soon, so nobody needs to wake it.
    pub(in crate::driver) fn mark_scheduled(&self) {
        self.core().scheduled = true;
    }

    /// Gives memory back; for a connection that is idle.
    pub(in crate::driver) fn release(&self) {
        self.writer().outbox.release();
        self.core().session.release();
    }

    /// How many bytes of data the server owes.
    pub(in crate::driver) fn expected(&self) -> u64 {
        self.expected.load(Ordering::Relaxed)
    }

    /// Takes note of bytes that were received.
    pub(in crate::driver) fn count_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Brings the session up to date on what has been written.
    pub(in crate::driver) fn settle_written(&self, session: &mut Session) {
        session.set_written(self.written.load(Ordering::SeqCst));
        let early = session.has_early();
        if early || self.early.load(Ordering::Relaxed) {
            self.early.store(early, Ordering::SeqCst);
            // Whoever wrote meanwhile may have looked at `early` before it was set.
            session.set_written(self.written.load(Ordering::SeqCst));
        }
    }

    /// Whether somebody waits for bytes to be written, as of the last time the session was brought
    /// up to date.
    pub(in crate::driver) fn has_early(&self) -> bool {
        self.early.load(Ordering::SeqCst)
    }
}
