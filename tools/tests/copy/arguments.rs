//! Command lines that make no sense.

use crate::run::failed;

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
        (&["--resume=r", "-", "b"], "no - and no null:"),
        (&["--resume=r", "a", "null:"], "no - and no null:"),
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
    for (args, complaint) in [
        (
            &["/nonexistent/disk", "null:"][..],
            "cannot open the source of the copy: /nonexistent/disk",
        ),
        (
            &["/dev/null", "/nonexistent/disk"],
            "destination of the copy: /nonexistent/disk",
        ),
        (&["/", "null:"], "is a directory"),
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
            &["nbd+x://y", "null:"],
            "the source of the copy: invalid NBD URI",
        ),
        (
            &["[", "/nonexistent/server", "]", "null:"],
            "cannot run \"/nonexistent/server\"",
        ),
        (
            &["--progress=99", "/dev/null", "null:"],
            "the file descriptor 99 of --progress",
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
