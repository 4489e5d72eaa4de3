//! How much memory a hostile server can make a connection take, and that it is given back.
//!
//! The allocator counts for the whole program, so the tests run one at a time, and the server is
//! a thread that sends what was prepared before the counting began.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on has failed"
)]

mod connections;
mod copies;
mod disks;
mod handshake;
mod meter;
mod queues;
mod server;
mod transmission;

#[global_allocator]
static ALLOCATOR: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;
