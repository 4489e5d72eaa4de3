//! What only the driver does with a link.

use std::task::Waker;

use super::Link;
use crate::driver::output::Output;
use crate::driver::sync::atomic::Ordering;
use crate::error::Error;

/// What a connection wants of its driver.
#[derive(Debug)]
pub(in crate::driver) enum Duty {
    /// Move bytes.
    Serve,
    /// `DISC` is queued: write it, and wait for the server to close.
    Part,
    /// The same, but do not wait long: nobody does.
    Leave,
    /// Somebody has ended the connection with this error. Whoever waits was told.
    Stop(Error),
}

impl Link {
    /// The driver is running, and this is how to wake it: brings session and output up to date on
    /// each other, and says what is to be done.
    pub(in crate::driver) fn begin_poll(
        &self,
        waker: &Waker,
        output: &mut Output,
        woken: &mut Vec<Waker>,
    ) -> Duty {
        let mut guard = self.core();
        let core = &mut *guard;
        core.scheduled = false;
        match &mut core.driver {
            Some(old) => old.clone_from(waker),
            old => *old = Some(waker.clone()),
        }
        let session = &mut core.session;
        session.set_written(output.written());
        // A goodbye is queued only when nothing is left to give up.
        if std::mem::take(&mut core.dropping) && !session.is_disconnecting() {
            let keep = session.drop_unsent().saturating_sub(output.written());
            let taken = output.outbox().remaining();
            output.outbox().truncate(keep);
            session.truncate_outbox(keep.saturating_sub(taken));
        }
        let duty = if let Some(error) = session.ended().cloned() {
            session.finish();
            Duty::Stop(error)
        } else if core.abandoned {
            // P-145: allowed at any time.
            if !session.is_disconnecting() {
                session.disconnect_now();
            }
            Duty::Leave
        } else if session.try_disconnect() {
            Duty::Part
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

    /// Hands over what was queued while the last of the output was written; says whether there
    /// is any.
    pub(in crate::driver) fn take_output(&self, output: &mut Output) -> bool {
        let session = &mut self.core().session;
        let any = session.has_output();
        if any {
            session.take_outbox(output.outbox());
        }
        any
    }

    /// Whether nothing more is expected from the server, and it was told so.
    pub(in crate::driver) fn is_parting(&self) -> bool {
        let core = self.core();
        core.session.is_disconnecting() && !core.session.has_output()
    }

    /// The driver will run again soon, so nobody needs to wake it.
    pub(in crate::driver) fn mark_scheduled(&self) {
        self.core().scheduled = true;
    }

    /// Gives memory back; for a connection that is idle.
    pub(in crate::driver) fn release(&self) {
        self.core().session.release();
    }

    /// Takes note of bytes that were received.
    pub(in crate::driver) fn count_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
