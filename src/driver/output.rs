//! The way to the server: the write half of the stream, and what is on its way through it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::AsyncWrite;

use crate::session::{Outbox, SLICES};
use crate::transport::WriteHalf;

/// Owned by the driver, which alone writes: a reply can never be looked at before the driver knows
/// how much of its request has been written.
pub(super) struct Output {
    half: WriteHalf,
    /// Taken from the session, and not written yet.
    outbox: Outbox,
    /// Bytes written since the handshake.
    written: u64,
    /// The stream may still hold bytes back that were written.
    unflushed: bool,
}

impl Output {
    pub(super) fn new(half: WriteHalf) -> Self {
        Self {
            half,
            outbox: Outbox::default(),
            written: 0,
            unflushed: false,
        }
    }

    /// How many bytes have been written.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// What is on its way.
    pub(super) const fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Writes the outbox, as far as the socket takes it.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbox.is_empty() {
            let half = Pin::new(&mut self.half);
            let result = match self.outbox.run() {
                Some(run) => half.poll_write(cx, run),
                None => {
                    let mut slices = [IoSlice::new(&[]); SLICES];
                    let used = self.outbox.slices(&mut slices);
                    half.poll_write_vectored(cx, slices.get(..used).unwrap_or_default())
                }
            };
            let count = match std::task::ready!(result) {
                // K28: a signal came in between.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                count => count?,
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outbox.advance(count);
            self.written = self.written.saturating_add(count as u64);
            self.unflushed = true;
        }
        if self.unflushed {
            std::task::ready!(Pin::new(&mut self.half).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Says goodbye to the server: no byte follows.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.half).poll_shutdown(cx)
    }

    /// Gives memory back; for a connection that is idle.
    pub(super) fn release(&mut self) {
        self.outbox.release();
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // A stream that has just panicked may do so again, which would end the whole process.
        if !std::thread::panicking() {
            // P-106: on TLS this says close_notify, also after a failure, if there is room for it.
            let _ = self.poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }
}
