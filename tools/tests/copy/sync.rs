//! What is durable, by the calls to the system.

use std::process::Command;

use crate::run::disk;
use crate::server::Dir;

/// The calls of a copy of a file that make something durable.
fn syncs(options: &[&str]) -> usize {
    let dir = Dir::new();
    let (from, to, trace) = (disk(&dir, "from"), dir.path("to"), dir.path("trace"));
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-y",
        "-e",
        "trace=fsync,fdatasync",
        "-o",
        &trace,
    ]);
    command
        .args([env!("CARGO_BIN_EXE_nbd"), "copy"])
        .args(options)
        .args([&from, &to]);
    assert!(command.status().unwrap().success());
    let calls = std::fs::read_to_string(&trace).unwrap();
    let is_call = |line: &&str| line.contains("sync(") && line.contains(&to);
    calls.lines().filter(is_call).count()
}

#[test]
fn strace_sees_that_the_copy_is_synced() {
    assert_eq!(syncs(&[]), 1);
    assert_eq!(syncs(&["--flush"]), 1);
    assert_eq!(syncs(&["--no-flush"]), 0);
}
