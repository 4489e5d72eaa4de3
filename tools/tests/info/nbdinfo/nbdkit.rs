//! nbdkit.

use super::compare_all;
use crate::run::{Compared, QUESTIONS, on_command};
use crate::server::{Dir, Server};

/// nbdkit with one export.
fn nbdkit(args: &'static [&str]) -> impl Fn() -> (Server, Dir) {
    move || (Server::nbdkit(args), Dir::new())
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
fn command_is_run_alike() {
    let server = ["--", "[", "nbdkit", "memory", "1M", "]"];
    for args in [&["--json", "--no-content"][..], &["--json", "--map"]] {
        on_command(&[args, &server].concat());
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
}
