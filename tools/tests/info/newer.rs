//! What newer versions of `nbdinfo` have than the one that is installed, and what is our own.

use std::process::Output;

use serde_json::{Value, json};

use crate::run::info;
use crate::server::{Dir, Server, run as run_program};

/// What the program prints, and its exit code.
fn ask(server: &Server, export: &str, args: &[&str]) -> (String, i32) {
    let socket = server.socket();
    let uri = format!("nbd+unix:///{export}?socket={}", socket.display());
    let Output { status, stdout, .. } = info().args(args).arg(uri).output().unwrap();
    (String::from_utf8(stdout).unwrap(), status.code().unwrap())
}

fn said(server: &Server, args: &[&str]) -> String {
    let (text, code) = ask(server, "", args);
    assert_eq!(code, 0, "{args:?}: {text}");
    text
}

fn json_of(server: &Server, args: &[&str]) -> Value {
    serde_json::from_str(&said(server, args)).unwrap()
}

/// 64 KiB, of which the second 16 KiB are data.
fn server() -> Server {
    Server::nbdkit(&["data", "size=64k", "@16384 1*16384"])
}

#[test]
fn questions_are_answered_by_exit_codes_and_negated_ones_by_their_opposite() {
    let server = Server::nbdkit(&["-r", "memory", "1M"]);
    for (affirmed, denied, word, yes) in [
        ("--is", "--isnt", "read-only", true),
        ("--is", "--isnt", "rotational", false),
        ("--can", "--cannot", "write", false),
        ("--can", "--cannot", "read", true),
        ("--has", "--hasnt", "sr", true),
        ("--has", "--hasnt", "Structured Replies", true),
        ("--can", "--cannot", "structured", true),
        ("--has", "--hasnt", "eh", false),
        ("--has", "--hasnt", "extended_headers", false),
    ] {
        let codes = if yes { (0, 2) } else { (2, 0) };
        let both = [affirmed, denied].map(|option| ask(&server, "", &[option, word]));
        let expected = [(String::new(), codes.0), (String::new(), codes.1)];
        assert_eq!(both, expected, "{word}");
    }
    for option in ["--isnt", "--cannot", "--hasnt"] {
        let (text, code) = ask(&server, "", &[option, "fly"]);
        assert_eq!((&*text, code), ("", 1), "{option}");
        // A server that does not answer answers no question.
        let mut info = info();
        info.args([option, "tls", "nbd+unix:///?socket=/nonexistent"]);
        assert_eq!(info.output().unwrap().status.code(), Some(1));
    }
    let (_, code) = ask(&server, "", &["--is", "tls", "--isnt", "tls"]);
    assert_eq!(code, 1, "one question at a time");
}

#[test]
fn uri_is_printed_in_its_canonical_form() {
    let server = Server::nbdkit(&["memory", "1M"]);
    let socket = server.socket();
    let uri = format!("nbd+unix:///a%20b?socket={}", socket.display());
    for (args, expected) in [
        (&["--uri"][..], format!("{uri}\n")),
        (&["--uri", "--json"], format!("{}\n", json!(uri))),
    ] {
        let (text, code) = ask(&server, "%61%20b", args);
        assert_eq!((text, code), (expected, 0), "{args:?}");
    }
    // A server that is run for this has no address.
    let mut info = info();
    info.args(["--uri", "[", "nbdkit", "memory", "1M", "]"]);
    assert_eq!(info.output().unwrap().status.code(), Some(1));
}

#[test]
fn options_may_follow_a_command_in_brackets() {
    let of = |words: &[&str]| info().args(words).output().unwrap();
    let server = ["[", "nbdkit", "-r", "memory", "1M", "]"];
    for words in [
        &[&server[..], &["--size"]].concat(),
        &[&["--size", "--"], &server[..]].concat(),
    ] {
        assert_eq!(of(words).stdout, b"1048576\n", "{words:?}");
    }
    let output = of(&[&server[..], &["more"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("unexpected argument 'more'"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_server_that_has_no_list_is_told_from_others() {
    for (option, handshake) in [("-o", "oldstyle"), ("--mask-handshake=0", "newstyle")] {
        let mut list = info();
        list.args(["--list", "[", "nbdkit", option, "memory", "1M", "]"]);
        let output = list.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        let why = format!("cannot list its exports, because its handshake is {handshake}");
        assert!(said.contains(&why), "{said}");
        assert!(said.contains("leave out --list"), "{said}");
    }
}

#[test]
fn map_can_be_of_a_range() {
    let server = server();
    let map = |args: &[&str]| json_of(&server, &[&["--map", "--json"], args].concat());
    let extents = |range: &[(u64, u64, u64)]| {
        let extent = |(offset, length, flags): &(u64, u64, u64)| {
            let description = if *flags == 0 { "data" } else { "hole,zero" };
            json!({ "offset": offset, "length": length, "type": flags, "description": description })
        };
        Value::from(range.iter().map(extent).collect::<Vec<_>>())
    };
    // The plugin stores pages of 32 KiB.
    let whole = [(0, 32768, 0), (32768, 32768, 3)];
    assert_eq!(map(&[]), extents(&whole));
    assert_eq!(map(&["--offset", "0"]), extents(&whole));
    let middle = [(16384, 16384, 0), (32768, 4096, 3)];
    assert_eq!(
        map(&["--offset", "16k", "--length", "20k"]),
        extents(&middle)
    );
    assert_eq!(map(&["--offset", "48k"]), extents(&[(49152, 16384, 3)]));
    assert_eq!(map(&["--offset", "64k"]), extents(&[]));
    let totals = map(&["--totals", "--offset", "16k", "--length", "32k"]);
    let percents: Vec<_> = totals.as_array().unwrap().iter().collect();
    assert_eq!(percents.len(), 2);
    for total in percents {
        assert_eq!(
            (&total["size"], &total["percent"]),
            (&json!(16384), &json!(50))
        );
    }
    for args in [
        &["--map", "--offset", "65k"][..],
        &["--map", "--length", "65k"],
        &["--map", "--offset", "1", "--length", "18446744073709551615"],
        &["--map", "--length", "K"],
        &["--offset", "1"],
        &["--size", "--length", "1"],
    ] {
        assert_eq!(ask(&server, "", args), (String::new(), 1), "{args:?}");
    }
}

#[test]
fn maps_of_several_contexts_are_told_apart() {
    let dir = Dir::new();
    let image = dir.path("disk.qcow2");
    run_program("qemu-img", &["create", "-q", "-f", "qcow2", &image, "1M"]);
    run_program("qemu-img", &["bitmap", "--add", &image, "b0"]);
    run_program(
        "qemu-io",
        &["-f", "qcow2", "-c", "write -P 1 512k 64k", &image],
    );
    let server = Server::qemu(&["-r", "-f", "qcow2", "-B", "b0", &image]);
    let bitmap = "qemu:dirty-bitmap:b0";
    let both = ["--map", &format!("--map={bitmap}")];
    let maps = json_of(&server, &[&both[..], &["--json"]].concat());
    let data = |context: &str, flags: u64| {
        let extents = maps[context].as_array().unwrap();
        let found = extents.iter().find(|extent| extent["type"] == flags);
        found.unwrap()["offset"].as_u64()
    };
    assert_eq!(data("base:allocation", 0), Some(512 << 10));
    assert_eq!(data(bitmap, 1), Some(512 << 10));
    assert_eq!(maps.as_object().unwrap().len(), 2);

    let text = said(&server, &both);
    let (first, second) = text.split_once(&format!("{bitmap}:\n")).unwrap();
    let alone = |context: &str| said(&server, &[&format!("--map={context}")]);
    assert_eq!(
        first,
        format!("base:allocation:\n{}", alone("base:allocation"))
    );
    assert_eq!(second, alone(bitmap));

    // One that is missing is told with those that there are.
    let socket = server.socket();
    let uri = format!("nbd+unix:///?socket={}", socket.display());
    let output = info().args(["--map=qemu:dirty-bitmap:b1", &uri]).output();
    let complaint = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(complaint.contains("qemu:dirty-bitmap:b1"), "{complaint}");
    assert!(complaint.contains(bitmap), "{complaint}");
}

#[test]
fn colours_are_for_terminals_and_for_those_who_ask() {
    let server = server();
    for args in [&["--no-content"][..], &["--map"], &["--map", "--totals"]] {
        let with = |more: &[&str]| said(&server, &[args, more].concat());
        let plain = with(&[]);
        assert!(!plain.contains('\x1b'));
        assert_eq!(with(&["--no-color"]), plain);
        assert_eq!(with(&["--color", "--no-colour"]), plain);
        let coloured = with(&["--color"]);
        assert_eq!(with(&["--no-color", "--colours"]), coloured);
        assert!(coloured.contains("\x1b["), "{coloured}");
        // Nothing else changes.
        let mut bare = String::new();
        let mut parts = coloured.split("\x1b[");
        bare.push_str(parts.next().unwrap());
        for part in parts {
            bare.push_str(part.split_once('m').unwrap().1);
        }
        assert_eq!(bare, plain);
        let json = with(&["--json"]);
        assert_eq!(with(&["--json", "--color"]), json);
    }
    // On a terminal, which `script` makes.
    let uri = format!("nbd+unix:///?socket={}", server.socket().display());
    let program = env!("CARGO_BIN_EXE_nbd");
    for (set, is_coloured) in [("", true), ("NO_COLOR=1 ", false), ("NO_COLOR= ", true)] {
        let command = format!("{set}{program} info --map '{uri}'");
        let output = std::process::Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env_remove("NO_COLOR")
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("hole,zero"), "{text}");
        assert_eq!(text.contains("\x1b["), is_coloured, "{set:?}: {text}");
    }
}

#[test]
fn what_cannot_be_read_is_left_out_and_told() {
    let dir = Dir::new();
    let disk = dir.file("disk", vec![0; 1 << 20]);
    let rules = dir.file(
        "rules",
        "[inject-error]\nevent = \"read_aio\"\nerrno = \"5\"\n",
    );
    let image = format!(
        "driver=raw,file.driver=blkdebug,file.config={rules},\
         file.image.driver=file,file.image.filename={disk}"
    );
    for server in [
        Server::nbdkit(&["--filter=error", "memory", "1M", "error-pread-rate=100%"]),
        // It hangs up.
        Server::qemu(&["--image-opts", &image]),
    ] {
        for list in [&[][..], &["--list", "--content"]] {
            let uri = format!("nbd+unix:///?socket={}", server.socket().display());
            let output = info().arg("--json").args(list).arg(uri).output().unwrap();
            let errors = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(0), "{errors}");
            assert!(errors.contains("contains is not known"), "{errors}");
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            let export = &report["exports"][0];
            assert_eq!(export["export-size"], 1 << 20);
            assert!(export.get("content").is_none());
        }
    }
}

#[test]
fn an_export_that_is_refused_does_not_hide_the_others() {
    let server = Server::nbdkit(&[
        "eval",
        "list_exports=echo NAMES; echo one; echo two; echo three",
        "open=if [ \"$3\" = two ]; then echo EACCES not for you >&2; exit 1; fi",
        "get_size=echo 1M",
        "pread=dd if=/dev/zero bs=$3 count=1 status=none",
    ]);
    for content in [&[][..], &["--content"]] {
        let uri = format!("nbd+unix:///?socket={}", server.socket().display());
        let mut info = info();
        info.args(["--json", "--list"]).args(content).arg(uri);
        let output = info.output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("nbd info: export \"two\": "), "{errors}");
        assert!(errors.contains("1 export of the list"), "{errors}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let exports = report["exports"].as_array().unwrap();
        let names: Vec<_> = exports
            .iter()
            .map(|export| &export["export-name"])
            .collect();
        assert_eq!(names, ["one", "three"]);
    }
}
