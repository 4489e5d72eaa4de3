//! Servers that are run with an environment, a directory and a user of their own.

use std::process::Command as StdCommand;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nbd_client::{Connection, Connector, Error, Program};
use tokio::process::Command;

use crate::shared::server::Dir;

/// A script that notes what it was run with, and becomes nbdkit.
const NOTE: &str = "{ echo \"$GIVEN|$KEPT\"; pwd -P; id -u; id -g; } >\"$NOTES\"; \
                    exec nbdkit \"$@\" --exit-with-parent memory 1M";

/// What the script noted: two variables, and directory, user and group.
fn noted(dir: &Dir) -> (String, String, String) {
    let notes = std::fs::read_to_string(dir.path("notes")).unwrap();
    let mut lines = notes.lines().map(str::to_owned);
    let mut next = || lines.next().unwrap();
    let (variables, directory) = (next(), next());
    (variables, directory, format!("{}:{}", next(), next()))
}

/// Our own user and group.
fn us() -> String {
    let id = |what: &str| {
        let output = StdCommand::new("id").arg(what).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    format!("{}:{}", id("-u"), id("-g"))
}

fn directory(dir: &Dir) -> String {
    let path = std::fs::canonicalize(dir.path("")).unwrap();
    path.to_str().unwrap().to_owned()
}

fn program(dir: &Dir) -> Program {
    Program::new("sh")
        .arg("-c")
        .args([NOTE, "sh"])
        .env("NOTES", dir.path("notes"))
        .env("GIVEN", "by us")
        .current_dir(dir.path(""))
}

#[track_caller]
fn is_as_told(dir: &Dir) {
    let (variables, place, who) = noted(dir);
    assert_eq!((&*variables, who), ("by us|", us()));
    assert_eq!(place, directory(dir));
    std::fs::remove_file(dir.path("notes")).unwrap();
}

async fn works(conn: &Connection) {
    conn.write(0, vec![1; 512]).await.unwrap();
    assert_eq!(conn.size().unwrap(), 1 << 20);
    assert!(conn.child_id().is_some());
    conn.disconnect().await.unwrap();
}

both_runtimes!(program_is_run_as_it_says_again_and_again);
async fn program_is_run_as_it_says_again_and_again() {
    let dir = Dir::new();
    let program = program(&dir);
    let stdio = program.clone().arg("-s");
    let conn = Connection::new();
    conn.connect_command(&stdio).await.unwrap();
    works(&conn).await;
    is_as_told(&dir);

    let conn = Connection::new();
    let connected = conn.connect_systemd_socket_activation(&program).await;
    connected.unwrap();
    works(&conn).await;
    is_as_told(&dir);

    for connector in [
        Connector::command(stdio),
        Connector::socket_activation(program),
    ] {
        for _ in 0..2 {
            works(&Connection::builder().connect(&connector).await.unwrap()).await;
            is_as_told(&dir);
        }
    }
}

both_runtimes!(a_command_that_serves_a_socket_of_its_own_is_explained);
async fn a_command_that_serves_a_socket_of_its_own_is_explained() {
    let dir = Dir::new();
    let socket = dir.path("socket");
    let hint = "does it listen elsewhere? A server that is run as a command must speak on its \
                standard input and output, as `nbdkit -s` does";
    let nbdkit = ["nbdkit", "-f", "-U", &socket, "memory", "1M"];
    // nbdkit closes its standard streams, and others keep them.
    for server in [&nbdkit[..], &["sleep", "60"]] {
        let conn = Connection::builder()
            .handshake_timeout(Duration::from_millis(200))
            .build();
        let error = conn.connect_command(server).await.unwrap_err();
        assert!(error.to_string().contains(hint), "{error}");
    }
}

both_runtimes!(commands_of_others_are_run_as_they_say);
async fn commands_of_others_are_run_as_they_say() {
    let dir = Dir::new();
    let command = |dir: &Dir| {
        let mut command = StdCommand::new("sh");
        command.args(["-c", NOTE, "sh", "-s"]);
        command.env("NOTES", dir.path("notes"));
        command.env("GIVEN", "by us").current_dir(dir.path(""));
        // All of this is the connection's business.
        command.stdin(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        command
    };
    let conn = Connection::new();
    conn.connect_command(command(&dir)).await.unwrap();
    works(&conn).await;
    is_as_told(&dir);

    let mut tokio = Command::from(command(&dir));
    tokio.kill_on_drop(true);
    let conn = Connection::new();
    conn.connect_command(tokio).await.unwrap();
    works(&conn).await;
    is_as_told(&dir);

    let (made, counted) = (Arc::new(AtomicUsize::new(0)), dir.path("notes"));
    let counter = made.clone();
    let connector = Connector::command_with(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        let mut command = Command::new("sh");
        command.args(["-c", NOTE, "sh", "-s"]).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.env("NOTES", &counted);
        command
    });
    for _ in 0..2 {
        works(&Connection::builder().connect(&connector).await.unwrap()).await;
        assert_eq!(noted(&dir).0, "|");
    }
    assert_eq!(made.load(Ordering::Relaxed), 2);
}

// The words, the process group and the end of a server are ours whoever made its command.
both_runtimes!(child_of_a_command_is_reported_and_ended_as_any_other);
async fn child_of_a_command_is_reported_and_ended_as_any_other() {
    let mut command = StdCommand::new("sh");
    command.args(["-c", "echo 'no such disk' >&2; exit 3"]);
    command.stderr(std::process::Stdio::inherit());
    let error = Connection::new().connect_command(command).await;
    let error = error.unwrap_err();
    let child = error.child().unwrap();
    assert_eq!(child.status().unwrap().code(), Some(3));
    assert_eq!(child.stderr().as_str(), "no such disk\n");

    let error = Connection::new()
        .connect_command(Command::new("/nonexistent/server"))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Disconnected(..)), "{text}");
    assert!(
        text.contains("cannot run \"/nonexistent/server\""),
        "{text}"
    );

    let mut command = StdCommand::new("nbdkit");
    command.args(["-s", "memory", "1M"]);
    let conn = Connection::new();
    conn.connect_command(command).await.unwrap();
    let pid = conn.child_id().unwrap();
    // It leads a group.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit_once(')').unwrap().1;
    let group = after.split_whitespace().nth(2).unwrap();
    assert_eq!(group, pid.to_string());
    works(&conn).await;
}

/// Needs to be root, as continuous integration is.
#[tokio::test]
async fn program_is_run_by_another_user() {
    if us() != "0:0" {
        return;
    }
    let (nobody, script) = (65534, "id -u >&2; id -g >&2; exit 1");
    let program = Program::new("sh").args(["-c", script]);
    let program = program.uid(nobody).gid(nobody);
    for by_activation in [false, true] {
        let conn = Connection::new();
        let result = if by_activation {
            conn.connect_systemd_socket_activation(&program).await
        } else {
            conn.connect_command(&program).await
        };
        let error = result.unwrap_err();
        let said = error.child().unwrap().stderr().as_str();
        assert_eq!(said, "65534\n65534\n");
    }
}

#[tokio::test]
async fn environment_is_cleared_and_kept_out_of_debug() {
    let script = "env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= -e ^OLDPWD= >&2";
    let path = std::env::var_os("PATH").unwrap();
    let program = Program::new("/bin/sh")
        .args(["-c", script])
        .env("LOST", "1")
        .env_clear()
        .env("SECRET", "sesame")
        .env("PATH", &path)
        .env("GONE", "1")
        .env_remove("GONE");
    let error = Connection::new().connect_command(&program).await;
    let error = error.unwrap_err();
    let said = error.child().unwrap().stderr().as_str();
    let mut lines: Vec<_> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [&*format!("PATH={}", path.display()), "SECRET=sesame"]
    );
    let debug = format!("{program:?} {:?}", Connector::command(&program));
    assert!(
        debug.contains("SECRET") && !debug.contains("sesame"),
        "{debug}"
    );
}
