//! TLS: against real servers, and against servers that cheat.
//!
//! A test whose server is not installed fails. Modules have the names of what they need, for
//! `tests/run`: all are in `tls`, which needs certtool.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[macro_use]
#[path = "../shared/runtimes.rs"]
mod runtimes;

#[path = "."]
mod tls {
    mod clear;
    mod config;
    mod hostile;
    #[path = "../shared/load.rs"]
    mod load;
    #[path = "../shared/long.rs"]
    mod long;
    mod matrix;
    #[path = "../shared/pki.rs"]
    mod pki;
    #[cfg(feature = "tls-psk")]
    mod psk;
    #[path = "../shared/server.rs"]
    #[allow(dead_code, reason = "shared with the tests that need more of it")]
    mod server;
    mod servers;
    mod truncation;
    mod turned_away;
    mod wire;

    #[path = "."]
    mod nbdkit {
        mod certificates;
        mod directory;
        mod modes;
        mod uri;
    }
}
