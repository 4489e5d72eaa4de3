//! TLS: against real servers, and against servers that cheat.
//!
//! A test whose server is not installed fails. Modules have the names of what they need, for
//! `tests/run`: all are in `tls`, which needs certtool.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[macro_use]
#[path = "../shared/mod.rs"]
mod shared;

#[path = "."]
mod tls {
    mod clear;
    mod config;
    mod hostile;
    mod matrix;
    #[cfg(feature = "tls-psk")]
    mod psk;
    mod servers;
    mod truncation;
    mod turned_away;
    mod wire;

    #[path = "."]
    mod nbdkit {
        mod certificates;
        mod directory;
        mod hints;
        mod late;
        mod modes;
        #[cfg(feature = "tls-psk")]
        mod names;
        mod uri;
    }
}
