//! The examples, run as their users run them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

mod nbdkit;

/// The path of an example. The first call builds all of them, as they are no part of this package.
fn example(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(build).join(name)
}

fn build() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().unwrap().parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.args(["build", "--quiet", "--examples", "--no-default-features"]);
    cargo.arg(format!("--features={}", features().join(",")));
    cargo.arg("--target-dir").arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    profile.join("examples")
}

/// The features of this test: with others, Cargo would build all dependencies once more.
fn features() -> Vec<&'static str> {
    [
        ("tls", cfg!(feature = "tls")),
        ("tls-aws-lc-rs", cfg!(feature = "tls-aws-lc-rs")),
        ("tls-native-roots", cfg!(feature = "tls-native-roots")),
        ("tls-psk", cfg!(feature = "tls-psk")),
        ("vsock", cfg!(feature = "vsock")),
        ("wire", cfg!(feature = "wire")),
        ("test-util", cfg!(feature = "test-util")),
    ]
    .into_iter()
    .filter_map(|(name, is_on)| is_on.then_some(name))
    .collect()
}

/// Runs an example to its end; gives its exit code, and what it printed and complained about.
fn run(command: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn a_closed_pipe_is_no_failure() {
    for args in [&["--help"][..], &["--seconds", "0.1"]] {
        let (reader, writer) = UnixStream::pair().unwrap();
        drop(reader);
        let mut command = Command::new(example("quickstart"));
        command.args(args).stdout(OwnedFd::from(writer));
        let output = command.stderr(Stdio::piped()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {errors}");
        assert_eq!(errors, "", "{args:?}");
    }
}

#[test]
fn more_than_the_export_has_is_not_cut_down_in_silence() {
    let mut command = Command::new(example("quickstart"));
    let (status, _, errors) = run(command.args(["--region", "1G"]));
    assert_eq!(status, 1, "{errors}");
    assert!(errors.contains("--region 1073741824: at most"), "{errors}");
}

#[test]
fn a_size_that_is_none_is_told_from_one_that_is() {
    let mut command = Command::new(example("quickstart"));
    let (status, _, errors) = run(command.args(["--block-size", "K"]));
    assert_eq!(status, 2, "{errors}");
    let wanted = "--block-size K: expected a size such as 512, 64K or 1M";
    assert!(errors.contains(wanted), "{errors}");
}

#[test]
fn own_stream_reads_and_writes() {
    let (status, text, errors) = run(&mut Command::new(example("own_stream")));
    assert_eq!((status, &*errors), (0, ""));
    assert!(text.contains("client reads: from the server"), "{text}");
    assert!(text.contains("server holds: from the client"), "{text}");
}
