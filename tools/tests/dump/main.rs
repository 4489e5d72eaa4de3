//! `nbd dump`, beside `nbddump` of libnbd.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, reason = "shared with the tests that need more of it")]
#[path = "../../../tests/shared/server/mod.rs"]
mod server;

#[path = "../../../tests/shared/watchdog.rs"]
mod watchdog;

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use server::Server;
use watchdog::within;

fn uri(server: &Server) -> String {
    format!("nbd+unix:///?socket={}", server.socket().display())
}

fn dump(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nbd"));
    command.arg("dump").args(args);
    within(move || command.output().unwrap())
}

#[track_caller]
fn dumped(args: &[&str]) -> String {
    let output = dump(args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

const CONTENTS: [&str; 5] = [
    "0x00",
    "0*4096",
    "\"hello, world!\" @4096 0x80*64 @65536 1 0x20 0x7e 0x7f",
    "1*40 0*100 2*40 @1048576 3*17",
    "@33 0x41",
];

#[test]
fn exports_are_dumped_as_by_nbddump() {
    for content in CONTENTS {
        let server = Server::nbdkit(&["data", content]);
        let uri = uri(&server);
        for options in [
            &[][..],
            &["--no-color"],
            &["--no-colours"],
            &["-n", "100"],
            &["--limit=20"],
        ] {
            let args = [options, &[&uri]].concat();
            let theirs = Command::new("nbddump").args(&args).output().unwrap();
            let theirs = String::from_utf8(theirs.stdout).unwrap();
            let ours = dumped(&args);
            let mut theirs: Vec<_> = theirs.lines().collect();
            // We print the last line always, they only at the end of the export.
            if theirs.last() == Some(&"*") {
                theirs.pop();
            }
            let ours: Vec<_> = ours.lines().take(theirs.len()).collect();
            assert_eq!(ours, theirs, "{content}: {options:?}");
        }
    }
}

#[test]
fn colours_are_those_of_nbddump_without_the_codes() {
    let server = Server::nbdkit(&["data", CONTENTS[2]]);
    let coloured = dumped(&["--color", &uri(&server)]);
    let mut plain = String::new();
    let mut parts = coloured.split('\x1b');
    plain.push_str(parts.next().unwrap());
    for part in parts {
        plain.push_str(part.split_once('m').unwrap().1);
    }
    let plain = plain.replace('│', "|").replace('·', ".").replace('☆', "*");
    assert_eq!(plain, dumped(&["--no-color", &uri(&server)]));
}

#[test]
fn a_range_is_dumped() {
    let server = Server::nbdkit(&["data", "size=1M", "@1000 \"0123456789abcdefghij\" @5000 1"]);
    let uri = uri(&server);
    assert_eq!(
        dumped(&["--offset", "1002", "--length=20", &uri]),
        "00000003ea: 32 33 34 35 36 37 38 39  61 62 63 64 65 66 67 68 |23456789abcdefgh|\n\
         00000003fa: 69 6a 00 00                                      |ij..            |\n"
    );
    let zeroes = "00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00 |................|";
    assert_eq!(
        dumped(&["--offset=64K", "-n", "64", &uri]),
        format!("0000010000: {zeroes}\n*\n0000010030: {zeroes}\n")
    );
    assert_eq!(dumped(&["--offset=1M", &uri]), "");
    assert_eq!(dumped(&["--length=0", &uri]), "");
    let output = dump(&["--offset=2M", &uri]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the export has 1048576 bytes"), "{said}");
}

#[test]
fn holes_are_not_read() {
    // Reading all of it would take hours.
    let server = Server::nbdkit(&["data", "size=1T", "@1099511627775 0x41"]);
    let lines = dumped(&[&uri(&server)]);
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[1], "*");
    assert!(lines[2].starts_with("fffffffff0: 00 "), "{lines:?}");
    assert!(lines[2].ends_with("...............A|"), "{lines:?}");
}

#[test]
fn a_reader_that_leaves_ends_the_dump() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nbd"));
    command.args(["dump", "[", "nbdkit", "-r", "pattern", "1T", "]"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // After it, the reader is gone.
    let line = within(move || lines.next().unwrap().unwrap());
    assert!(line.starts_with("0000000000: "), "{line}");
    let output = within(|| child.wait_with_output().unwrap());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    // The server may mind.
    assert!(!errors.contains("nbd dump"), "{errors}");
}

#[test]
fn an_output_that_is_full_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nbd"));
    command.args(["dump", "[", "nbdkit", "memory", "1M", "]"]);
    command.stdout(std::fs::File::create("/dev/full").unwrap());
    let output = within(move || command.stderr(Stdio::piped()).output().unwrap());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let what = "nbd dump: cannot write the output: No space left";
    assert!(said.contains(what), "{said}");
}

#[test]
fn failures_are_explained() {
    for (args, code, complaint) in [
        (
            &["/a/file"][..],
            1,
            "expected a URI or a command in brackets: /a/file",
        ),
        (&["nbd+unix:///?socket=/nonexistent"], 1, "cannot connect"),
        (&["--offset", "x", "nbd://a"], 2, "expected a size"),
        (&["nbd://a#b"], 1, "invalid NBD URI \"nbd://a#b\": an NBD"),
        // The library would name its methods.
        (
            &["nbds://a/?tls-priority=b"],
            1,
            "(it is for GnuTLS: leave the parameter out)",
        ),
        (&[], 2, "required"),
        (
            &["[", "nbdkit", "memory"],
            2,
            "'[ nbdkit memory' for '<URI | [ COMMAND ARG... ]>': expected a command between [ and ]",
        ),
    ] {
        let output = dump(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(complaint), "{args:?}: {said}");
        assert_eq!(output.stdout, b"");
    }
}
