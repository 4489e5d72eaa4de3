//! How far a copy is.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::run::{copied, copy, ended, errors, full_disk, uri};
use crate::server::{Dir, Server, run};
use crate::watchdog::within;

/// What a slow copy writes with these options.
fn slow(dir: &Dir, options: &[&str]) -> std::process::Output {
    let disk = full_disk(dir, "disk", 4 << 20);
    copied(
        &[
            options,
            &["--rate=8M", "--request-size=64K", &disk, "null:"],
        ]
        .concat(),
    )
}

/// Checks lines such as `42/100`, which begin with 0, end with 100 and grow.
fn check(lines: &str) {
    let percent = |line: &str| line.strip_suffix("/100").unwrap().parse().unwrap();
    let numbers: Vec<u8> = lines.lines().map(percent).collect();
    assert_eq!(
        (numbers[0], numbers[numbers.len() - 1]),
        (0, 100),
        "{lines}"
    );
    assert!(numbers.is_sorted_by(|a, b| a < b), "{lines}");
    assert!(numbers.len() > 2, "{lines}");
    assert!(lines.ends_with('\n'));
}

#[test]
fn lines_go_to_a_file_descriptor() {
    let dir = Dir::new();
    check(&String::from_utf8(slow(&dir, &["--progress=1"]).stdout).unwrap());
    check(&errors(&slow(&dir, &["--progress=2"])));
    let (disk, lines) = (dir.path("disk"), dir.path("lines"));
    let nbd = env!("CARGO_BIN_EXE_nbd");
    // To a file, behind what is there; and to a pipe.
    let script = format!(
        "echo before >'{lines}'; exec 5>>'{lines}'; \
         '{nbd}' copy --progress=5 --rate=8M --request-size=64K '{disk}' null:; \
         '{nbd}' copy --progress=7 --rate=8M --request-size=64K '{disk}' null: 7>&1 | cat"
    );
    let piped = run("sh", &["-c", &script]);
    let written = std::fs::read_to_string(&lines).unwrap();
    check(written.strip_prefix("before\n").unwrap());
    check(&piped);
}

#[test]
fn a_verified_copy_counts_both_halves() {
    let dir = Dir::new();
    let disk = full_disk(&dir, "disk", 4 << 20);
    let server = Server::nbdkit(&["--filter=delay", "file", &disk, "rdelay=10ms"]);
    let options = [
        "--verify",
        "--progress=1",
        "--synchronous",
        "--request-size=64K",
    ];
    let output = copied(&[&options[..], &[&uri(&server), &dir.path("back")]].concat());
    check(&String::from_utf8(output.stdout).unwrap());
}

#[test]
fn a_stream_has_no_percent_before_its_end() {
    let dir = Dir::new();
    let disk = full_disk(&dir, "disk", 1 << 20);
    let script = "cat \"$1\" | \"$0\" copy --progress=1 - \"$2\"";
    let nbd = env!("CARGO_BIN_EXE_nbd");
    let lines = run("sh", &["-c", script, nbd, &disk, &dir.path("back")]);
    assert_eq!(lines, "0/100\n100/100\n");
}

#[test]
fn a_copy_that_fails_is_never_complete() {
    let dir = Dir::new();
    let disk = full_disk(&dir, "disk", 1 << 20);
    let server = Server::nbdkit(&["--filter=error", "memory", "1M", "error-pwrite-rate=100%"]);
    let output = ended(copy(&["--progress=1", &disk, &uri(&server)]));
    assert_eq!(output.status.code(), Some(1));
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(lines.starts_with("0/100\n"), "{lines}");
    assert!(!lines.contains("100/100"), "{lines}");
}

#[test]
fn lines_can_be_json() {
    let output = slow(&Dir::new(), &["--progress=json"]);
    assert_eq!(output.stdout, b"");
    let text = errors(&output);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = lines.last().unwrap();
    assert_eq!(last["phase"], "complete");
    assert_eq!(
        (&last["done"], &last["total"]),
        (&(4 << 20).into(), &(4 << 20).into())
    );
    let keys: Vec<_> = last.as_object().unwrap().keys().collect();
    let expected = [
        "data",
        "done",
        "elapsed",
        "phase",
        "rate",
        "repeated",
        "skipped",
        "time_left",
        "total",
        "zeroes",
    ];
    assert_eq!(keys, expected);
}

/// Copies to nothing, slowly, on a terminal by `script`, which has a bar.
fn on_a_terminal(args: &[&str]) -> Child {
    let program = env!("CARGO_BIN_EXE_nbd");
    let args = args.join(" ");
    // Whoever runs the tests may have the signal ignored.
    let program = format!("env --default-signal=INT '{program}'");
    let command = format!("stty cols 100; {program} copy -p --request-size=64K {args} null:");
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &command, "/dev/null"]);
    script.env("TERM", "xterm");
    script.stdin(Stdio::piped()).stdout(Stdio::piped());
    script.spawn().unwrap()
}

#[test]
fn a_terminal_has_a_bar_and_under_it_what_a_signal_does() {
    let dir = Dir::new();
    let disk = full_disk(&dir, "disk", 4 << 20);
    let mut script = on_a_terminal(&["--rate=1M", &disk]);
    let mut input = script.stdin.take().unwrap();
    let mut output = BufReader::new(script.stdout.take().unwrap());
    let shown = within(move || {
        // It draws the bar again and again.
        for _ in 0..3 {
            output.read_until(b'\r', &mut Vec::new()).unwrap();
        }
        input.write_all(b"\x03").unwrap();
        let mut shown = String::new();
        output.read_to_string(&mut shown).unwrap();
        script.wait().unwrap();
        shown
    });
    let (before, _) = shown.split_once("nbd copy: ends in order").unwrap();
    let line = before.rsplit('\x1b').next().unwrap();
    assert!(
        !line.contains("left"),
        "it is not written behind the bar: {shown:?}"
    );
}

#[test]
fn a_terminal_has_a_bar() {
    let dir = Dir::new();
    let disk = full_disk(&dir, "disk", 4 << 20);
    let mut script = on_a_terminal(&["--rate=8M", &disk]);
    // It ends with its input.
    let input = script.stdin.take();
    let output = within(|| script.wait_with_output().unwrap());
    drop(input);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    for part in [
        "copying",
        "█",
        " of 4.00 MiB",
        "MiB/s",
        "left",
        "complete",
        "100 %",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // Without a terminal there are lines.
    check(&errors(&slow(&dir, &["-p"])));
}
