//! What all the examples have in common.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nbd_client::testing::{self, Export};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixListener;
use tokio::process::Child;
use tokio::time::timeout;

use crate::run::example;
use crate::server::Dir;

/// Far longer than anything here takes.
const WATCHDOG: Duration = Duration::from_secs(60);

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

/// A load with 64 requests in flight that has connected to a server of the test's own.
async fn load(server: &testing::Server) -> Child {
    let program = example("load");
    let dir = Dir::new();
    let socket = dir.path("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let child = tokio::process::Command::new(program)
        .args([
            "--unix",
            &socket,
            "--qd",
            "64",
            "--seconds",
            "1000",
            "--json",
        ])
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
async fn a_load_that_is_interrupted_twice_does_not_wait() {
    let server = testing::Server::new(Export::new(1 << 20));
    server.pause();
    let mut load = load(&server).await;
    timeout(WATCHDOG, server.received(64)).await.unwrap();
    interrupt(&load);
    let mut errors = BufReader::new(load.stderr.take().unwrap()).lines();
    let line = timeout(WATCHDOG, errors.next_line()).await.unwrap();
    assert!(line.unwrap().unwrap().contains("Ctrl-C again"));
    interrupt(&load);
    let output = timeout(WATCHDOG, load.wait_with_output()).await;
    let output = output.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", output.status);
    assert_eq!(output.stdout, b"");
}
