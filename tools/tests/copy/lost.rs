//! Servers that are killed and come back.

use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::run::{copied, errors, eventually, failed, full_disk, same, send, start};
use crate::server::Dir;
use crate::signals::at_percent;

/// nbdkit on a socket that stays the same.
struct Restarted {
    socket: String,
    file: String,
    child: Child,
}

impl Restarted {
    fn new(dir: &Dir, name: &str, file: &str) -> Self {
        let socket = dir.path(name);
        let child = serve(&socket, file);
        let file = file.into();
        Self {
            socket,
            file,
            child,
        }
    }

    fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket)
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::fs::remove_file(&self.socket).unwrap();
    }

    fn restart(&mut self) {
        self.kill();
        self.child = serve(&self.socket, &self.file);
    }
}

impl Drop for Restarted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(socket: &str, file: &str) -> Child {
    let mut command = Command::new("nbdkit");
    command.args(["-f", "--exit-with-parent", "-U", socket, "file", file]);
    let child = command.stderr(Stdio::null()).spawn().unwrap();
    listens(socket);
    child
}

/// Waits until a server listens. Its socket has a name before that.
fn listens(socket: &str) {
    eventually("a server", || UnixStream::connect(socket).is_ok());
}

#[test]
fn a_copy_survives_the_restart_of_either_server() {
    for restarts_source in [true, false] {
        let dir = Dir::new();
        let (from, to) = (full_disk(&dir, "from", 16 << 20), dir.disk("to", 16 << 20));
        let mut source = Restarted::new(&dir, "source", &from);
        let mut destination = Restarted::new(&dir, "destination", &to);
        let places = [&*source.uri(), &destination.uri()];
        let child = start(&[&["--rate=8M", "--progress=1", "--verify"][..], &places].concat());
        let output = at_percent(child, 5, |_| match restarts_source {
            true => source.restart(),
            false => destination.restart(),
        });
        assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
        same(&from, &to);
    }
}

/// The one that is written is not started again: the next one may not have what was written.
#[test]
fn a_server_of_its_own_is_started_again_if_it_is_read() {
    for is_read in [true, false] {
        let dir = Dir::new();
        let (from, to) = (full_disk(&dir, "from", 16 << 20), dir.disk("to", 16 << 20));
        let pid = dir.path("pid");
        let file = if is_read { &from } else { &to };
        let server = [
            "[",
            "nbdkit",
            "-f",
            "--exit-with-parent",
            "-P",
            &pid,
            "file",
            file,
            "]",
        ];
        let options = ["--rate=8M", "--progress=1"];
        let child = match is_read {
            true => start(&[&options[..], &server, &[&to]].concat()),
            false => start(&[&options[..], &[&from], &server].concat()),
        };
        let output = at_percent(child, 5, |_| {
            let pid = std::fs::read_to_string(&pid).unwrap();
            let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
        });
        let said = errors(&output);
        match is_read {
            true => {
                assert_eq!(output.status.code(), Some(0), "{said}");
                same(&from, &to);
            }
            false => {
                assert_eq!(output.status.code(), Some(1));
                assert!(said.contains("the destination of the copy"), "{said}");
            }
        }
    }
}

#[test]
fn a_server_that_stays_away_is_given_up() {
    for retry in ["0", "1"] {
        let dir = Dir::new();
        let (from, to) = (full_disk(&dir, "from", 16 << 20), dir.path("to"));
        let mut source = Restarted::new(&dir, "source", &from);
        let child = start(&[
            "--retry",
            retry,
            "--rate=8M",
            "--progress=1",
            &source.uri(),
            &to,
        ]);
        let output = at_percent(child, 5, |_| source.kill());
        assert_eq!(output.status.code(), Some(1));
        let said = errors(&output);
        assert!(said.contains("the source of the copy"), "{said}");
        source.child = serve(&source.socket, &from);
    }
}

/// What it has written and not flushed is not there any more for the copy, each time.
#[test]
fn a_copy_ends_although_its_destination_is_never_up_for_long() {
    let dir = Dir::new();
    let size = 32 << 20;
    let (from, to) = (full_disk(&dir, "from", size), dir.disk("to", size));
    let socket = dir.path("socket");
    let serve = || {
        let _ = std::fs::remove_file(&socket);
        let mut command = Command::new("qemu-nbd");
        command.args(["-t", "-e", "0", "-f", "raw", "-k", &socket, &to]);
        command.spawn().unwrap()
    };
    let mut server = serve();
    listens(&socket);
    let uri = format!("nbd+unix:///?socket={socket}");
    let mut child = start(&["--rate=8M", "--json", &from, &uri]);
    let mut restarts = 0;
    let mut begun = None;
    eventually("an end", || {
        let is_over = child.try_wait().unwrap().is_some();
        if begun.is_none() && UnixStream::connect(&socket).is_ok() {
            begun = Some(Instant::now());
        }
        if !is_over && begun.is_some_and(|begun| begun.elapsed() >= Duration::from_millis(1100)) {
            server.kill().unwrap();
            server.wait().unwrap();
            server = serve();
            begun = None;
            restarts += 1;
        }
        is_over
    });
    server.kill().unwrap();
    server.wait().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert!(restarts > 1);
    same(&from, &to);
    // It is flushed often enough that something is kept of what was written between two restarts:
    // about 4.4 MiB are written again after each, and about 9 MiB without these flushes.
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let repeated = report["repeated"].as_u64().unwrap();
    assert!(
        repeated < restarts * (7 << 20),
        "{repeated} bytes after {restarts} restarts"
    );
}

/// Another server would not have what was written to the first one.
#[test]
fn a_command_that_ends_is_not_run_again() {
    let dir = Dir::new();
    let (from, pids) = (full_disk(&dir, "from", 16 << 20), dir.path("pids"));
    let script = format!("echo $$ >>'{pids}'; exec nbdkit memory 16M");
    let server = ["[", "sh", "-c", &script, "]"];
    let args = [&["--rate=8M", "--progress=1", &from][..], &server].concat();
    let output = at_percent(start(&args), 5, |_| {
        let pid = std::fs::read_to_string(&pids).unwrap();
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    });
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&pids).unwrap().lines().count(), 1);
    // Nor is it run more often for more connections.
    let server = ["[", "nbdkit", "memory", "16M", "]"];
    copied(
        &[
            &["-C8", "--verify", "--request-size=64K", &from][..],
            &server,
        ]
        .concat(),
    );
    let (code, _) = failed(&["[", "false", "]", "null:"]);
    assert_eq!(code, 1);
}

#[test]
fn a_server_that_is_silent_is_lost_after_a_while_if_that_is_asked_for() {
    let dir = Dir::new();
    let (from, to) = (full_disk(&dir, "from", 16 << 20), dir.disk("to", 16 << 20));
    let server = Restarted::new(&dir, "socket", &to);
    let options = ["--rate=8M", "--progress=1", "--stall=1", "--retry=0"];
    let child = start(&[&options[..], &[&from, &server.uri()]].concat());
    let output = at_percent(child, 10, |_| send(&server.child, Signal::STOP));
    assert_eq!(output.status.code(), Some(1));
    let said = errors(&output);
    // Over that connection for 1 s, or over a further one in reply to the handshake.
    assert!(said.contains("sent no"), "{said}");
}
