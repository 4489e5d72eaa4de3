//! TLS: against real servers, and against servers that cheat.
//!
//! A test whose server is not installed fails.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod certificates;
mod clear;
mod errors;
mod hostile;
mod load;
mod matrix;
mod modes;
mod pki;
#[cfg(feature = "tls-psk")]
mod psk;
mod server;
mod wire;
