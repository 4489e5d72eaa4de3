//! Has a stream wake its thread early.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const OFF: u8 = 0;
const WANTED: u8 = 1;
/// There was no descriptor to spare, once.
const REFUSED: u8 = 2;

/// Says whether a stream is to wake the thread that waits for it, too, when its peer takes what was
/// written. A thread that sleeps on an idle processor takes long to wake: it is then up when the reply
/// comes. Nothing else happens by that.
///
/// The task of the connection owns both the stream and this. What it says holds from the next time on
/// that the stream is read or written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rouse(Arc<AtomicU8>);

// No other task looks at it: a stream that is still being wrapped, by TLS, is never roused.
impl Rouse {
    pub(crate) fn set(&self, is_wanted: bool) {
        if self.is_possible() {
            let value = if is_wanted { WANTED } else { OFF };
            self.0.store(value, Ordering::Relaxed);
        }
    }

    /// Returns whether the stream can still do it.
    pub(crate) fn is_possible(&self) -> bool {
        self.0.load(Ordering::Relaxed) != REFUSED
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed) == WANTED
    }

    /// Says that the stream cannot do it. Only Unix sockets can.
    #[cfg(unix)]
    pub(crate) fn refuse(&self) {
        self.0.store(REFUSED, Ordering::Relaxed);
    }
}
