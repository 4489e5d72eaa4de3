//! Servers that break the rules of the transmission phase, one by one, against a whole connection.
//!
//! A test is named after its id in the catalogue of faults. Most are one row: what is asked, what
//! the server says to it, and what must come of that, in every style of replies and over every
//! transport it applies to, over sockets on both runtimes; see [`harness::row`].
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on has failed"
)]

#[macro_use]
#[path = "../shared/mod.rs"]
mod shared;

mod answer;
mod ask;
mod chunks;
mod ends;
mod extended;
mod flow;
mod harness;
mod pieces;
mod random;
mod simple;
mod status;
#[cfg(feature = "tls")]
mod tls;
mod transport;
