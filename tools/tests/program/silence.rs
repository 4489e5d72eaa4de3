//! A server that falls silent ends a tool, which says so.

use std::process::Child;

use crate::process::eventually;
use crate::server::{Dir, Server};
use crate::watchdog::within;
use crate::{has_come, slow_server, start};

/// Returns what it prints.
#[track_caller]
fn complains(mut child: Child) -> String {
    drop(child.stdin.take());
    let output = within(move || child.wait_with_output().unwrap());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the server sent nothing for 1 s"), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_server_that_does_not_answer_ends_the_tool() {
    for tool in [
        &["dump"][..],
        &["info"],
        &["zero", "-y"],
        &["discard", "-y"],
    ] {
        let dir = Dir::new();
        let (_, server) = slow_server(&dir);
        let server: Vec<_> = server.iter().map(|word| &**word).collect();
        let tool = [tool, &["--stall=1", "["], &server, &["]"]].concat();
        assert_eq!(complains(start(&tool)), "");
    }
}

#[test]
fn a_server_that_is_stopped_ends_the_load() {
    let dir = Dir::new();
    let log = dir.path("log");
    let file = format!("logfile={log}");
    let server = Server::nbdkit(&["--filter=log", "memory", "1M", &file]);
    let socket = server.socket();
    let to = ["--unix", socket.to_str().unwrap()];
    let load = start(&[&["load", "--stall=1", "--seconds=1000"][..], &to].concat());
    eventually("a read", || has_come(&log, " Read "));
    server.send("STOP");
    let report = complains(load);
    assert!(report.contains("operations/s"), "{report}");
}
