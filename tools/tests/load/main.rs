//! `nbd load` on servers of the test's own, and what both subcommands have in common.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nbd_client::testing::{self, Export};
use nbd_client::wire::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixListener;
use tokio::process::Child;
use tokio::time::timeout;

const NBD: &str = env!("CARGO_BIN_EXE_nbd");

/// Far longer than anything here takes.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Runs `nbd` and nobody reads its output.
fn unheard(args: &[&str]) -> Output {
    let (reader, writer) = UnixStream::pair().unwrap();
    drop(reader);
    let mut command = Command::new(NBD);
    command.args(args).stdout(OwnedFd::from(writer));
    command.stderr(Stdio::piped()).output().unwrap()
}

fn nothing_went_wrong(args: &[&str]) {
    let output = unheard(args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {errors}");
    assert_eq!(errors, "", "{args:?}");
}

#[test]
fn a_closed_pipe_is_no_failure() {
    for args in [
        &["--help"][..],
        &["--version"],
        &["info", "--help"],
        &["info", "--version"],
        &["load", "--help"],
    ] {
        nothing_went_wrong(args);
    }
}

mod nbdkit {
    #[test]
    fn a_closed_pipe_is_no_failure_of_a_load() {
        let server = ["--", "nbdkit", "-s", "memory", "1M"];
        super::nothing_went_wrong(&[&["load", "--ops", "100"][..], &server].concat());
    }

    #[test]
    fn an_export_that_is_too_small_for_a_request_is_refused() {
        let mut load = super::Command::new(super::NBD);
        load.args(["load", "--bs=2M", "--", "nbdkit", "-s", "memory", "1M"]);
        let output = load.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let why = "nbd load: the export has 1048576 bytes, less than --bs";
        assert!(errors.contains(why), "{errors}");
    }

    #[test]
    fn content_that_is_not_what_was_written_is_told() {
        // The plugin null takes writes and returns zeroes.
        for (plugin, status) in [("memory", 0), ("null", 1)] {
            let mut load = super::Command::new(super::NBD);
            load.args(["load", "--verify", "--ops", "200", "--qd", "4"]);
            load.args(["--", "nbdkit", "-s", plugin, "64k"]);
            let output = load.output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(status), "{plugin}: {errors}");
            let is_told = errors.contains("blocks had the wrong contents");
            assert_eq!(is_told, status == 1, "{plugin}: {errors}");
        }
    }
}

#[test]
fn the_usage_of_load_says_how_to_run_a_server() {
    for args in [&["load", "--help"][..], &["load"]] {
        let output = Command::new(NBD).args(args).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        let usage = text
            .lines()
            .find(|line| line.starts_with("Usage: "))
            .unwrap();
        assert!(usage.contains("| -- <COMMAND>...>"), "{text}");
    }
}

#[test]
fn a_wrong_command_line_is_told_from_an_answer() {
    for (args, status, complaint) in [
        (
            &["load", "--unix", "a", "--bs", "K"][..],
            2,
            "invalid value 'K' for '--bs <SIZE>': expected a size such as 512, 64K or 1M",
        ),
        (
            &["load", "--unix", "a", "--qd", "0"],
            2,
            "--qd must not be 0",
        ),
        (&["load"], 2, "--unix <PATH>"),
        (&["fly"], 2, "unrecognized subcommand 'fly'"),
        // For questions 2 means no.
        (&["info", "--can", "fly", "nbd://a"], 1, "'fly'"),
        (&["info", "["], 1, "between [ and ]"),
        (&["info"], 1, "URI"),
    ] {
        let output = Command::new(NBD).args(args).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {errors}");
        assert!(errors.contains(complaint), "{args:?}: {errors}");
        assert_eq!(output.stdout, b"", "{args:?}");
    }
}

/// A load with 64 requests in flight that has connected to a server of the test's own.
async fn load(server: &testing::Server) -> Child {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    // Whoever runs the tests may have the signal ignored.
    let child = tokio::process::Command::new("env")
        .args(["--default-signal=INT", NBD])
        .args(["load", "--qd", "64", "--seconds", "1000", "--json"])
        .arg("--unix")
        .arg(&socket)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (stream, _) = timeout(WATCHDOG, listener.accept()).await.unwrap().unwrap();
    let server = server.clone();
    tokio::spawn(async move { server.serve(stream).await });
    child
}

fn interrupt(child: &Child) {
    let pid = child.id().unwrap().try_into().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::INT).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_load_reports_what_it_has_done() {
    let server = testing::Server::new(Export::new(1 << 20));
    let load = load(&server).await;
    timeout(WATCHDOG, server.received(1000)).await.unwrap();
    interrupt(&load);
    let output = timeout(WATCHDOG, load.wait_with_output()).await;
    let Output {
        status,
        stdout,
        stderr,
    } = output.unwrap().unwrap();
    let errors = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(0), "{status}: {errors}");
    let report: Value = serde_json::from_slice(&stdout).unwrap();
    assert!(report["ops"].as_u64().unwrap() >= 1000, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_fails_ends_the_load_and_what_was_done_is_reported() {
    let server = testing::Server::builder().export("", Export::new(1 << 20));
    let requests = AtomicU64::new(0);
    let server = server.fail_with(move |_| {
        (requests.fetch_add(1, Ordering::Relaxed) == 500).then(|| (Errno::EIO, "bad sector".into()))
    });
    let server = server.build();
    let load = load(&server).await;
    let output = timeout(WATCHDOG, load.wait_with_output()).await;
    let output = output.unwrap().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("failed"), "{errors}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["ops"].as_u64().unwrap() > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_is_interrupted_twice_does_not_wait() {
    let server = testing::Server::new(Export::new(1 << 20));
    server.pause();
    let mut load = load(&server).await;
    timeout(WATCHDOG, server.received(64)).await.unwrap();
    interrupt(&load);
    let mut errors = BufReader::new(load.stderr.take().unwrap()).lines();
    let line = timeout(WATCHDOG, errors.next_line()).await.unwrap();
    assert!(line.unwrap().unwrap().contains("a second signal"));
    interrupt(&load);
    let output = timeout(WATCHDOG, load.wait_with_output()).await;
    let output = output.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", output.status);
    assert_eq!(output.stdout, b"");
}
