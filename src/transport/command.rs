//! A server as child process that speaks on its standard input and output.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::process;

use super::child::{Child, Terms};
use super::parent::Parent;
use super::unix;
use crate::error::{Error, Phase, Result, trying, trying_with_hint};

/// How long a server may take to exit by itself once its standard input is at its end.
const GRACE: Duration = Duration::from_millis(500);

/// Which process group a program is in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Group {
    /// One of its own, so that all it starts can be ended with it. To a terminal it is in the
    /// background: it gets no signals from there, and is stopped if it reads from there.
    Own,
    /// Ours, for a program that may ask something on the terminal.
    Ours,
}

/// Starts a program, never through a shell, with a socket as its standard input and output. What
/// the command says of its standard streams and its process group is replaced.
///
/// What it writes to its standard error goes to ours; the end of it is kept for the report.
///
/// Must be called inside a Tokio runtime.
pub(crate) fn spawn(
    command: Command,
    group: Group,
    kill_delay: Duration,
) -> Result<(unix::Stream, Child)> {
    let terms = Terms {
        grace: GRACE,
        kill_delay,
        leads: group == Group::Own,
    };
    start(command, terms, io::stderr())
}

fn start(
    command: Command,
    terms: Terms,
    stderr: impl Write + Send + 'static,
) -> Result<(unix::Stream, Child)> {
    let program = command.get_program().to_owned();
    let directory = command.get_current_dir().map(Path::to_owned);
    launch(command, terms, stderr).map_err(|error| not_run(&program, directory.as_deref(), error))
}

/// The program could not be run, perhaps for its directory.
pub(super) fn not_run(program: &OsStr, directory: Option<&Path>, error: io::Error) -> Error {
    if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
        let what = format!("cannot run {program:?} in the directory {directory:?}");
        return Error::io(Phase::Connect, trying(what, error));
    }
    let what = format!("cannot run {program:?}");
    let hint = match program.as_bytes().contains(&b'/') {
        true => "is it installed there?",
        // Only such a name is looked up.
        false => "is it installed, and in PATH?",
    };
    let error = match error.kind() {
        io::ErrorKind::NotFound => trying_with_hint(what, error, hint),
        _ => trying(what, error),
    };
    Error::io(Phase::Connect, error)
}

fn launch(
    mut command: Command,
    terms: Terms,
    stderr: impl Write + Send + 'static,
) -> io::Result<(unix::Stream, Child)> {
    let parent = Parent::get()?;
    // `std` and not Tokio's pair: the child's end stays blocking, as programs expect of their
    // standard input.
    let (ours, theirs) = net::UnixStream::pair()?;
    // Before the child is started: Tokio has to register its pipe and its exit, too, and where
    // that fails leaves it to itself. So what can fail (no I/O driver, no room) fails here; and
    // if not, the child at least sees the end of its input.
    let ours = unix::Stream::new(ours)?;
    let theirs = OwnedFd::from(theirs);

    command
        .stdin(theirs.try_clone()?)
        .stdout(theirs)
        .stderr(Stdio::piped());
    if terms.leads {
        command.process_group(0);
    }
    // Tokio does not kill it on drop: it has its own way to end, see `Child`.
    let child = parent.start(process::Command::from(command))?;
    Ok((ours, Child::new(child, parent, stderr, terms)?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::process::ExitStatusExt;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::error::raw_os_error;
    use crate::transport::program::Program;
    use crate::transport::testing::{alone, descriptors, eventually};
    use crate::transport::{Joined, Transport};

    const TERMS: Terms = Terms {
        grace: Duration::from_secs(10),
        kill_delay: Duration::from_secs(10),
        leads: true,
    };

    fn run<const N: usize>(argv: [&str; N]) -> (Joined, Child) {
        let program = Program::from_argv(argv);
        let (socket, child) = start(program.command(), TERMS, io::sink()).unwrap();
        (Transport::from(socket).join(), child)
    }

    #[test]
    fn k41_impossible_commands_are_refused_with_a_reason() {
        let refused = |argv: &[&str]| Program::from_argv(argv).check().unwrap_err().to_string();
        assert_eq!(refused(&[]), "the command is empty");
        let empty = "the name of the program is empty";
        assert_eq!(refused(&["", "x"]), empty);
        let nul = "the command contains a NUL character";
        assert_eq!(refused(&["tr\0ue"]), nul);
        assert_eq!(refused(&["true", "\0"]), nul);
        let refused = |program: Program| program.check().unwrap_err().to_string();
        let program = || Program::new("true");
        let nul = "the environment of the command contains a NUL character";
        assert_eq!(refused(program().env("A", "\0")), nul);
        assert_eq!(refused(program().env_remove("\0")), nul);
        let nul = "the directory of the command contains a NUL character";
        assert_eq!(refused(program().current_dir("\0")), nul);
    }

    #[tokio::test]
    async fn k41_program_that_cannot_run_is_named_and_the_reason_kept() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        fs::write(&plain, "").unwrap();
        let (missing, denied) = ("no such file or directory", "permission denied");
        for (program, why, hint, number) in [
            (
                dir.path().join("none"),
                missing,
                " (is it installed there?)",
                2,
            ),
            (dir.path().into(), denied, "", 13),
            (plain, denied, "", 13),
            (
                "no-such-nbd-server".into(),
                missing,
                " (is it installed, and in PATH?)",
                2,
            ),
        ] {
            let error = start(Command::new(&program), TERMS, io::sink()).unwrap_err();
            let Error::Disconnected(lost, _) = &error else {
                panic!("{error:?}");
            };
            assert_eq!(lost.phase(), Phase::Connect);
            let kind = io::Error::from_raw_os_error(number).kind();
            assert_eq!(lost.io().kind(), kind);
            assert_eq!(raw_os_error(lost.io()), Some(number));
            let text = format!("cannot run {program:?}: {why}{hint}");
            assert_eq!(error.to_string(), text);
        }
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_is_named() {
        let mut command = Command::new("true");
        command.current_dir("/nonexistent");
        let error = start(command, TERMS, io::sink()).unwrap_err();
        let text =
            "cannot run \"true\" in the directory \"/nonexistent\": no such file or directory";
        assert_eq!(error.to_string(), text);
    }

    #[tokio::test]
    async fn arguments_are_passed_as_they_are() {
        let (mut stream, mut child) = run(["printf", "%s|", "a b", "$HOME;'\"", "-x", ""]);
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "a b|$HOME;'\"|-x||");
        assert!(child.wait().await.status().unwrap().success());
    }

    #[tokio::test]
    async fn child_speaks_on_its_standard_streams_and_stops_at_their_end() {
        let (mut stream, mut child) = run(["cat"]);
        stream.write_all(b"ping").await.unwrap();
        let mut buffer = [0; 4];
        stream.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"ping");
        drop(stream);
        let status = child.terminate().await;
        assert!(status.unwrap().success());
    }

    #[tokio::test]
    async fn k42_stream_of_a_child_that_exits_at_once_ends() {
        let (mut stream, mut child) = run(["sh", "-c", "echo hello; echo why >&2; exit 3"]);
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "hello\n");
        let report = child.wait().await;
        assert_eq!(report.status().unwrap().code(), Some(3));
        assert_eq!(report.stderr().as_str(), "why\n");
    }

    #[tokio::test]
    async fn child_dies_of_a_broken_pipe_as_usual() {
        let (_stream, mut child) = run(["sh", "-c", "yes | true; kill -PIPE $$"]);
        let report = child.wait().await;
        assert_eq!(report.status().unwrap().signal(), Some(13));
    }

    #[test]
    fn k46_child_gets_no_other_descriptor() {
        let name = "transport::command::tests::k46_child_gets_no_other_descriptor";
        if !alone(name, &[]) {
            return;
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let said = runtime.block_on(async {
            let (_stream, _other) = run(["cat"]);
            let (mut stream, mut child) = run(["ls", "/proc/self/fd"]);
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            child.wait().await;
            said
        });
        // Whoever runs the tests may have left descriptors open for all.
        let inherited = descriptors()
            .into_iter()
            .filter(|(_, inherited)| *inherited);
        let mut expected = inherited.map(|(name, _)| name).collect::<BTreeSet<_>>();
        assert!(expected.contains("0") && expected.contains("2"));
        // The directory that is being listed.
        let seen = said.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let directory = (0..).map(|fd: u32| fd.to_string());
        expected.extend(
            directory
                .filter(|fd| !expected.contains(fd))
                .take(1)
                .collect::<Vec<_>>(),
        );
        assert_eq!(seen, expected);
    }

    #[test]
    fn k46_no_descriptor_is_left_behind() {
        let name = "transport::command::tests::k46_no_descriptor_is_left_behind";
        if !alone(name, &[]) {
            return;
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _guard = runtime.enter();
        // What the first child brings for good.
        let (_, mut child) = run(["true"]);
        runtime.block_on(child.terminate());
        drop(child);
        // Some of it may still be on its way out.
        let before = descriptors().len();
        for _ in 0..100 {
            start(Command::new("/nonexistent"), TERMS, io::sink()).unwrap_err();
        }
        assert!(descriptors().len() <= before);
        for _ in 0..50 {
            drop(run(["cat"]));
        }
        eventually("all closed", || descriptors().len() <= before);
    }
}
