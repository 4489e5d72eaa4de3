//! What is printed: versions, hashes, reports, and what happens.

use std::fs;

use crate::run::{copied, copy, disk, ended, errors, failed, full_disk, report, start, uri};
use crate::server::{Dir, Server};
use crate::watchdog::within;

#[test]
fn verbose_copies_say_what_happens() {
    let server = Server::nbdkit(&["pattern", "1M"]);
    let uri = uri(&server);
    for option in ["-v", "--verbose"] {
        let output = copied(&[option, &uri, "null:"]);
        assert_eq!(output.stdout, b"");
        let said = errors(&output);
        for part in [
            &format!("source: {uri}, 1048576 bytes"),
            "destination: null:",
            "DEBUG",
            "nbd copy: 1048576 bytes: 1048576 of data",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    assert_eq!(errors(&copied(&[&uri, "null:"])), "");
}

#[test]
fn what_a_stream_did_not_take_is_not_copied() {
    let dir = Dir::new();
    let disk = full_disk(&dir, "disk", 4 << 20);
    let (_, said) = failed(&[&disk, "/dev/full"]);
    assert!(said.contains("at offset 0: no space left"), "{said}");
    assert!(!said.contains("were copied"), "{said}");
    let mut child = start(&[&disk, "-"]);
    drop(child.stdout.take());
    let output = within(move || child.wait_with_output().unwrap());
    let said = errors(&output);
    assert!(said.contains("at offset 0: broken pipe"), "{said}");
    assert!(!said.contains("were copied"), "{said}");
}

#[test]
fn versions_are_told() {
    for option in ["-V", "--version"] {
        let output = copied(&[option]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
    }
}

#[test]
fn the_report_is_json_or_nothing() {
    let dir = Dir::new();
    let disk = disk(&dir, "disk");
    let report = report(&[&disk, "null:"]);
    let report = report.as_object().unwrap();
    for key in [
        "size",
        "data",
        "zeroes",
        "skipped",
        "repeated",
        "status_failures",
        "salvaged",
        "unfenced",
        "verified",
        "hash",
        "elapsed",
    ] {
        assert!(report.contains_key(key), "{key}");
    }
    assert_eq!(report.len(), 11);
    let output = ended(copy(&["--json", "/nonexistent", "null:"]));
    assert_eq!(output.stdout, b"");
}

/// Those that the tests of nbdcopy know.
#[test]
fn hashes_are_those_of_nbdcopy() {
    let hello = "337355feb53a5309d5aba92796223c2c84ffab930e706c01fef573a2722545e6";
    for (content, option, hash) in [
        (
            "",
            "--blkhash",
            "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc",
        ),
        ("\"hello\"", "--blkhash=sha256", hello),
        ("\"hello\"", "--blkhash=SHA256/64k", hello),
        (
            "\"hello\"",
            "--blkhash=md5",
            "f741ac9ce55f5325906bb14e9c05d467",
        ),
        (
            "\"hello\"",
            "--blkhash=md5/4",
            "8262896de34125dec173722c920e8bd0",
        ),
        (
            "\"hello\" @1048576 \"goodbye\"",
            "--blkhash=sha256",
            "61b8f3a8cea76e16eeff7ce27f1b7711c1f1e437f5038cec17773772a4bded28",
        ),
        (
            "\"12345678\"*512*256",
            "--blkhash=sha512/512k",
            "379f7eb1628058c7abbc4c96941ac972074815ea9ef4aca95eefb2b4f9c29f64\
             023fff8d966e9fddf08d07bdba548e75298917f10268fdf9ba636c2321a2214e",
        ),
    ] {
        let dir = Dir::new();
        let server = Server::nbdkit(&["data", content]);
        let uri = uri(&server);
        let printed = copied(&[option, &uri, "null:"]).stdout;
        assert_eq!(
            String::from_utf8(printed).unwrap(),
            format!("{hash}\n"),
            "{option}"
        );
        let file = dir.path("hash");
        let output = copied(&[option, "--blkhash-file", &file, &uri, "-"]);
        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            format!("{hash}\n"),
            "{option}"
        );
        let back = dir.file("copy", output.stdout);
        assert_eq!(report(&[option, &back, "null:"])["hash"], hash, "{option}");
    }
}

#[test]
fn a_hash_that_cannot_be_written_is_refused_before_the_destination_is_touched() {
    let dir = Dir::new();
    let (disk, to) = (disk(&dir, "disk"), dir.file("to", "as it was"));
    let (code, said) = failed(&["--blkhash", "--blkhash-file", &dir.path(""), &disk, &to]);
    assert_eq!(code, 1);
    assert!(said.contains("cannot write the hash to"), "{said}");
    assert_eq!(fs::read_to_string(&to).unwrap(), "as it was");
}

#[test]
fn the_hash_replaces_what_is_in_its_file_if_the_copy_succeeds() {
    let dir = Dir::new();
    let (disk, hash) = (disk(&dir, "disk"), dir.path("hash"));
    let options = ["--blkhash=md5", "--blkhash-file", &hash, &disk];
    failed(&[&options[..], &["/dev/full"]].concat());
    assert!(fs::metadata(&hash).is_err(), "nothing is left");
    fs::write(&hash, "long".repeat(100)).unwrap();
    failed(&[&options[..], &["/dev/full"]].concat());
    assert_eq!(fs::read(&hash).unwrap().len(), 400);
    copied(&[&options[..], &["null:"]].concat());
    assert_eq!(fs::read(&hash).unwrap().len(), 33);
}
