//! What the runtime that is current can do.
//!
//! Tokio has no way to ask whether time and I/O are enabled: what needs them panics. So it is
//! tried once, before anything depends on it. The panic is caught here, although the program's
//! panic hook sees it, and one that is built to abort on panics ends there, as it always did.

use std::panic::catch_unwind;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::error::InvalidRequest;
use crate::platform;

/// Checks that there is a runtime and that its time is enabled; `why` says what for.
pub(crate) fn check_time(why: &'static str) -> Result<(), InvalidRequest> {
    check_time_with(why, || sleep(Duration::ZERO)).map(drop)
}

/// The same for a caller that needs what was tried.
pub(crate) fn check_time_with<T>(
    why: &'static str,
    attempt: impl FnOnce() -> T + std::panic::UnwindSafe,
) -> Result<T, InvalidRequest> {
    if Handle::try_current().is_err() {
        return Err(InvalidRequest::NoRuntime(why));
    }
    let why = "time is not enabled in this one";
    catch_unwind(attempt).map_err(|_| InvalidRequest::NoRuntime(why))
}

/// Checks that the I/O of the current runtime is enabled.
pub(crate) fn check_io() -> Result<(), InvalidRequest> {
    let why = "I/O is not enabled in this one";
    // No socket to be had is no reason to refuse: a connection that needs one will say so.
    match catch_unwind(platform::idle_socket) {
        Ok(_) => Ok(()),
        Err(_) => Err(InvalidRequest::NoRuntime(why)),
    }
}
