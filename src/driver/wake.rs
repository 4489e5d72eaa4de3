//! Wakes callers.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;
use std::thread;

/// Wakes all callers, even if a waker panics: nothing else would wake the others. The first panic is
/// resumed after that.
pub(super) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    let mut first = None;
    for waker in wakers {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
            first.get_or_insert(panic);
        }
    }
    if let Some(panic) = first {
        // A second panic would abort the program.
        if !thread::panicking() {
            resume_unwind(panic);
        }
    }
}
