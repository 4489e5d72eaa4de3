//! Command lines that make no sense.

use std::os::unix::net::UnixListener;

use crate::run::{disk, failed, uri};
use crate::server::{Dir, Server};

#[test]
fn wrong_command_lines_are_explained() {
    for (args, complaint) in [
        (&[][..], "<SOURCE> <DESTINATION>"),
        (&["a"], "<DESTINATION>"),
        (&["a", "b", "c"], "unexpected argument 'c'"),
        (&["null:", "a"], "null: can only be the destination"),
        (&["[", "nbdkit", "a"], "expected a command between [ and ]"),
        (&["[", "]", "a"], "expected a command between [ and ]"),
        (
            &["--nonsense", "a", "b"],
            "unexpected argument '--nonsense'",
        ),
        (
            &["-C", "0", "a", "b"],
            "'0' for '--connections <N>': expected a number of at least 1",
        ),
        (&["-R", "x", "a", "b"], "'x' for '--requests <N>'"),
        (&["-T", "-1", "a", "b"], "unexpected argument '-1'"),
        (
            &["-T", "100000", "a", "b"],
            "expected a number from 0 to 1024",
        ),
        (&["--progress=1", "a", "-"], "the copy and --progress=1"),
        (
            &["-S", "100", "a", "b"],
            "expected 0 or a power of 2 of at least 512",
        ),
        (
            &["--request-size=64M", "a", "b"],
            "expected a size from 4K to 32M",
        ),
        (
            &["--request-size=1K", "a", "b"],
            "expected a size from 4K to 32M",
        ),
        (
            &["--queue-size=much", "a", "b"],
            "expected a size such as 512, 64K or 1M",
        ),
        (&["--rate=0", "a", "b"], "expected at least 1 byte a second"),
        (
            &["--progress=yes", "a", "b"],
            "expected a file descriptor or json",
        ),
        (&["--blkhash=crc", "a", "b"], "expected md5, sha1, sha224"),
        (
            &["--blkhash=md5/3", "a", "b"],
            "expected blocks of a power of 2",
        ),
        (
            &["--blkhash", "--resume=r", "a", "b"],
            "--blkhash needs the whole disk",
        ),
        (&["--blkhash", "a", "-"], "use --blkhash-file"),
        (
            &["--blkhash-file=h", "a", "b"],
            "--blkhash-file needs --blkhash",
        ),
        (&["--resume=a", "a", "b"], "neither source nor destination"),
        (
            &["--resume=./a", "a", "b"],
            "neither source nor destination",
        ),
        (
            &["--resume=a", "b", "./a.new"],
            "neither source nor destination",
        ),
        (
            &["--blkhash", "--blkhash-file=b", "a", "b"],
            "neither source nor destination",
        ),
        (&["--resume=r", "-", "b"], "no - and no null:"),
        (&["--resume=r", "a", "null:"], "no - and no null:"),
        (
            &["nbd://a/b", "nbd://a/b"],
            "source and destination are the same export",
        ),
        (
            &["--json", "a", "-"],
            "cannot have both the copy and --json",
        ),
    ] {
        let (code, errors) = failed(args);
        assert_eq!(code, 2, "{args:?}: {errors}");
        assert!(errors.contains(complaint), "{args:?}: {errors}");
    }
}

#[test]
fn failures_name_what_they_are_about() {
    let nowhere = "nbd+unix:///?socket=/nonexistent/socket";
    let dir = Dir::new();
    let socket = dir.path("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    for (args, complaint) in [
        (
            &["/nonexistent/disk", "null:"][..],
            "cannot open the source of the copy: /nonexistent/disk",
        ),
        (
            &["/dev/null", "/nonexistent/disk"],
            "destination of the copy: /nonexistent/disk: no such file or directory: create its directory",
        ),
        (&["/", "null:"], "/: is a directory: name a file in it"),
        (
            &["/etc/hostname", "/tmp"],
            "/tmp: is a directory: name a file in it",
        ),
        (
            &["/etc/hostname", "/dev/full"],
            "cannot write the destination of the copy",
        ),
        (&["/etc/hostname", "/dev/full"], ": no space left on device"),
        (
            &["/etc/hostname", &socket],
            "cannot open the destination of the copy: ",
        ),
        (
            &[&socket, "null:"],
            &format!(
                "cannot open the source of the copy: {socket} is a socket: for the server that listens \
                 there, write nbd+unix:///?socket={socket}"
            ),
        ),
        (
            &["--resume=/nonexistent/copy", "/etc/hostname", nowhere],
            "cannot keep /nonexistent/copy: ",
        ),
        (
            &[nowhere, "null:"],
            "the source of the copy: cannot connect to \"/nonexistent/socket\"",
        ),
        (
            &["/dev/null", nowhere],
            "the destination of the copy: cannot connect",
        ),
        (
            &["nbd:/x", "null:"],
            "the source of the copy: invalid NBD URI",
        ),
        (
            &["/etc/hostname", "http://a/b"],
            "the destination of the copy: invalid NBD URI \"http://a/b\": scheme \"http\" is not one of",
        ),
        (
            &["nbd+x://y", "null:"],
            "the source of the copy: invalid NBD URI",
        ),
        (
            &["[", "/nonexistent/server", "]", "null:"],
            "cannot run \"/nonexistent/server\"",
        ),
        (
            &["--progress=99", "/dev/null", "null:"],
            "the file descriptor 99 of --progress: it is not open",
        ),
        (
            &["--verify", "/dev/null", "null:"],
            "a stream cannot be read again",
        ),
        (
            &["--only=a:b", "/etc/hostname", "null:"],
            "only an NBD export has metadata contexts",
        ),
    ] {
        let (code, errors) = failed(args);
        assert_eq!(code, 1, "{args:?}: {errors}");
        assert!(errors.starts_with("nbd copy: "), "{args:?}: {errors}");
        assert!(errors.contains(complaint), "{args:?}: {errors}");
    }
}

#[test]
fn destinations_that_cannot_be_written_are_refused_before_anything_is_read() {
    let dir = Dir::new();
    let (disk, link) = (disk(&dir, "disk"), dir.path("link"));
    std::fs::hard_link(&disk, &link).unwrap();
    let (_, errors) = failed(&[&disk, &link]);
    let same = "source and destination are the same file: name another destination";
    assert!(errors.contains(same), "{errors}");
    let server = Server::nbdkit(&["-r", "memory", "16M"]);
    let (_, errors) = failed(&[&disk, &uri(&server)]);
    let closed = "the destination of the copy is read-only: let its server allow writing";
    assert!(errors.contains(closed), "{errors}");
    let server = Server::nbdkit(&["memory", "4M"]);
    let (_, errors) = failed(&[&disk, &uri(&server)]);
    let small = "and the source 8388608: make the destination larger";
    assert!(errors.contains(small), "{errors}");
}
