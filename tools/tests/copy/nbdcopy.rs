//! Both programs do the same.

use std::fs;
use std::process::{Command, Output, Stdio};

use crate::run::{SIZE, copy, disk, ended, errors, full_disk, room, uri};
use crate::server::{Dir, Server};

/// Runs both with the same arguments; `DEST` among them becomes a file of each program's own.
fn both(dir: &Dir, args: &[&str]) -> [(Output, String); 2] {
    [("theirs", Command::new("nbdcopy")), ("ours", copy(&[]))].map(|(name, mut command)| {
        let path = dir.path(name);
        let args = args.iter().map(|arg| arg.replace("DEST", &path));
        command.args(args).stdin(Stdio::null());
        (ended(command), path)
    })
}

/// Both succeed and write the same. We need no more room, but with `--allocated`, where nbdcopy 1.14
/// leaves holes.
fn alike(dir: &Dir, args: &[&str]) {
    let [(theirs, file), (ours, our_file)] = both(dir, args);
    assert_eq!(
        theirs.status.code(),
        Some(0),
        "{args:?}: {}",
        errors(&theirs)
    );
    assert_eq!(ours.status.code(), Some(0), "{args:?}: {}", errors(&ours));
    assert!(theirs.stdout == ours.stdout, "{args:?}");
    if args.iter().any(|arg| arg.contains("DEST")) {
        assert!(
            fs::read(&file).unwrap() == fs::read(&our_file).unwrap(),
            "{args:?}"
        );
        if !args.contains(&"--allocated") {
            assert!(room(&our_file) <= room(&file), "{args:?}");
        }
    }
}

#[test]
fn files_are_copied_alike() {
    let dir = Dir::new();
    let disk = disk(&dir, "disk");
    for options in [
        &[][..],
        &["--allocated"],
        &["--flush"],
        &["--no-extents"],
        &["-S", "0"],
        &["--no-extents", "-S", "65536"],
        &["--request-size=65536", "--queue-size=1048576"],
        &["--synchronous"],
        &["-T", "1", "-C", "1", "-R", "1"],
    ] {
        alike(&dir, &[options, &[&disk, "DEST"]].concat());
    }
}

#[test]
fn exports_are_copied_alike() {
    let dir = Dir::new();
    let disk = disk(&dir, "disk");
    for server in [
        Server::nbdkit(&["file", &disk]),
        Server::qemu(&["-r", "-f", "raw", &disk]),
    ] {
        let uri = uri(&server);
        for options in [
            &[][..],
            &["--allocated", "--flush"],
            &["--connections=2", "--threads=2", "--requests=4"],
            &["--no-extents", "--sparse=0"],
        ] {
            alike(&dir, &[options, &[&uri, "DEST"]].concat());
        }
        alike(&dir, &[&uri, "-"]);
        alike(&dir, &[&uri, "null:"]);
    }
}

#[test]
fn commands_are_run_alike() {
    let dir = Dir::new();
    let disk = full_disk(&dir, "disk", SIZE);
    alike(
        &dir,
        &["--", "[", "nbdkit", "-r", "file", &disk, "]", "DEST"],
    );
    alike(
        &dir,
        &["--", "[", "qemu-nbd", "-r", "-f", "raw", &disk, "]", "-"],
    );
    alike(&dir, &["--", &disk, "[", "nbdkit", "memory", "8M", "]"]);
    alike(
        &dir,
        &["--", "/dev/null", "[", "nbdkit", "memory", "8M", "]"],
    );
}

#[test]
fn progress_is_told_alike() {
    let dir = Dir::new();
    let disk = full_disk(&dir, "disk", SIZE);
    let ends = both(&dir, &["--progress=1", &disk, "null:"]).map(|(output, _)| {
        let lines = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<_> = lines.lines().map(str::to_owned).collect();
        (lines[0].clone(), lines[lines.len() - 1].clone())
    });
    assert_eq!(ends[0], ends[1]);
    assert_eq!(ends[0].1, "100/100");
}

#[test]
fn both_fail_in_the_same_cases() {
    let dir = Dir::new();
    let disk = full_disk(&dir, "disk", SIZE);
    let server = Server::nbdkit(&["memory", "4M"]);
    let (uri, gone) = (uri(&server), "nbd+unix:///?socket=/nonexistent");
    for args in [
        &["/nonexistent", "DEST"][..],
        &[&disk, "/nonexistent/file"],
        &[&disk, &uri],
        &[gone, "DEST"],
        &[&disk, gone],
        &["null:", "DEST"],
        &[&disk],
        &["--nonsense", &disk, "DEST"],
        &["-S", "100", &disk, "DEST"],
        &["--request-size=1", &disk, "DEST"],
        &["[", "nbdkit", &disk],
    ] {
        for (output, _) in both(&dir, args) {
            assert_ne!(output.status.code(), Some(0), "{args:?}");
        }
    }
}
