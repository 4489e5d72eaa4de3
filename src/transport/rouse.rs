//! Has a stream wake its thread early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Says whether a stream is to wake the thread that waits for it, too, when its peer takes what was
/// written. A thread that sleeps on an idle processor takes long to wake: it is then up when the reply
/// comes. Nothing else happens by that.
///
/// The task of the connection owns both the stream and this. What it says holds from the next write on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rouse(Arc<AtomicBool>);

impl Rouse {
    pub(crate) fn set(&self, is_wanted: bool) {
        // One task uses it.
        self.0.store(is_wanted, Ordering::Relaxed);
    }

    /// Only Unix sockets can do it.
    #[cfg(unix)]
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
