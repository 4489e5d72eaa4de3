//! The example `info` beside `nbdinfo` of libnbd, field by field, against real servers.
//!
//! Where `nbdinfo` prints a key, `info` must print the same key with the same value. Keys of its
//! own it may have only where newer versions of `nbdinfo` have them, too.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, reason = "shared with the tests that need more of it")]
#[path = "../interop/server.rs"]
mod server;

mod run;

use run::{Compared, QUESTIONS, on_command};
use server::{Dir, Server, run as run_program};

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

/// nbdkit with one export.
fn nbdkit(args: &'static [&str]) -> impl Fn() -> (Server, Dir) {
    move || (Server::nbdkit(args), Dir::new())
}

/// Everything that can be asked of an export.
fn compare_all(compared: &Compared, contexts: &[&str]) {
    compared.json(&["--json"]);
    compared.json(&["--json", "--no-content"]);
    compared.json(&["--json", "--list"]);
    compared.lines(&["--no-content"]);
    compared.lines(&["--list"]);
    compared.exactly(&["--size"]);
    compared.exactly(&["--map"]);
    for context in contexts {
        let map = format!("--map={context}");
        compared.json(&[&map, "--json"]);
        compared.json(&[&map, "--json", "--totals"]);
        compared.exactly(&[&map]);
        compared.exactly(&[&map, "--totals"]);
    }
    for (option, word) in QUESTIONS {
        compared.exactly(&[option, word]);
    }
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
fn export_of_nbdkit_is_described_alike() {
    let server = nbdkit(&[
        "data",
        "size=8M",
        "(0x55 0xAA)*600 @1048576 0x78 @4194304 1",
    ]);
    compare_all(&Compared::new(server, ""), &["base:allocation"]);
}

#[test]
fn several_exports_are_listed_alike() {
    let server = || {
        let dir = Dir::new();
        for (name, size) in [("a", 0), ("b c", 512), ("d", 1 << 20), ("e", 3 << 30)] {
            dir.disk(name, size);
        }
        let path = format!("dir={}", dir.path(""));
        (Server::nbdkit(&["file", &path]), dir)
    };
    let compared = Compared::new(server, "");
    compared.json(&["--json", "--list"]);
    compared.json(&["--json", "--list", "--content"]);
    compared.lines(&["-L"]);
}

#[test]
fn read_only_export_without_contexts_is_described_alike() {
    let server = nbdkit(&["-r", "--filter=noextents", "memory", "1536"]);
    let compared = Compared::new(server, "");
    compare_all(&compared, &[]);
    compared.failure(&["--map=x:y"]);
}

#[test]
fn block_sizes_are_described_alike() {
    let server = nbdkit(&[
        "--filter=blocksize-policy",
        "memory",
        "1M",
        "blocksize-minimum=512",
        "blocksize-preferred=8192",
        "blocksize-maximum=65536",
    ]);
    let compared = Compared::new(server, "");
    compared.json(&["--json"]);
    compared.lines(&["--no-content"]);
}

#[test]
fn oldstyle_export_is_described_alike() {
    let compared = Compared::new(nbdkit(&["-o", "memory", "1M"]), "");
    compared.json(&["--json"]);
    compared.lines(&["--no-content"]);
    compared.exactly(&["--size"]);
    compared.failure(&["--list"]);
    compared.failure(&["--map"]);
    for (option, word) in QUESTIONS {
        compared.exactly(&[option, word]);
    }
}

#[test]
fn exports_of_nbd_server_are_described_alike() {
    let server = || {
        let dir = Dir::new();
        let one = dir.file("one", "#!/bin/sh\n".repeat(1000));
        let two = dir.disk("two", 1 << 20);
        let exports = format!("[one]\nexportname={one}\n[two]\nexportname={two}\nreadonly=true\n");
        (Server::nbd_server(&exports), dir)
    };
    let compared = Compared::new(server, "one").one_client();
    compared.json(&["--json"]);
    compared.json(&["--json", "--no-content"]);
    compared.lines(&["--no-content"]);
    compared.exactly(&["--size"]);
    for (option, word) in QUESTIONS {
        compared.exactly(&[option, word]);
    }
    compared.failure(&["--map"]);
}

#[test]
fn command_is_run_alike() {
    let dir = Dir::new();
    let image = dir.path("disk.qcow2");
    run_program("qemu-img", &["create", "-q", "-f", "qcow2", &image, "1M"]);
    for args in [&["--json", "--no-content"][..], &["--json", "--map"]] {
        for server in [
            &["nbdkit", "memory", "1M"][..],
            &["qemu-nbd", "-f", "qcow2", &image],
        ] {
            on_command(&[args, &["--", "["], server, &["]"]].concat());
        }
    }
}

#[test]
fn failures_end_alike() {
    let compared = Compared::new(nbdkit(&["memory", "1M"]), "");
    for args in [
        &["--map=qemu:allocation-depth"][..],
        &["--can", "fly"],
        &["--size", "--list"],
        &["--map", "--size"],
        &["--nonsense"],
        &["/a/file"],
    ] {
        compared.failure(args);
    }
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
