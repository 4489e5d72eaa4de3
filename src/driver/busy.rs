//! Looking for a reply again and again instead of sleeping until it is announced.

use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::transport::ReadHalf;

/// What one look takes at most. More is left to an ordinary read, which announces itself.
const WINDOW: usize = 16 << 10;

/// A bounded busy poll of one connection; by default of no length.
///
/// Between two looks the other tasks of the runtime have their turn.
#[derive(Debug)]
pub(super) struct BusyPoll {
    period: Duration,
    end: Option<Instant>,
    buffer: Vec<u8>,
}

impl BusyPoll {
    pub(super) const fn new(period: Duration) -> Self {
        Self {
            period,
            end: None,
            buffer: Vec::new(),
        }
    }

    /// Something has happened: the next wait has all its time.
    pub(super) const fn rest(&mut self) {
        self.end = None;
    }

    /// Whether to look once more.
    pub(super) fn goes_on(&mut self, is_waiting: bool) -> bool {
        if self.period.is_zero() || !is_waiting {
            return false;
        }
        let now = Instant::now();
        let end = match self.end {
            Some(end) => end,
            None => match now.checked_add(self.period) {
                Some(end) => *self.end.insert(end),
                // Longer than can be counted is for ever.
                None => return true,
            },
        };
        now < end
    }

    /// Looks once.
    pub(super) fn read(
        &mut self,
        half: &ReadHalf,
        input: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        self.buffer.resize(WINDOW, 0);
        match half.read_now(&mut self.buffer) {
            Ok(count) => {
                input.extend_from_slice(self.buffer.get(..count).unwrap_or_default());
                Poll::Ready(Ok(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}
