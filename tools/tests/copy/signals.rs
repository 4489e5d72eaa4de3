//! Ctrl-C and SIGTERM.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Output};

use rustix::process::Signal;

use crate::process::is_running;
use crate::run::{errors, eventually, failed, full_disk, report, same, send, start, uri};
use crate::server::{Dir, Server};
use crate::watchdog::within;

/// Waits until a copy with `--progress=1` is that far, does something, and waits for its end.
#[track_caller]
pub(crate) fn at_percent(mut child: Child, percent: u8, then: impl FnOnce(&Child)) -> Output {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let is_there = move |line: &str| {
        let number = line.strip_suffix("/100").unwrap();
        number.parse::<u8>().unwrap() >= percent
    };
    let rest = within(move || {
        let mut lines = lines.map(Result::unwrap);
        lines.find(|line| is_there(line)).expect("it ended before");
        lines
    });
    then(&child);
    // The lines must be read for as long as they are written.
    within(move || {
        rest.for_each(drop);
        child.wait_with_output().unwrap()
    })
}

#[test]
fn a_signal_ends_the_copy_in_order_and_leaves_a_checkpoint() {
    for (signal, code, times) in [
        (Signal::INT, 130, 1),
        (Signal::TERM, 143, 1),
        // A terminal that is closed sends it, and its shell too.
        (Signal::HUP, 129, 2),
    ] {
        let dir = Dir::new();
        let (from, to) = (full_disk(&dir, "from", 16 << 20), dir.disk("to", 16 << 20));
        let (source, destination) = (
            Server::nbdkit(&["file", &from]),
            Server::nbdkit(&["file", &to]),
        );
        let resume = dir.path("resume");
        let (source, destination) = (uri(&source), uri(&destination));
        let places = ["--resume", &resume, &source, &destination];
        let child = start(&[&["--rate=8M", "--progress=1"][..], &places].concat());
        let output = at_percent(child, 10, |child| {
            (0..times).for_each(|_| send(child, signal));
        });
        assert_eq!(output.status.code(), Some(code));
        let said = errors(&output);
        assert!(said.contains("the copy was cancelled"), "{said}");
        let on = format!("the same command goes on from what is in {resume}");
        assert!(said.contains(&on), "{said}");
        assert!(!said.contains("Copying::resume"), "{said}");
        let report = report(&places);
        assert!(report["skipped"].as_u64().unwrap() > 1 << 20, "{report}");
        assert!(!Path::new(&resume).exists());
        same(&from, &to);
    }
}

/// qemu-nbd with `-t` goes on when its client has gone.
#[test]
fn a_server_that_was_started_ends_with_the_copy_however_that_ends() {
    let dir = Dir::new();
    let from = full_disk(&dir, "from", 16 << 20);
    let server = ["[", "qemu-nbd", "-t", "-f", "raw", &from, "]"];
    for signal in [Signal::INT, Signal::TERM] {
        let options = ["--rate=8M", "--progress=1"];
        let child = start(&[&options[..], &server, &["null:"]].concat());
        at_percent(child, 10, |child| send(child, signal));
        eventually("the server has ended", || !is_running(&from));
    }
    let (_, said) = failed(&[&server[..], &["/dev/full"]].concat());
    assert!(said.contains("no space left on device"), "{said}");
    eventually("the server has ended", || !is_running(&from));
    let (_, said) = failed(&[&server[..], &["/no/such/directory"]].concat());
    assert!(said.contains("/no/such/directory"), "{said}");
    eventually("the server has ended", || !is_running(&from));
}

#[test]
fn a_checkpoint_that_cannot_be_kept_is_named() {
    let dir = Dir::new();
    let (from, to) = (full_disk(&dir, "from", 16 << 20), dir.path("to"));
    let resume = dir.path("resume");
    let options = ["--rate=8M", "--progress=1", "--resume", &resume, &from, &to];
    let output = at_percent(start(&options), 10, |child| {
        std::fs::create_dir(format!("{resume}.new")).unwrap();
        send(child, Signal::TERM);
    });
    assert_eq!(output.status.code(), Some(143));
    let said = errors(&output);
    let lost = format!("{resume} could not be written: Is a directory");
    assert!(said.contains(&lost), "{said}");
}

#[test]
fn a_second_signal_does_not_wait() {
    let dir = Dir::new();
    let (from, log) = (full_disk(&dir, "from", 1 << 20), dir.path("log"));
    let file = format!("logfile={log}");
    let never = [
        "--filter=log",
        "--filter=delay",
        "memory",
        "1M",
        "wdelay=1000",
        &file,
    ];
    let server = Server::nbdkit(&never);
    let mut child = start(&["--resume", &dir.path("resume"), &from, &uri(&server)]);
    let is_writing = || std::fs::read_to_string(&log).is_ok_and(|log| log.contains(" Write "));
    eventually("a write", is_writing);
    send(&child, Signal::INT);
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = within(move || said.next().unwrap().unwrap());
    assert!(line.contains("a second signal"), "{line}");
    assert!(
        child.try_wait().unwrap().is_none(),
        "it waits for what is in flight"
    );
    send(&child, Signal::INT);
    let status = within(move || child.wait().unwrap());
    assert_eq!(status.code(), Some(130));
}
