//! What several test programs need. Each of them includes this module once, and uses part of it.
#![allow(dead_code, unused_macros, reason = "each program uses part of it")]

#[macro_use]
pub(crate) mod runtimes;

pub(crate) mod in_process;
pub(crate) mod load;
pub(crate) mod long;
pub(crate) mod loopback;
#[cfg(feature = "tls")]
pub(crate) mod pki;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod server;
#[cfg(feature = "tls")]
pub(crate) mod upgrade;
pub(crate) mod watchdog;
