use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use tokio::io::AsyncReadExt;

use super::*;
use crate::error::ChildReport;
use crate::transport::testing::{alone, descriptors, installed};
use crate::transport::{Joined, Transport};

const DELAY: Duration = Duration::from_secs(10);

fn run<const N: usize>(argv: [&str; N], name: Option<&str>) -> (Joined, Child) {
    let argv = Program::from_argv(argv);
    let (socket, child) = start(&argv, name, DELAY, io::sink()).unwrap();
    (Transport::from(socket).join(), child)
}

/// How a program ends that does not accept the connection.
async fn ending<const N: usize>(argv: [&str; N], name: Option<&str>) -> ChildReport {
    ended(argv, name).await.1
}

async fn ended<const N: usize>(argv: [&str; N], name: Option<&str>) -> (Child, ChildReport) {
    let (mut stream, mut child) = run(argv, name);
    // Ends before the child is waited for.
    match stream.read(&mut [0]).await {
        Ok(length) => assert_eq!(length, 0),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    child.ended().await;
    let report = child.report().await;
    (child, report)
}

async fn greets<const N: usize>(argv: [&str; N]) {
    if !installed(argv[0]) {
        return;
    }
    let (mut stream, mut child) = run(argv, None);
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
    drop(stream);
    assert!(child.terminate().await.is_some());
}

#[tokio::test]
async fn nbdkit_greets() {
    greets(["nbdkit", "memory", "1M"]).await;
}

#[tokio::test]
async fn qemu_nbd_greets() {
    greets(["qemu-nbd", "--image-opts", "driver=null-co,size=1M"]).await;
}

// Its exit would never come.
#[tokio::test]
async fn server_that_listens_is_told_to_go_at_once() {
    let argv = Program::new("sleep").arg("1000");
    let (_stream, mut child) = start(&argv, None, Duration::MAX, io::sink()).unwrap();
    child.close(Duration::ZERO);
    assert!(child.is_due());
    assert!(child.terminate().await.is_some());
}

#[test]
fn impossible_names_are_refused_with_a_reason() {
    let argv = Program::new("true");
    let refused = |name| check(&argv, Some(name)).unwrap_err().to_string();
    for name in ["a b", "a:b", "\u{e4}", "a\n"] {
        let text = format!("the socket name {name:?} must consist of ASCII letters and digits");
        assert_eq!(refused(name), text);
    }
    let long = "a".repeat(33);
    let text = "the socket name has 33 bytes, and must not have more than 32";
    assert_eq!(refused(&long), text);
    for name in [None, Some(""), Some("a1"), Some(&long[1..])] {
        check(&argv, name).unwrap();
    }
}

#[test]
fn k41_program_that_looks_like_an_option_is_refused() {
    let argv = Program::new("-c").arg("true");
    let error = spawn(&argv, None, DELAY).unwrap_err();
    let text = "must not begin with \"-\"";
    assert!(error.to_string().contains(text), "{error}");
}

#[tokio::test]
async fn k41_arguments_are_passed_as_they_are() {
    let printf = "printf '%s|' \"$@\" >&2";
    let report = ending(
        ["sh", "-c", printf, "sh", "a b", "$HOME;'\"", "-x", ""],
        None,
    )
    .await;
    assert_eq!(report.stderr().as_str(), "a b|$HOME;'\"|-x||");
}

#[tokio::test]
async fn the_words_of_another_shell_are_not_taken_for_those_of_ours() {
    let (child, report) = ended(["no-such-nbd-server"], None).await;
    let error = child.run_failure(&report).unwrap().to_string();
    assert!(
        error.contains("cannot run \"no-such-nbd-server\""),
        "{error}"
    );
    let (child, report) = ended(["sh", "-c", "exec no-such-nbd-server"], None).await;
    assert_eq!(report.status().unwrap().code(), Some(127));
    assert!(child.run_failure(&report).is_none());
}

#[tokio::test]
async fn k42_program_that_cannot_run_is_named_by_the_child() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "").unwrap();
    for (program, status) in [
        ("no-such-nbd-server", 127),
        ("/nonexistent/server", 127),
        (plain.to_str().unwrap(), 126),
    ] {
        let report = ending([program], None).await;
        assert_eq!(report.status().unwrap().code(), Some(status));
        assert!(report.stderr().as_str().contains(program), "{report}");
    }
}

#[tokio::test]
async fn k42_stream_of_a_child_that_exits_at_once_ends() {
    let report = ending(["sh", "-c", "echo why >&2; exit 3"], None).await;
    assert_eq!(report.status().unwrap().code(), Some(3));
    assert_eq!(report.stderr().as_str(), "why\n");
}

#[test]
fn k48_variables_of_our_own_activation_are_replaced() {
    let name = "transport::activation::tests::k48_variables_of_our_own_activation_are_replaced";
    if !alone(
        name,
        &[
            "LISTEN_PID=1",
            "LISTEN_FDS=7",
            "LISTEN_FDNAMES=a:b",
            "LISTEN_PIDFDID=9",
        ],
    ) {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let script = "test $LISTEN_PID = $$ && env | grep ^LISTEN_ | grep -v _PID= | sort >&2";
    for (name, seen) in [(None, "unknown"), (Some(""), "unknown"), (Some("x1"), "x1")] {
        let report = runtime.block_on(ending(["sh", "-c", script], name));
        let expected = format!("LISTEN_FDNAMES={seen}\nLISTEN_FDS=1\n");
        assert_eq!(report.stderr().as_str(), expected);
    }
}

#[test]
fn k46_child_gets_the_listening_socket_and_no_other_descriptor() {
    let name =
        "transport::activation::tests::k46_child_gets_the_listening_socket_and_no_other_descriptor";
    if !alone(name, &[]) {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let script = "readlink /proc/self/fd/0 /proc/self/fd/3 >&2; ls /proc/self/fd >&2";
    let report = runtime.block_on(ending(["sh", "-c", script], None));
    let mut said = report.stderr().as_str().lines();
    assert_eq!(said.next(), Some("/dev/null"));
    assert!(said.next().unwrap().starts_with("socket:"));

    // Whoever runs the tests may have left descriptors open for all.
    let inherited = descriptors()
        .into_iter()
        .filter(|(_, inherited)| *inherited);
    let mut known = inherited.map(|(name, _)| name).collect::<BTreeSet<_>>();
    known.insert("3".into());
    let unknown = said.filter(|fd| !known.contains(*fd));
    // The directory that is being listed.
    assert_eq!(unknown.count(), 1);
}

#[test]
fn k48_directory_is_ours_alone_and_leaves_with_its_socket() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::new(root.path()).unwrap();
    let mode = fs::metadata(&directory.0).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let _listener = net::UnixListener::bind(directory.socket()).unwrap();
    drop(directory);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn k48_nothing_is_left_when_the_socket_cannot_be_made() {
    let root = tempfile::tempdir().unwrap();
    // Too long for the address of a socket.
    let deep = root.path().join("a".repeat(108));
    fs::create_dir(&deep).unwrap();
    let error = listen(&deep).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(fs::read_dir(&deep).unwrap().count(), 0);
}

#[test]
fn k48_nothing_is_left_while_the_server_runs() {
    let name = "transport::activation::tests::k48_nothing_is_left_while_the_server_runs";
    let root = tempfile::tempdir().unwrap();
    let root = root.path().to_str().unwrap();
    if !alone(name, &[&format!("TMPDIR={root}")]) {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _guard = runtime.enter();
    let (_stream, child) = run(["sleep", "1000"], None);
    for entry in fs::read_dir(env::temp_dir()).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(!name.as_bytes().starts_with(b"nbd-client"), "{name:?}");
    }
    child.handle().process.kill(Signal::KILL.as_raw()).unwrap();
}
