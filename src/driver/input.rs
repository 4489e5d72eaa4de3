//! The way from the server: the read half of the stream, and what was read and not taken in yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, BytesMut};
use tokio_util::io::poll_read_buf;

use crate::session::{Bulk, Intake, Session};
use crate::transport::ReadHalf;
use crate::wire::ProtocolError;

/// What one read can take at least, and at most. In between it is half of the data that the server
/// owes: so while one half is worked on here, the other is worked on there.
const MIN_INPUT: usize = 16 << 10;
const MAX_INPUT: usize = 128 << 10;
/// What one read takes while bulk data is expected: its head, and little of the data, which is
/// better left in the socket until its place is known.
const STAGE: usize = 4 << 10;

/// Owned by the driver, which alone reads.
pub(super) struct Input {
    half: ReadHalf,
    buffer: BytesMut,
    /// How many bytes the next message needs.
    needed: usize,
    bulk: Option<Bulk>,
    /// The last data was bulk data: so will the next be, probably.
    large: bool,
}

impl Input {
    /// The way from the server; `buffer` holds what was read ahead during the handshake.
    pub(super) const fn new(half: ReadHalf, buffer: BytesMut) -> Self {
        Self {
            half,
            buffer,
            needed: 0,
            bulk: None,
            large: false,
        }
    }

    /// How many bytes were read and not taken in, bulk data aside.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether everything that was read has been taken in, to the end of a message.
    pub(super) fn is_empty(&self) -> bool {
        self.bulk.is_none() && self.buffer.is_empty()
    }

    /// Drops what was read: it answers nothing.
    pub(super) fn clear(&mut self) {
        self.buffer.clear();
        self.bulk = None;
    }

    /// Gives memory back; for a connection that is idle.
    pub(super) fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// Reads once: into the place of bulk data, or into the buffer. The server owes so many bytes
    /// of data.
    pub(super) fn poll_fill(
        &mut self,
        expected: u64,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let window = self.window(expected);
        let half = Pin::new(&mut self.half);
        if let Some(bulk) = &mut self.bulk {
            let left = bulk.left();
            let mut place = bulk.buffer().limit(left);
            let count = std::task::ready!(poll_read_buf(half, cx, &mut place))?;
            bulk.filled(count);
            return Poll::Ready(Ok(count));
        }
        // What is left over is part of the window, so that the buffer grows to that and no more.
        let want = window
            .max(self.needed)
            .saturating_sub(self.buffer.len())
            .max(1);
        make_room(&mut self.buffer, want);
        poll_read_buf(half, cx, &mut (&mut self.buffer).limit(want))
    }

    /// How much one read may take.
    fn window(&self, expected: u64) -> usize {
        if self.large {
            return STAGE;
        }
        let half = usize::try_from(expected / 2).unwrap_or(usize::MAX);
        half.clamp(MIN_INPUT, MAX_INPUT)
    }

    /// Hands everything that was read to the session, as far as messages are complete; says
    /// whether the rest is the beginning of a message, and not bulk data.
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
            }
        }
    }

    /// Small data has come: more of that will follow, probably.
    pub(super) const fn expect_small(&mut self) {
        self.large = false;
    }
}

/// Makes room for so many bytes behind what is there, and for no more: what was there before it
/// and has been taken in needs no room, and the window says how the buffer grows.
fn make_room(input: &mut BytesMut, want: usize) {
    if !input.try_reclaim(want) {
        let mut larger = BytesMut::with_capacity(input.len().saturating_add(want));
        larger.extend_from_slice(input);
        *input = larger;
    }
}
