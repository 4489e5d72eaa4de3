//! Running the program, and disks to copy.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::server::{Dir, Server, run};
use crate::watchdog::within;

use crate::process::nbd;
pub(crate) use crate::process::{eventually, send};

/// The size of a [`disk`] in bytes.
pub(crate) const SIZE: u64 = 8 << 20;

/// Our program.
pub(crate) fn copy(args: &[&str]) -> Command {
    let mut command = nbd();
    command.arg("copy").args(args);
    command
}

/// Runs a program to its end.
#[track_caller]
pub(crate) fn ended(mut command: Command) -> Output {
    within(move || command.output().unwrap())
}

/// Copies, and returns what the program printed.
#[track_caller]
pub(crate) fn copied(args: &[&str]) -> Output {
    let output = ended(copy(args));
    assert_eq!(
        output.status.code(),
        Some(0),
        "{args:?}: {}",
        errors(&output)
    );
    output
}

/// Copies with `--json`, and returns the report.
#[track_caller]
pub(crate) fn report(args: &[&str]) -> Value {
    let output = copied(&[&["--json"], args].concat());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Copies in vain, and returns the exit code and the complaint.
#[track_caller]
pub(crate) fn failed(args: &[&str]) -> (i32, String) {
    let output = ended(copy(args));
    assert_eq!(output.stdout, b"", "{args:?}");
    (output.status.code().unwrap(), errors(&output))
}

pub(crate) fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file of 8 MiB: data, a hole, data that is zero, and data at the end.
pub(crate) fn disk(dir: &Dir, name: &str) -> String {
    let path = dir.disk(name, SIZE);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    write(&file, 0, 1 << 20);
    file.write_all_at(&vec![0; 1 << 20], 2 << 20).unwrap();
    write(&file, 5 << 20, 300_000);
    write(&file, SIZE - 4096, 4096);
    path
}

/// A file of which every byte is data.
pub(crate) fn full_disk(dir: &Dir, name: &str, size: u64) -> String {
    let path = dir.disk(name, size);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    write(&file, 0, size);
    path
}

/// Writes bytes that differ from place to place, and are nowhere zero.
pub(crate) fn write(file: &File, offset: u64, length: u64) {
    let word =
        |at: u64| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 0x0101_0101_0101_0101).to_le_bytes();
    let words = (offset / 8)..(offset + length).div_ceil(8);
    let data: Vec<u8> = words.flat_map(word).collect();
    let length = usize::try_from(length).unwrap();
    file.write_all_at(&data[..length], offset).unwrap();
}

/// Compares two disks, without reading holes.
#[track_caller]
pub(crate) fn same(a: &str, b: &str) {
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", a, b]);
}

/// How many bytes of room a file takes.
pub(crate) fn room(path: &str) -> u64 {
    Path::new(path).metadata().unwrap().blocks() * 512
}

/// The URI of a server.
pub(crate) fn uri(server: &Server) -> String {
    format!("nbd+unix:///?socket={}", server.socket().display())
}

/// Starts to copy; both outputs can be read.
pub(crate) fn start(args: &[&str]) -> Child {
    let mut command = copy(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}
