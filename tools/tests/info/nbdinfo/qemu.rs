//! qemu-nbd.

use super::compare_all;
use crate::run::{Compared, on_command};
use crate::server::{Dir, Server, run as run_program};

/// An image with a backing file, a dirty bitmap, data, holes and zeroes, whose size is odd.
fn qemu() -> (Server, Dir) {
    let dir = Dir::new();
    let (base, top) = (dir.path("base.qcow2"), dir.path("top.qcow2"));
    let img = |args: &[&str]| run_program("qemu-img", args);
    let io = |image: &str, command: &str| run_program("qemu-io", &["-c", command, image]);
    img(&["create", "-q", "-f", "qcow2", &base, "1000001"]);
    io(&base, "write -P 1 0 100k");
    img(&[
        "create", "-q", "-f", "qcow2", "-b", &base, "-F", "qcow2", &top,
    ]);
    img(&["bitmap", "--add", "-g", "65536", &top, "b0"]);
    io(&top, "write -P 2 200k 64k");
    io(&top, "write -z 400k 64k");
    let description = "with a \"quote\" and a \\";
    let server = Server::qemu(&[
        "-f",
        "qcow2",
        "-B",
        "b0",
        "-A",
        "-x",
        "disk 0",
        "-D",
        description,
        &top,
    ]);
    (server, dir)
}

#[test]
fn qcow2_with_bitmap_and_backing_file_is_described_alike() {
    let compared = Compared::new(qemu, "disk%200");
    let contexts = [
        "base:allocation",
        "qemu:allocation-depth",
        "qemu:dirty-bitmap:b0",
    ];
    compare_all(&compared, &contexts);
}

#[test]
fn command_is_run_alike() {
    let dir = Dir::new();
    let image = dir.path("disk.qcow2");
    run_program("qemu-img", &["create", "-q", "-f", "qcow2", &image, "1M"]);
    let server = ["--", "[", "qemu-nbd", "-f", "qcow2", &image, "]"];
    for args in [&["--json", "--no-content"][..], &["--json", "--map"]] {
        on_command(&[args, &server].concat());
    }
}

#[test]
fn export_that_does_not_exist_is_a_failure_alike() {
    let compared = Compared::new(qemu, "nosuch");
    for args in [
        &["--size"][..],
        &["--can", "connect"],
        &["--json"],
        &["--map"],
    ] {
        compared.failure(args);
    }
}
