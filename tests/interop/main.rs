//! The client against real servers: nbdkit, qemu-nbd and nbd-server.
//!
//! A test whose server is not installed fails. The modules are named after the servers they
//! need, so that `tests/run` can leave out, aloud, what cannot be installed.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on has failed"
)]

#[macro_use]
#[path = "../shared/mod.rs"]
mod shared;

#[cfg(feature = "tls")]
mod behind_tls;
#[cfg(feature = "blocking")]
mod blocking;
mod copies;
mod disk;
mod durable;
mod links;
mod memory;
mod nbd_server;
mod nbdkit;
mod qemu;
mod soak;
mod state;
