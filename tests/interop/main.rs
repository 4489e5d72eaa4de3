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
#[path = "../shared/runtimes.rs"]
mod runtimes;

#[cfg(feature = "tls")]
mod behind_tls;
mod disk;
mod durable;
mod memory;
mod nbd_server;
mod nbdkit;
#[cfg(feature = "tls")]
#[path = "../shared/pki.rs"]
mod pki;
#[path = "../shared/process.rs"]
mod process;
mod qemu;
#[path = "../shared/random.rs"]
mod random;
#[path = "../shared/server.rs"]
#[allow(dead_code, reason = "shared with the tests that need more of it")]
mod server;
mod soak;
mod state;

#[path = "../shared/load.rs"]
mod load;
#[path = "../shared/long.rs"]
mod long;
