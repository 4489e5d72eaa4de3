//! Waking those whose answers are there.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;
use std::thread;

/// Wakes all of them, even if one panics: the others have done nothing wrong, and nobody would
/// wake them a second time. The first panic goes on after that.
pub(super) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    let mut first = None;
    for waker in wakers {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
            first.get_or_insert(panic);
        }
    }
    if let Some(panic) = first {
        // One panic is enough: a second one would end the program.
        if !thread::panicking() {
            resume_unwind(panic);
        }
    }
}
