//! The public interface against the in-process server and the scripted one.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on has failed"
)]

#[macro_use]
#[path = "../shared/mod.rs"]
mod shared;

mod addresses;
#[cfg(feature = "blocking")]
mod blocking;
mod buffering;
mod cancel;
mod commands;
mod controls;
mod copies;
mod cursors;
mod cut;
mod depth;
mod disconnect;
mod disk;
mod division;
mod durability;
mod empty;
mod errors;
mod extents;
mod fairness;
mod flow;
mod goes_on;
mod handshake;
mod health;
mod limits;
mod load;
mod logging;
mod metrics;
mod options;
mod paced;
mod read_only;
mod rescue;
mod runtime;
mod sinks;
mod smoke;
mod sockets;
mod split;
mod stalls;
mod states;
mod streams;
mod strict;
mod submit;
mod support;
mod talk;
mod timeouts;
mod truncation;
mod typed;
mod types;
mod unaligned;
mod uri;
mod zeroes;
