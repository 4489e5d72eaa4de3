//! What all the examples have in common.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

use crate::run::example;
use crate::server::Dir;

/// Runs an example whose output nobody reads.
fn unheard(name: &str, args: &[&str]) -> Output {
    let (reader, writer) = UnixStream::pair().unwrap();
    drop(reader);
    let mut command = Command::new(example(name));
    command.args(args).stdout(OwnedFd::from(writer));
    command.stderr(Stdio::piped()).output().unwrap()
}

#[test]
fn a_closed_pipe_is_no_failure() {
    for (name, args) in [
        ("info", &["--help"][..]),
        ("info", &["--version"]),
        ("load", &["--help"]),
        (
            "load",
            &["--ops", "100", "--", "nbdkit", "-s", "memory", "1M"],
        ),
        ("quickstart", &["--help"]),
        ("quickstart", &["--seconds", "0.1"]),
    ] {
        let output = unheard(name, args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{name} {args:?}: {errors}");
        assert_eq!(errors, "", "{name} {args:?}");
    }
}

#[test]
fn an_export_in_use_is_left_alone_and_the_server_told() {
    let quickstart = example("quickstart");
    let dir = Dir::new();
    let log = dir.path("log");
    let server = format!("exec nbdkit -v -s data 1 size=1M 2>{log}");
    let output = Command::new(quickstart)
        .args(["--tasks", "4", "--", "sh", "-c", &server])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("in use"), "{errors}");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("NBD_CMD_DISC"), "{log}");
}

#[test]
fn more_than_the_export_has_is_not_cut_down_in_silence() {
    let output = Command::new(example("quickstart"))
        .args(["--region", "1G"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("--region 1073741824: at most"), "{errors}");
}
