//! The way to the server: the write half of the stream, and the bytes that wait to be written.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::AsyncWrite;

use crate::session::{Outbox, SLICES};
use crate::transport::WriteHalf;

/// The write half, owned by the driver alone. The driver therefore always knows how much of a
/// request has been written before it looks at the reply.
pub(super) struct Output {
    half: WriteHalf,
    /// The bytes that were taken from the session and are not written yet.
    outbox: Outbox,
    /// The number of bytes written since the handshake.
    written: u64,
    /// Whether the stream may still buffer bytes that were written to it.
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

    /// Returns the number of bytes written since the handshake.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// Returns the bytes that are not written yet.
    pub(super) const fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Writes the outbox, as far as the socket accepts it, and flushes the stream.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbox.is_empty() {
            let half = Pin::new(&mut self.half);
            let result = match self.outbox.run() {
                Some(run) => half.poll_write(cx, run),
                None => {
                    // To clear the slices for many payloads takes as long as all else for one.
                    let (mut few, mut many);
                    let slices: &mut [IoSlice<'_>] = if self.outbox.payloads() == 1 {
                        few = [IoSlice::new(&[]); 4];
                        &mut few
                    } else {
                        many = [IoSlice::new(&[]); SLICES];
                        &mut many
                    };
                    let used = self.outbox.slices(slices);
                    half.poll_write_vectored(cx, slices.get(..used).unwrap_or_default())
                }
            };
            let count = match std::task::ready!(result) {
                // K28: a signal interrupted the call.
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

    /// Shuts the write half down: no byte follows.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.half).poll_shutdown(cx)
    }

    /// Frees memory of an idle connection.
    pub(super) fn shrink(&mut self) {
        self.outbox.shrink();
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // A stream that has just panicked may panic again, which would abort the process.
        if !std::thread::panicking() {
            // P-106: with TLS this sends close_notify, also after a failure, if there is room.
            let _ = self.poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }
}
