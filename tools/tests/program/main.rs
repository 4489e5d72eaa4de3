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
mod silence;

use std::process::{Child, Stdio};

use server::Dir;

/// Starts `nbd`; its input and both outputs are pipes.
fn start(args: &[&str]) -> Child {
    let mut command = process::nbd();
    command.args(args).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// A server that answers reads and changes only after a long time, and the file that says what it was
/// asked. The word in its command line that no other process has is the last one.
fn slow_server(dir: &Dir) -> (String, Vec<String>) {
    let log = dir.path("log");
    let words = "nbdkit --filter=log --filter=delay data 1 size=1M \
                 delay-read=1000 delay-write=1000 delay-zero=1000 delay-trim=1000";
    let word = format!("logfile={log}");
    (
        log,
        words.split(' ').map(Into::into).chain([word]).collect(),
    )
}

fn has_come(log: &str, request: &str) -> bool {
    std::fs::read_to_string(log).is_ok_and(|log| log.contains(request))
}
