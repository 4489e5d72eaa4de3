//! Sources and destinations.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::process::Stdio;

use crate::run::{SIZE, copied, copy, disk, errors, failed, full_disk, report, room, same, uri};
use crate::server::{Dir, Server, run};
use crate::watchdog::within;

#[test]
fn file_server_and_back() {
    let dir = Dir::new();
    let (disk, back) = (disk(&dir, "disk"), dir.path("back"));
    let server = Server::nbdkit(&["memory", "8M"]);
    let there = report(&[&disk, &uri(&server)]);
    assert_eq!(there["size"], SIZE);
    // In blocks of 64 KiB: 1 MiB, 300 000 bytes and 4 KiB.
    assert_eq!(there["data"], (16 + 5 + 1) << 16);
    copied(&[&uri(&server), &back]);
    same(&disk, &back);
    assert_eq!(room(&back), (1 << 20) + 303_104 + 4096);
}

#[test]
fn server_to_server() {
    let dir = Dir::new();
    let (disk, back) = (disk(&dir, "disk"), dir.disk("back", SIZE));
    let from = Server::qemu(&["-r", "-f", "raw", &disk]);
    let to = Server::nbdkit(&["file", &back]);
    copied(&[&uri(&from), &uri(&to)]);
    same(&disk, &back);
}

#[test]
fn commands_in_brackets_are_servers_and_have_options_of_their_own() {
    let dir = Dir::new();
    let (disk, image, back) = (disk(&dir, "disk"), dir.path("image"), dir.path("back"));
    run("qemu-img", &["create", "-q", "-f", "qcow2", &image, "8M"]);
    let writes = ["[", "qemu-nbd", "-f", "qcow2", &image, "]"];
    copied(&[&["--", &disk][..], &writes].concat());
    // The server has closed the image: it is not locked any more.
    run(
        "qemu-img",
        &["compare", "-f", "raw", "-F", "qcow2", &disk, &image],
    );
    let reads = ["[", "qemu-nbd", "-r", "-f", "qcow2", &image, "]"];
    copied(&[&reads[..], &[&back, "--flush"]].concat());
    same(&disk, &back);
    let both = [
        "[", "nbdkit", "-r", "memory", "1M", "]", "[", "nbdkit", "memory", "2M", "]",
    ];
    assert_eq!(report(&both)["zeroes"], 1 << 20);
}

#[test]
fn null_takes_everything() {
    let dir = Dir::new();
    let report = report(&[&disk(&dir, "disk"), "null:"]);
    assert_eq!(report["size"], SIZE);
    assert!(!fs::exists("null:").unwrap());
}

#[test]
fn standard_output_as_a_pipe_has_every_byte() {
    let dir = Dir::new();
    let disk = disk(&dir, "disk");
    assert!(copied(&[&disk, "-"]).stdout == fs::read(&disk).unwrap());
    let server = Server::nbdkit(&["file", &disk]);
    assert!(copied(&[&uri(&server), "-"]).stdout == fs::read(&disk).unwrap());
}

#[test]
fn standard_input_as_a_pipe_is_copied_to_its_end() {
    let dir = Dir::new();
    let (disk, back) = (disk(&dir, "disk"), dir.disk("back", SIZE));
    let server = Server::nbdkit(&["file", &back]);
    for (destination, written) in [(uri(&server), back), (dir.path("b"), dir.path("b"))] {
        let mut child = copy(&["-", &destination])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(&fs::read(&disk).unwrap()).unwrap();
        drop(input);
        assert!(within(move || child.wait().unwrap()).success());
        same(&disk, &written);
    }
}

#[test]
fn standard_input_and_output_as_files_keep_their_holes() {
    let dir = Dir::new();
    let (disk, back) = (disk(&dir, "disk"), dir.path("back"));
    let mut command = copy(&["-", "-"]);
    command.stdin(File::open(&disk).unwrap());
    command.stdout(File::create(&back).unwrap());
    assert!(within(move || command.status().unwrap()).success());
    same(&disk, &back);
    assert!(room(&back) < SIZE / 2, "{}", room(&back));
}

#[test]
fn what_others_have_read_and_written_is_left_to_them() {
    let dir = Dir::new();
    let (disk, back) = (full_disk(&dir, "disk", 10_000), dir.file("back", "before"));
    let mut input = File::open(&disk).unwrap();
    input.read_exact(&mut [0; 1000]).unwrap();
    let appended = OpenOptions::new().append(true).open(&back).unwrap();
    let mut command = copy(&["-", "-"]);
    command.stdin(input).stdout(appended);
    assert!(within(move || command.status().unwrap()).success());
    let expected = [b"before", &fs::read(&disk).unwrap()[1000..]].concat();
    assert!(fs::read(&back).unwrap() == expected);
}

#[test]
fn named_pipes_are_streams() {
    let dir = Dir::new();
    let (disk, back) = (disk(&dir, "disk"), dir.path("back"));
    let (first, second) = (dir.path("first"), dir.path("second"));
    run("mkfifo", &[&first, &second]);
    let mut writer = copy(&[&disk, &first]).spawn().unwrap();
    let mut middle = copy(&[&first, &second]).spawn().unwrap();
    copied(&[&second, &back]);
    assert!(within(move || writer.wait().unwrap()).success());
    assert!(within(move || middle.wait().unwrap()).success());
    same(&disk, &back);
}

#[test]
fn a_reader_that_leaves_is_a_failure() {
    let dir = Dir::new();
    let disk = full_disk(&dir, "disk", SIZE);
    let mut command = copy(&[&disk, "-"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = within(|| child.wait_with_output().unwrap());
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors(&output).contains("cannot write the destination"),
        "{}",
        errors(&output)
    );
}

#[test]
fn destinations_that_are_too_small_are_refused() {
    let dir = Dir::new();
    let disk = full_disk(&dir, "disk", SIZE);
    let server = Server::nbdkit(&["memory", "4M"]);
    let (code, complaint) = failed(&[&disk, &uri(&server)]);
    assert_eq!(code, 1);
    let sizes = "it has 4194304 bytes, and the source 8388608";
    assert!(complaint.contains(sizes), "{complaint}");
    let mut command = copy(&["-", &uri(&server)]);
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // It does not read to the end.
    let _ = input.write_all(&fs::read(&disk).unwrap());
    drop(input);
    let output = within(|| child.wait_with_output().unwrap());
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("too small"), "{}", errors(&output));
}

#[test]
fn larger_destinations_keep_what_is_behind() {
    let dir = Dir::new();
    let (disk, back) = (disk(&dir, "disk"), full_disk(&dir, "back", 2 * SIZE));
    let before = fs::read(&back).unwrap();
    let server = Server::nbdkit(&["file", &back]);
    copied(&[&disk, &uri(&server)]);
    let size = usize::try_from(SIZE).unwrap();
    let after = fs::read(&back).unwrap();
    assert!(after[..size] == fs::read(&disk).unwrap());
    assert!(after[size..] == before[size..]);
}
