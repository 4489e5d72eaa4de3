//! `nbd zero` and `nbd discard`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, reason = "shared with the tests that need more of it")]
#[path = "../../../tests/shared/server/mod.rs"]
mod server;

#[path = "../../../tests/shared/watchdog.rs"]
mod watchdog;

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use server::{Dir, Server};
use watchdog::within;

const SIZE: usize = 1 << 20;

/// A disk full of ones, and its server.
struct Full {
    dir: Dir,
    server: Server,
}

impl Full {
    fn new() -> Self {
        let dir = Dir::new();
        let disk = dir.file("disk", vec![1; SIZE]);
        let server = Server::nbdkit(&["file", &disk]);
        Self { dir, server }
    }

    fn content(&self) -> Vec<u8> {
        fs::read(self.dir.path("disk")).unwrap()
    }

    /// How many bytes of room it takes.
    fn room(&self) -> u64 {
        fs::metadata(self.dir.path("disk")).unwrap().blocks() * 512
    }

    fn run(&self, args: &[&str]) -> (i32, String) {
        let uri = format!("nbd+unix:///?socket={}", self.server.socket().display());
        run(&[args, &[&uri]].concat(), "")
    }
}

/// The exit code, and what is said; `input` is the answer to questions.
fn run(args: &[&str], input: &str) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nbd"));
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may not ask.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = within(|| child.wait_with_output().unwrap());
    assert_eq!(output.stdout, b"");
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said)
}

const NOTHING: (i32, String) = (0, String::new());

#[test]
fn an_export_is_zeroed_and_keeps_its_room() {
    let full = Full::new();
    assert_eq!(full.run(&["zero", "--check"]).0, 2);
    assert_eq!(full.run(&["zero", "-y"]), NOTHING);
    assert!(full.content() == vec![0; SIZE]);
    assert!(full.room() >= SIZE as u64);
    assert_eq!(full.run(&["zero", "-c"]), NOTHING);
    assert_eq!(full.run(&["discard", "-c"]).0, 2);
}

#[test]
fn an_export_is_discarded_and_gives_its_room_back() {
    for options in [&["--yes"][..], &["-y", "-z"], &["-y", "-q", "--zero"]] {
        let full = Full::new();
        assert_eq!(full.run(&["discard", "--check"]).0, 2);
        assert_eq!(full.run(&[&["discard"], options].concat()), NOTHING);
        assert_eq!(full.room(), 0, "{options:?}");
        assert_eq!(full.run(&["discard", "--check"]), NOTHING);
        assert_eq!(full.run(&["discard", "-z", "--check"]), NOTHING);
    }
}

#[test]
fn a_range_is_erased_and_nothing_else() {
    let full = Full::new();
    let (code, said) = full.run(&["zero", "-y", "-v", "-o", "1001", "-l", "5000"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("5000 bytes at offset 1001: erased"), "{said}");
    let mut expected = vec![1; SIZE];
    expected[1001..6001].fill(0);
    assert!(full.content() == expected);
    let discard = ["discard", "-y", "--offset=64K", "--length=64K"];
    assert_eq!(full.run(&discard), NOTHING);
    expected[64 << 10..128 << 10].fill(0);
    assert!(full.content() == expected);
    for range in [&["-o", "64K", "-l", "64K"][..], &["-o1M"], &["-l0"]] {
        assert_eq!(
            full.run(&[&["zero", "--check"], range].concat()),
            NOTHING,
            "{range:?}"
        );
    }
    for range in [&["-o2M"][..], &["-o64K", "-l1M"]] {
        let (code, said) = full.run(&[&["zero", "-y"], range].concat());
        assert_eq!(code, 1);
        assert!(said.contains("the export has only 1048576 bytes"), "{said}");
    }
    assert!(full.content() == expected);
}

#[test]
fn nothing_is_erased_without_a_yes() {
    let full = Full::new();
    let uri = format!("nbd+unix:///?socket={}", full.server.socket().display());
    for tool in ["zero", "discard"] {
        for answer in ["", "\n", "n\n", "never\n"] {
            let (code, said) = run(&[tool, &uri], answer);
            assert_eq!(code, 1, "{said}");
            let question =
                format!("Erase 1048576 bytes from offset 0 to 1048576 of {uri} for ever?");
            assert!(said.contains(&question), "{said}");
            assert!(said.contains("nothing was erased"), "{said}");
        }
    }
    assert!(full.content() == vec![1; SIZE]);
    assert_eq!(run(&["zero", &uri], "y\n").0, 0);
    assert!(full.content() == vec![0; SIZE]);
}

#[test]
fn parts_of_blocks_are_not_discarded() {
    let dir = Dir::new();
    let size = (1 << 20) + 100;
    let disk = dir.file("disk", vec![1; size]);
    let sizes = ["blocksize-minimum=4096", "blocksize-preferred=4096"];
    let filter = ["--filter=blocksize-policy", "file", &disk];
    let server = Server::nbdkit(&[&filter[..], &sizes].concat());
    let uri = format!("nbd+unix:///?socket={}", server.socket().display());
    for range in [&["-o4095"][..], &["-l5000"]] {
        let (code, said) = run(&[&["discard"], range, &[&uri]].concat(), "y\n");
        assert_eq!(code, 1, "{said}");
        assert!(
            said.contains("are not whole blocks of 4096 bytes"),
            "{said}"
        );
        assert!(!said.contains("for ever?"), "{said}");
    }
    assert!(fs::read(dir.path("disk")).unwrap() == vec![1; size]);
    // The export ends inside a block.
    assert_eq!(run(&["discard", "-y", "-o4K", &uri], ""), NOTHING);
    assert!(fs::read(dir.path("disk")).unwrap()[4096..] == vec![0; size - 4096]);
}

#[test]
fn what_a_server_does_not_offer_is_refused_before_the_question() {
    for (args, server, why) in [
        (
            &["zero"][..],
            "nbdkit -r memory 1M",
            "the export is read-only",
        ),
        (
            &["discard"],
            "nbdkit -r memory 1M",
            "the export is read-only",
        ),
        (
            &["discard"],
            "nbdkit eval get_size=echo${IFS}1M pread=false pwrite=false",
            "--zero may give",
        ),
        (
            &["zero", "--fast-zero"],
            "nbdkit --filter=nozero memory 1M",
            "without --fast-zero it may be slow",
        ),
    ] {
        let server = server.split(' ');
        let words: Vec<_> = args.iter().copied().chain(["["]).chain(server).collect();
        let (code, said) = run(&[&words[..], &["]"]].concat(), "y\n");
        assert_eq!(code, 1, "{args:?}: {said}");
        assert!(said.contains(why), "{args:?}: {said}");
        assert!(!said.contains("Erase"), "{args:?}: {said}");
    }
}

#[test]
fn what_a_server_cannot_do_is_a_failure() {
    let fast = [
        "zero",
        "-y",
        "--fast-zero",
        "[",
        "nbdkit",
        "--filter=nozero",
        "memory",
        "1M",
        "]",
    ];
    let trim = ["discard", "-y", "[", "nbdkit", "pattern", "1M", "]"];
    let read_only = ["zero", "-y", "[", "nbdkit", "-r", "memory", "1M", "]"];
    let gone = ["zero", "-y", "nbd+unix:///?socket=/nonexistent"];
    let file = ["discard", "-y", "/a/file"];
    for args in [
        &fast[..],
        &trim,
        &read_only,
        &gone,
        &file,
        &["zero"],
        &["discard", "--fly", "a"],
    ] {
        let (code, said) = run(args, "");
        assert_eq!(code, 1, "{args:?}: {said}");
    }
    // Without a command for zeroes they are written.
    let slow = [
        "zero",
        "-y",
        "[",
        "nbdkit",
        "--filter=nozero",
        "memory",
        "1M",
        "]",
    ];
    assert_eq!(run(&slow, ""), NOTHING);
}
