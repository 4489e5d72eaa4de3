//! The part of a cursor that writes.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};

use crate::error::Result;
use crate::request::Client;
use crate::stream::{Change, Writes};

/// How many bytes one call writes, if there is no write-behind. All of them are waited for, so it is
/// more than one message may have; and they are copied, so it is not without a limit.
const MOST: usize = 4 << 20;

/// The length of a request behind the caller's back, in bytes.
const REQUEST: usize = 256 << 10;

/// Writes, either while the caller waits or behind his back.
pub(super) struct Writer<C: Client> {
    pub(super) writes: Writes<C>,
    /// How many bytes are written behind the caller's back; zero if he waits for each write.
    behind: usize,
    /// What is to be written behind his back and was not handed over, and where it begins.
    buffer: BytesMut,
    start: u64,
    /// The write for which the caller waits, or has waited.
    waited: Option<(u64, Bytes)>,
}

impl<C: Client> Writer<C> {
    pub(super) fn new(client: C) -> Self {
        Self {
            writes: Writes::new(client, u64::MAX),
            behind: 0,
            buffer: BytesMut::new(),
            start: 0,
            waited: None,
        }
    }

    /// Writes up to so many bytes behind the caller's back.
    pub(super) fn set_behind(&mut self, bytes: usize) {
        self.behind = bytes;
        self.writes.limit = match bytes {
            0 => u64::MAX,
            bytes => bytes as u64,
        };
    }

    /// Writes some of `data` at `offset`, at least one byte. Returns how many.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        offset: u64,
        data: &[u8],
        block: u64,
    ) -> Poll<Result<usize>> {
        match self.behind {
            0 => self.poll_write_through(cx, offset, &data[..data.len().min(MOST)]),
            _ => self.poll_write_behind(cx, offset, data, block),
        }
    }

    /// Writes, and waits for the answer.
    fn poll_write_through(
        &mut self,
        cx: &mut Context<'_>,
        offset: u64,
        data: &[u8],
    ) -> Poll<Result<usize>> {
        // The caller may have more data by now.
        let same = |waited: &(u64, Bytes)| waited.0 == offset && data.starts_with(&waited.1);
        let length = match &self.waited {
            Some(waited) if same(waited) => waited.1.len(),
            _ => {
                // An earlier write may have been given up: the new one comes after it.
                ready!(self.poll_answered(cx))?;
                let copy = Bytes::copy_from_slice(data);
                self.waited = Some((offset, copy.clone()));
                self.writes.push(Change::Data { offset, data: copy });
                data.len()
            }
        };
        ready!(self.poll_answered(cx))?;
        Poll::Ready(Ok(length))
    }

    /// Takes data to be written later.
    fn poll_write_behind(
        &mut self,
        cx: &mut Context<'_>,
        offset: u64,
        data: &[u8],
        block: u64,
    ) -> Poll<Result<usize>> {
        if self.waited.is_some() {
            // It was written through, and given up.
            ready!(self.poll_answered(cx))?;
        }
        if self.start + self.buffer.len() as u64 != offset {
            self.hand_over();
        }
        ready!(self.writes.poll_room(cx))?;
        if self.buffer.is_empty() {
            self.start = offset;
        }
        let most = REQUEST
            .min(self.behind)
            .max(usize::try_from(block).unwrap_or(REQUEST));
        // The request ends where a block ends.
        let end = self.start.saturating_add(most as u64);
        let room = (end - end % block).saturating_sub(offset);
        let room = usize::try_from(room).unwrap_or(most).max(1);
        let taken = data.get(..room).unwrap_or(data);
        self.buffer.extend_from_slice(taken);
        if taken.len() == room {
            self.hand_over();
            // So that it is sent now. Whether there is room for more, the next call asks.
            let _ = self.writes.poll_room(cx)?;
        }
        Poll::Ready(Ok(taken.len()))
    }

    fn hand_over(&mut self) {
        if !self.buffer.is_empty() {
            self.writes.push(Change::Data {
                offset: self.start,
                data: self.buffer.split().freeze(),
            });
        }
    }

    /// Returns whether there is nothing to wait for, and nothing has failed.
    pub(super) fn is_idle(&self) -> bool {
        self.buffer.is_empty() && self.writes.is_idle()
    }

    /// Waits until all writes are answered.
    pub(super) fn poll_answered(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.hand_over();
        let result = ready!(self.writes.poll_answered(cx));
        Poll::Ready(self.answered(result))
    }

    /// Waits until all writes are answered and flushed.
    pub(super) fn poll_durable(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.hand_over();
        let result = ready!(self.writes.poll_durable(cx));
        Poll::Ready(self.answered(result))
    }

    /// Records an outcome. A failure behind the caller's back stays: he has gone on as if there had
    /// been none. A write for which he has waited can be repeated.
    fn answered(&mut self, result: Result<()>) -> Result<()> {
        if self.waited.take().is_some() {
            self.writes.clear_error();
        }
        result
    }
}
