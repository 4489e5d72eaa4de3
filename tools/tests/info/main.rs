//! `nbd info` beside `nbdinfo` of libnbd, field by field, against real servers.
//!
//! Where `nbdinfo` prints a key, `nbd info` must print the same key with the same value. Keys of its
//! own it may have only where newer versions of `nbdinfo` have them, too.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, reason = "shared with the tests that need more of it")]
#[path = "../../../tests/shared/server/mod.rs"]
mod server;

#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
#[allow(dead_code, reason = "shared with the tests that need more of it")]
#[path = "../../../tests/shared/pki.rs"]
mod pki;

mod nbdinfo;
mod newer;
mod run;
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
mod tls;
