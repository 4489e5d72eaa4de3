//! The way from the server: the read half of the stream, and the bytes that were read and not yet
//! taken in by the session.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, BytesMut};
use tokio_util::io::poll_read_buf;

use crate::session::{Bulk, Intake, Session};
use crate::transport::ReadHalf;
use crate::wire::ProtocolError;

/// The bounds of one read. Between them it takes half of the data that the server owes, so that
/// client and server work in parallel.
const MIN_INPUT: usize = 16 << 10;
const MAX_INPUT: usize = 128 << 10;
/// The size of one read while bulk data is expected: the header and little of the data. The rest is
/// left in the socket until its buffer is known.
const STAGE: usize = 4 << 10;

/// The read half, owned by the driver alone.
pub(super) struct Input {
    half: ReadHalf,
    buffer: BytesMut,
    /// The number of bytes that the next message needs.
    needed: usize,
    bulk: Option<Bulk>,
    /// Whether complete messages may be left in the buffer.
    left: bool,
    /// Whether the last data was bulk data, so that the next probably is, too.
    large: bool,
}

impl Input {
    /// Creates the input; `buffer` holds what was read ahead during the handshake.
    pub(super) const fn new(half: ReadHalf, buffer: BytesMut) -> Self {
        Self {
            half,
            buffer,
            needed: 0,
            bulk: None,
            left: false,
            large: false,
        }
    }

    /// Returns how many bytes were read and not taken in, without bulk data.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Returns whether everything that was read has been taken in, up to the end of a message.
    pub(super) fn is_empty(&self) -> bool {
        self.bulk.is_none() && self.buffer.is_empty()
    }

    /// Returns whether complete messages may be left, which are taken in without another read.
    pub(super) const fn has_left(&self) -> bool {
        self.left
    }

    /// Returns once whether complete messages may be left.
    pub(super) const fn take_left(&mut self) -> bool {
        std::mem::replace(&mut self.left, false)
    }

    /// Drops what was read.
    pub(super) fn clear(&mut self) {
        self.buffer.clear();
        self.bulk = None;
    }

    /// Frees memory of an idle connection.
    pub(super) fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// Reads once: into the buffer of a read, if its data is being received, or else into the own
    /// buffer. The server owes `expected` bytes of data.
    pub(super) fn poll_fill(
        &mut self,
        expected: u64,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let window = self.window(expected);
        let half = Pin::new(&mut self.half);
        if let Some(bulk) = &mut self.bulk {
            let left = bulk.left();
            let mut part = bulk.buffer().limit(left);
            let count = std::task::ready!(poll_read_buf(half, cx, &mut part))?;
            bulk.filled(count);
            return Poll::Ready(Ok(count));
        }
        // Bytes left in the buffer are part of the window, so that the buffer does not outgrow it.
        let want = window
            .max(self.needed)
            .saturating_sub(self.buffer.len())
            .max(1);
        make_room(&mut self.buffer, want);
        poll_read_buf(half, cx, &mut (&mut self.buffer).limit(want))
    }

    /// Returns how much one read may take, in bytes.
    fn window(&self, expected: u64) -> usize {
        if self.large {
            return STAGE;
        }
        let half = usize::try_from(expected / 2).unwrap_or(usize::MAX);
        half.clamp(MIN_INPUT, MAX_INPUT)
    }

    /// Hands complete messages to the session, as many as it takes at once. Returns whether the rest
    /// is the beginning of a message, as opposed to bulk data.
    ///
    /// # Errors
    /// If the server broke the protocol.
    pub(super) fn take_in(&mut self, session: &mut Session) -> Result<bool, ProtocolError> {
        loop {
            if let Some(bulk) = self.bulk.take() {
                if bulk.left() > 0 {
                    self.bulk = Some(bulk);
                    return Ok(false);
                }
                session.received(bulk)?;
                if self.buffer.is_empty() {
                    self.needed = 0;
                    return Ok(false);
                }
            }
            match session.receive(&mut self.buffer)? {
                Intake::Bytes(needed) => {
                    self.needed = needed;
                    return Ok(true);
                }
                Intake::Bulk(bulk) => {
                    self.large = true;
                    self.bulk = Some(bulk);
                }
                Intake::Caller => {
                    self.left = true;
                    return Ok(true);
                }
            }
        }
    }

    /// Expects small data next, since small data has come.
    pub(super) const fn expect_small(&mut self) {
        self.large = false;
    }
}

/// Reserves exactly `want` bytes. `BytesMut::reserve` would double the capacity, consumed bytes
/// included.
fn make_room(input: &mut BytesMut, want: usize) {
    if !input.try_reclaim(want) {
        let mut larger = BytesMut::with_capacity(input.len().saturating_add(want));
        larger.extend_from_slice(input);
        *input = larger;
    }
}
