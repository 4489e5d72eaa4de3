//! The way to the server.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::AsyncWrite;

use super::Link;
use crate::session::{Outbox, SLICES};
use crate::sync::atomic::Ordering;
use crate::transport::WriteHalf;

/// The write half, and what is on its way through it. Never held across an await: every write
/// is non-blocking, and what it leaves over stays here.
pub(super) struct Writer {
    pub(super) half: Option<WriteHalf>,
    pub(super) outbox: Outbox,
    /// The stream may still hold bytes back that were written.
    pub(super) unflushed: bool,
}

impl Link {
    /// Writes what is queued, as far as the socket takes it.
    pub(in crate::driver) fn poll_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut writer = self.writer();
        loop {
            if writer.outbox.is_empty() {
                let mut core = self.core();
                if core.session.has_output() {
                    core.session.take_outbox(&mut writer.outbox);
                } else if !writer.unflushed {
                    return Poll::Ready(Ok(()));
                }
            }
            std::task::ready!(self.flush(&mut writer, cx))?;
        }
    }

    /// How many bytes have been written.
    pub(in crate::driver) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Says goodbye to the server: no byte follows.
    pub(in crate::driver) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.writer().half {
            Some(half) => Pin::new(half).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Drops the write half.
    pub(in crate::driver) fn shut(&self) {
        let Some(mut half) = self.writer().half.take() else {
            return;
        };
        // A stream that has just panicked may do so again, which would end the whole process.
        if !std::thread::panicking() {
            // P-106: on TLS this says close_notify, also after a failure, if there is room for it.
            let _ = Pin::new(&mut half).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }

    pub(super) fn flush(&self, writer: &mut Writer, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(half) = &mut writer.half else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        while !writer.outbox.is_empty() {
            let result = match writer.outbox.run() {
                Some(run) => Pin::new(&mut *half).poll_write(cx, run),
                None => {
                    let mut slices = [IoSlice::new(&[]); SLICES];
                    let used = writer.outbox.slices(&mut slices);
                    let slices = slices.get(..used).unwrap_or_default();
                    Pin::new(&mut *half).poll_write_vectored(cx, slices)
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
            writer.outbox.advance(count);
            writer.unflushed = true;
            self.written.fetch_add(count as u64, Ordering::SeqCst);
        }
        std::task::ready!(Pin::new(half).poll_flush(cx))?;
        writer.unflushed = false;
        Poll::Ready(Ok(()))
    }
}
