//! Checks of the current Tokio runtime.
//!
//! Tokio has no way to ask whether time and I/O are enabled: what needs them panics. So they are
//! tried once, before anything depends on them, and the panic is caught. The program's panic hook
//! sees this panic, and a program that is built to abort on panics ends.

use std::panic::catch_unwind;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::error::InvalidUse;
use crate::platform;

/// Checks that there is a runtime and that its time is enabled. `why` says what needs it.
pub(crate) fn check_time(why: &'static str) -> Result<(), InvalidUse> {
    check_time_with(why, || sleep(Duration::ZERO)).map(drop)
}

/// Does the same as [`check_time`] with `attempt`, and returns its result.
pub(crate) fn check_time_with<T>(
    why: &'static str,
    attempt: impl FnOnce() -> T + std::panic::UnwindSafe,
) -> Result<T, InvalidUse> {
    if Handle::try_current().is_err() {
        return Err(InvalidUse::NoRuntime(why));
    }
    let why = "the Tokio runtime has no timer: build it with `enable_time`";
    catch_unwind(attempt).map_err(|_| InvalidUse::NoRuntime(why))
}

/// Checks that the I/O of the current runtime is enabled.
///
/// Failing to create a socket is no reason to refuse: the connection that needs one will report it.
pub(crate) fn check_io() -> Result<(), InvalidUse> {
    let why = "the Tokio runtime has no I/O: build it with `enable_io`";

    match catch_unwind(platform::idle_socket) {
        Ok(_) => Ok(()),
        Err(_) => Err(InvalidUse::NoRuntime(why)),
    }
}
