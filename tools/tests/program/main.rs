//! What the tools of `nbd` have in common.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../shared/process.rs"]
mod process;
#[allow(dead_code, reason = "shared with the tests that need more of it")]
#[path = "../../../tests/shared/server/mod.rs"]
mod server;
#[path = "../../../tests/shared/watchdog.rs"]
mod watchdog;

mod signals;

use std::process::{Child, Command, Stdio};

/// Starts `nbd`; its input and both outputs are pipes.
fn start(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nbd"));
    command.args(args).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}
