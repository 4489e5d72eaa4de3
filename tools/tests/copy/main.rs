//! `nbd copy` on real servers, and beside `nbdcopy` of libnbd where both do the same.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, reason = "shared with the tests that need more of it")]
#[path = "../../../tests/shared/server/mod.rs"]
mod server;

#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
#[allow(dead_code, reason = "shared with the tests that need more of it")]
#[path = "../../../tests/shared/pki.rs"]
mod pki;

#[path = "../shared/process.rs"]
mod process;

#[path = "../../../tests/shared/watchdog.rs"]
mod watchdog;

mod arguments;
mod lost;
mod nbdcopy;
mod options;
mod output;
mod places;
mod progress;
mod resume;
mod run;
mod signals;
mod sync;
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
mod tls;
