//! Cursors in the hands of crates that read and write files.
//!
//! Each test is run on exports with blocks of 512 and of 4096 bytes, in process and of nbdkit, which
//! refuse requests that are not aligned. What needs files of the standard library has them twice:
//! of an async [`Cursor`](nbd_client::Cursor) and of a `blocking::Cursor`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../shared/in_process.rs"]
mod in_process;

#[allow(dead_code, reason = "shared with the tests that need more of it")]
#[path = "../shared/random.rs"]
mod random;

#[path = "../shared/watchdog.rs"]
mod watchdog;

#[macro_use]
mod volumes;

mod archives;
mod disks;
mod places;

use random::Random;

/// Names and contents of the files that the tests store: empty, small, and of several requests.
fn files() -> Vec<(String, Vec<u8>)> {
    let mut random = Random::new(31);
    let lengths = [0, 1, 511, 512, 4097, 70_000, 1_000_003];
    lengths
        .map(|length| (format!("file-{length}.bin"), random.bytes(length)))
        .into()
}
