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
    /// Whether a write that fails may have sent bytes, as one to TLS may: it sends record by record.
    is_encrypted: bool,
    /// The number of bytes that were offered to the stream when a write failed and may have sent some.
    offered: u64,
}

impl Output {
    pub(super) fn new(half: WriteHalf, is_encrypted: bool) -> Self {
        Self {
            half,
            outbox: Outbox::default(),
            written: 0,
            unflushed: false,
            is_encrypted,
            offered: 0,
        }
    }

    /// Returns the number of bytes written since the handshake, or perhaps written.
    pub(super) fn written(&self) -> u64 {
        self.written.max(self.offered)
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
                Err(error) => {
                    if self.is_encrypted {
                        self.offered = self.written.saturating_add(self.outbox.remaining());
                    }
                    return Poll::Ready(Err(error));
                }
                Ok(count) => count,
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::codec::ReplyCodec;
    use crate::wire::request::RequestHead;
    use crate::wire::{Command, CommandFlags, ReplyStyle};

    /// Fails each write.
    struct Broken;

    impl AsyncWrite for Broken {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_write_to_tls_that_fails_may_have_sent_all() {
        for is_encrypted in [false, true] {
            let mut output = Output::new(Box::new(Broken), is_encrypted);
            let head = RequestHead {
                command: Command::WRITE,
                flags: CommandFlags::empty(),
                cookie: 1,
                offset: 0,
                length: 4096,
            };
            let payload = Bytes::from(vec![0; 4096]);
            let codec = ReplyCodec::new(ReplyStyle::Simple);
            let length = output.outbox().push(codec, &head, payload);
            for _ in 0..2 {
                let polled = output.poll_write(&mut Context::from_waker(Waker::noop()));
                assert!(matches!(polled, Poll::Ready(Err(_))));
                assert_eq!(output.written(), if is_encrypted { length } else { 0 });
            }
        }
    }
}
