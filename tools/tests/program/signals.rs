//! Ctrl-C, SIGTERM and SIGHUP end a tool, and the server that it has started.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::process::{eventually, is_running, send};
use crate::server::Dir;
use crate::watchdog::within;
use crate::{has_come, slow_server, start};

const SIGNALS: [(Signal, i32); 3] = [(Signal::HUP, 129), (Signal::INT, 130), (Signal::TERM, 143)];

/// Waits until the program has ended with this exit code, and its server too.
#[track_caller]
fn both_end(mut child: Child, code: i32, word: &str) {
    // An input that ends is an answer.
    let input = child.stdin.take();
    let status = within(move || child.wait().unwrap());
    drop(input);
    assert_eq!(status.code(), Some(code));
    eventually("the server has ended", || !is_running(word));
}

/// The dump waits for the reader of its output.
#[test]
fn a_signal_ends_a_dump_that_waits_for_its_reader() {
    for (signal, code) in SIGNALS {
        let dir = Dir::new();
        let disk = dir.file(
            "disk",
            (0..8 << 20).map(|at: u32| at as u8).collect::<Vec<_>>(),
        );
        let server = ["[", "qemu-nbd", "-t", "-r", "-f", "raw", &disk, "]"];
        let mut child = start(&[&["dump"][..], &server].concat());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let lines = within(move || {
            lines.next().unwrap().unwrap();
            lines
        });
        send(&child, signal);
        both_end(child, code, &disk);
        drop(lines);
    }
}

#[test]
fn a_signal_ends_a_tool_that_waits_for_an_answer() {
    for (signal, code) in SIGNALS {
        let dir = Dir::new();
        let disk = dir.disk("disk", 1 << 20);
        let server = ["[", "qemu-nbd", "-t", "-f", "raw", &disk, "]"];
        let mut child = start(&[&["zero"][..], &server].concat());
        let mut question = child.stderr.take().unwrap();
        within(move || question.read_exact(&mut [0]).unwrap());
        send(&child, signal);
        both_end(child, code, &disk);
    }
}

#[test]
fn a_signal_ends_a_tool_that_waits_for_its_server() {
    for (signal, code) in SIGNALS {
        let dir = Dir::new();
        let (log, server) = slow_server(&dir);
        let server: Vec<_> = server.iter().map(|word| &**word).collect();
        let child = start(&[&["info", "["], &server[..], &["]"]].concat());
        eventually("a read", || has_come(&log, " Read "));
        send(&child, signal);
        both_end(child, code, server[server.len() - 1]);
    }
}

#[test]
fn the_second_signal_ends_the_server_too() {
    for (signal, code) in [SIGNALS[1], SIGNALS[2]] {
        for (tool, end) in [
            // Its end is not the end of nbdkit.
            (
                &["load", "--", "sh", "-c", "\"$@\" -s; sleep 1000", "sh"][..],
                &[][..],
            ),
            (&["copy", "/etc/hostname", "["], &["]"]),
        ] {
            let dir = Dir::new();
            let (log, server) = slow_server(&dir);
            let server: Vec<_> = server.iter().map(|word| &**word).collect();
            let mut child = start(&[tool, &server, end].concat());
            let is_busy = || has_come(&log, " Read ") || has_come(&log, " Write ");
            eventually("a request", is_busy);
            send(&child, signal);
            let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
            let said = within(move || {
                let is_it = |line: &String| line.contains("a second signal");
                said.by_ref().map(Result::unwrap).find(is_it).unwrap();
                said
            });
            send(&child, signal);
            both_end(child, code, server[server.len() - 1]);
            drop(said);
        }
    }
}

#[test]
fn a_load_that_is_asked_to_end_reports_and_leaves_no_server() {
    for (signal, _) in SIGNALS {
        let dir = Dir::new();
        let log = dir.path("log");
        let script = "nbdkit -s --filter=log --filter=delay memory 1M delay-read=10ms \
                      logfile=\"$0\"; sleep 1000; :";
        let child = start(&["load", "--json", "--", "sh", "-c", script, &log]);
        eventually("a read", || has_come(&log, " Read "));
        send(&child, signal);
        let output = within(move || child.wait_with_output().unwrap());
        assert_eq!(output.status.code(), Some(0));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report["ops"].as_u64().unwrap() > 0, "{report}");
        eventually("the server has ended", || !is_running(&log));
    }
}

/// As `nohup` does, and a script for what it starts in the background.
#[test]
fn a_signal_that_the_caller_ignores_is_ignored() {
    for (ignored, signal) in [("HUP", Signal::HUP), ("INT", Signal::INT)] {
        let dir = Dir::new();
        let disk = dir.disk("disk", 1 << 20);
        let nbd = env!("CARGO_BIN_EXE_nbd");
        let script = format!("trap '' {ignored}; exec '{nbd}' zero [ qemu-nbd -t -f raw \"$0\" ]");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, &disk]);
        shell.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        let mut question = child.stderr.take().unwrap();
        within(move || question.read_exact(&mut [0]).unwrap());
        send(&child, signal);
        // It goes on: the answer counts.
        child.stdin.as_mut().unwrap().write_all(b"n\n").unwrap();
        both_end(child, 1, &disk);
    }
}
