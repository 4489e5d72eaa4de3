//! Copies that go on where another one ended.

use std::fs::{self, OpenOptions};
use std::path::Path;

use rustix::process::Signal;

use crate::run::{
    copied, disk, eventually, failed, full_disk, report, room, same, send, start, uri, write,
};
use crate::server::{Dir, Server};
use crate::watchdog::within;

/// A source that is copied slowly at its end, long after the first checkpoint, which is kept after
/// 4 GiB: 6 GiB, of which a few MiB are data.
fn long_disk(dir: &Dir) -> String {
    let path = dir.disk("long", 6 << 30);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    write(&file, 0, 4 << 20);
    write(&file, 5 << 30, 32 << 20);
    path
}

/// Kills a copy when it has kept a checkpoint, and copies the rest.
fn killed(dir: &Dir, from: &str, to: &str) {
    let file = dir.path("resume.json");
    let resume = ["--resume", &file];
    let mut child = start(&[&resume[..], &["--rate=8M", from, to]].concat());
    eventually("a checkpoint", || Path::new(&file).exists());
    child.kill().unwrap();
    within(move || child.wait().unwrap());
    let report = report(&[&resume[..], &[from, to]].concat());
    let skipped = report["skipped"].as_u64().unwrap();
    assert!(skipped >= 4 << 30, "{report}");
    assert!(report["data"].as_u64().unwrap() > 0, "{report}");
    assert!(!Path::new(&file).exists());
}

#[test]
fn a_copy_of_files_that_is_killed_goes_on() {
    let dir = Dir::new();
    let (from, to) = (long_disk(&dir), dir.path("to"));
    killed(&dir, &from, &to);
    same(&from, &to);
    assert!(room(&to) <= 36 << 20, "{}", room(&to));
}

#[test]
fn a_copy_of_exports_that_is_killed_goes_on() {
    let dir = Dir::new();
    let (from, to) = (long_disk(&dir), dir.disk("to", 6 << 30));
    let source = Server::nbdkit(&["file", &from]);
    let destination = Server::qemu(&["-f", "raw", "--discard=unmap", &to]);
    killed(&dir, &uri(&source), &uri(&destination));
    drop(destination);
    same(&from, &to);
}

/// Leaves a checkpoint of a copy that was interrupted.
fn interrupted(resume: &str, from: &str, to: &str) {
    let child = start(&["--resume", resume, "--rate=8M", "--progress=1", from, to]);
    let child = crate::signals::at_percent(child, 10, |child| send(child, Signal::INT));
    assert_eq!(child.status.code(), Some(130));
    assert!(Path::new(resume).exists());
}

#[test]
fn the_checkpoint_of_another_copy_is_refused() {
    let dir = Dir::new();
    let (from, to, resume) = (
        full_disk(&dir, "from", 16 << 20),
        dir.path("to"),
        dir.path("r"),
    );
    interrupted(&resume, &from, &to);

    let other = dir.path("other");
    let (code, complaint) = failed(&["--resume", &resume, &from, &other]);
    assert_eq!(code, 1);
    let of = format!("{resume} is of the copy from {from} to {to}; remove it");
    assert!(complaint.contains(&of), "{complaint}");

    // The same names, and another disk.
    let before = fs::read(&from).unwrap();
    OpenOptions::new()
        .write(true)
        .open(&from)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let (code, complaint) = failed(&["--resume", &resume, &from, &to]);
    assert_eq!(code, 1);
    assert!(complaint.contains("another copy"), "{complaint}");
    assert!(
        complaint.contains(&format!("remove {resume}")),
        "{complaint}"
    );

    fs::write(&from, before).unwrap();
    copied(&["--resume", &resume, &from, &to]);
    same(&from, &to);
    assert!(!Path::new(&resume).exists());
}

#[test]
fn a_copy_that_is_not_the_same_is_not_gone_on_with() {
    let dir = Dir::new();
    let (from, resume) = (full_disk(&dir, "from", 1 << 20), dir.path("r"));
    // The plugin null takes writes and returns zeroes.
    let to = Server::nbdkit(&["null", "1M"]);
    let (code, complaint) = failed(&["--resume", &resume, "--verify", &from, &uri(&to)]);
    assert_eq!(code, 1);
    let advice = format!("; remove {resume} to copy from the start");
    assert!(complaint.trim_end().ends_with(&advice), "{complaint}");
}

#[test]
fn a_file_that_is_no_checkpoint_is_left_as_it_is() {
    let dir = Dir::new();
    let (from, to) = (disk(&dir, "from"), dir.path("to"));
    let resume = dir.file("resume", "{\"something\": \"else\"}");
    let (code, complaint) = failed(&["--resume", &resume, &from, &to]);
    assert_eq!(code, 1);
    assert!(
        complaint.contains(&format!("{resume} has no checkpoint")),
        "{complaint}"
    );
    assert_eq!(fs::read(&resume).unwrap(), b"{\"something\": \"else\"}");
}

#[test]
fn a_place_where_nothing_can_be_kept_is_refused_at_once() {
    let dir = Dir::new();
    let (from, to) = (disk(&dir, "from"), dir.path("to"));
    let (code, complaint) = failed(&["--resume=/nonexistent/r", &from, &to]);
    assert_eq!(code, 1);
    assert!(
        complaint.contains("cannot keep /nonexistent/r"),
        "{complaint}"
    );
    assert!(!Path::new(&to).exists());
}

#[test]
fn a_copy_that_succeeds_leaves_nothing_but_the_copy() {
    let dir = Dir::new();
    let (from, to, resume) = (disk(&dir, "from"), dir.path("to"), dir.path("resume"));
    copied(&["--resume", &resume, &from, &to]);
    same(&from, &to);
    let mut left: Vec<_> = fs::read_dir(dir.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["from", "to"]);
}
