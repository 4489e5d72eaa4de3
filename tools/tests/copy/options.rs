//! Each option of `nbdcopy` and what it does, as the server sees it.

use std::fs;
use std::fs::OpenOptions;

use serde_json::json;

use crate::run::{SIZE, copied, disk, errors, failed, full_disk, report, room, same, uri, write};
use crate::server::{Dir, Server, run};

/// A server that writes down each request.
struct Logged {
    server: Server,
    log: String,
}

impl Logged {
    fn new(dir: &Dir, args: &[&str]) -> Self {
        let log = dir.path("log");
        let file = format!("logfile={log}");
        let args = [&["--filter=log"], args, &[&file]].concat();
        let server = Server::nbdkit(&args);
        Self { server, log }
    }

    /// The lines of one kind so far.
    fn lines(&self, kind: &str) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap();
        let is_it = |line: &&str| line.contains(&format!(" {kind} "));
        log.lines().filter(is_it).map(str::to_owned).collect()
    }

    /// Offset and length of each request of a kind.
    fn requests(&self, kind: &str) -> Vec<(u64, u64)> {
        let number = |line: &str, key: &str| {
            let value = line.split(key).nth(1).unwrap();
            let value = value.split(' ').next().unwrap();
            u64::from_str_radix(value.trim_start_matches("0x"), 16).unwrap()
        };
        let lines = self.lines(kind);
        let both = |line: &String| (number(line, "offset="), number(line, "count="));
        lines.iter().map(both).collect()
    }

    /// How many requests of a kind were under way at most.
    fn most(&self, kind: &str) -> usize {
        let log = fs::read_to_string(&self.log).unwrap();
        let (mut now, mut most) = (0_usize, 0);
        for line in log.lines() {
            if line.contains(&format!(" {kind} ")) {
                now += 1;
            } else if line.contains(&format!(" ...{kind} ")) {
                now -= 1;
            }
            most = most.max(now);
        }
        most
    }
}

/// A slow source of data that can have many connections.
fn slow(dir: &Dir) -> Logged {
    let disk = full_disk(dir, "slow", 2 * SIZE);
    Logged::new(dir, &["--filter=delay", "file", &disk, "rdelay=20ms"])
}

/// The destination of a copy of a [`disk`], with these options.
fn written(dir: &Dir, options: &[&str]) -> Logged {
    let (disk, back) = (disk(dir, "disk"), dir.disk("back", SIZE));
    let logged = Logged::new(dir, &["file", &back]);
    copied(&[options, &[&disk, &uri(&logged.server)]].concat());
    same(&disk, &back);
    logged
}

#[test]
fn connections_are_as_many_as_asked_for_at_most() {
    for (options, least, most) in [
        (&["-C", "1"][..], 1, 1),
        (&["--connections=2"], 2, 2),
        (&[], 2, 4),
        (&["-C8", "--synchronous"], 1, 1),
    ] {
        let dir = Dir::new();
        let logged = slow(&dir);
        let request = ["--request-size=64K", &uri(&logged.server), "null:"];
        copied(&[options, &request].concat());
        let connections = logged.lines("Connect").len();
        assert!(
            (least..=most).contains(&connections),
            "{options:?}: {connections}"
        );
    }
}

#[test]
fn requests_in_flight_are_limited_by_number_and_by_bytes() {
    for (options, least, most) in [
        (&["-R", "3"][..], 2, 3),
        (&["--requests=1"], 1, 1),
        (&["--synchronous"], 1, 1),
        (&["--queue-size=256K"], 2, 4),
        (&[], 8, 16),
    ] {
        let dir = Dir::new();
        let logged = slow(&dir);
        let request = ["-C1", "--request-size=64K", &uri(&logged.server), "null:"];
        copied(&[options, &request].concat());
        let in_flight = logged.most("Read");
        assert!(
            (least..=most).contains(&in_flight),
            "{options:?}: {in_flight}"
        );
    }
}

#[test]
fn requests_have_the_size_asked_for() {
    for (option, length) in [
        ("--request-size=65536", 64 << 10),
        ("--request-size=2M", 2 << 20),
    ] {
        let dir = Dir::new();
        let disk = full_disk(&dir, "disk", SIZE);
        let logged = Logged::new(&dir, &["file", &disk]);
        copied(&[option, &uri(&logged.server), "null:"]);
        let mut requests = logged.requests("Read");
        // Connections to one server are compared by a few sectors.
        requests.retain(|request| request.1 > 512);
        assert_eq!(requests.len() as u64, SIZE / length, "{option}");
        assert!(
            requests.iter().all(|request| request.1 == length),
            "{requests:?}"
        );
    }
}

#[test]
fn synchronous_copies_are_in_order() {
    let dir = Dir::new();
    let (disk, back) = (full_disk(&dir, "disk", SIZE), dir.disk("back", SIZE));
    let logged = Logged::new(&dir, &["file", &back]);
    copied(&[
        "--synchronous",
        "--request-size=64K",
        &disk,
        &uri(&logged.server),
    ]);
    let written = logged.requests("Write");
    assert_eq!(written.len() as u64, SIZE >> 16);
    assert!(written.is_sorted(), "{written:?}");
}

#[test]
fn the_source_is_not_asked_where_it_is_zero_without_extents() {
    let dir = Dir::new();
    let (disk, back) = (disk(&dir, "disk"), dir.path("back"));
    let logged = Logged::new(&dir, &["file", &disk]);
    // Before there is another connection, the first one is tried with a read.
    copied(&["--no-extents", "-C1", &uri(&logged.server), &back]);
    assert_eq!(logged.lines("Extents").len(), 0);
    let read: u64 = logged
        .requests("Read")
        .iter()
        .map(|request| request.1)
        .sum();
    assert_eq!(read, SIZE);
    same(&disk, &back);
    // What was read and is zero makes no room.
    assert!(room(&back) < SIZE / 2);
    copied(&[&uri(&logged.server), &back]);
    assert_ne!(logged.lines("Extents").len(), 0);
}

#[test]
fn zeroes_are_looked_for_in_blocks_of_the_size_asked_for() {
    let dir = Dir::new();
    // A block of zeroes of 8 KiB among data.
    let disk = dir.disk("disk", 64 << 10);
    let file = OpenOptions::new().write(true).open(&disk).unwrap();
    write(&file, 0, 16 << 10);
    write(&file, 24 << 10, 40 << 10);
    for (option, data) in [
        ("-S0", 64 << 10),
        ("-S512", 56 << 10),
        ("-S4k", 56 << 10),
        ("--sparse=8192", 56 << 10),
        ("-S16K", 64 << 10),
    ] {
        let back = dir.path(option);
        let report = report(&[option, "--no-extents", &disk, &back]);
        assert_eq!(report["data"], data, "{option}");
        assert_eq!(room(&back), data, "{option}");
        same(&disk, &back);
    }
}

#[test]
fn allocated_destinations_have_room_for_zeroes() {
    let dir = Dir::new();
    let (disk, back) = (disk(&dir, "disk"), dir.path("file"));
    copied(&["--allocated", &disk, &back]);
    same(&disk, &back);
    assert!(room(&back) >= SIZE);
    let logged = written(&dir, &["--allocated"]);
    assert!(room(&dir.path("back")) >= SIZE);
    assert!(
        logged
            .lines("Zero")
            .iter()
            .all(|line| line.contains("trim=0"))
    );
}

#[test]
fn zeroes_are_not_written_where_they_are() {
    for option in ["--destination-is-zero", "--target-is-zero"] {
        let dir = Dir::new();
        let logged = written(&dir, &[option]);
        assert_eq!(logged.lines("Zero").len(), 0, "{option}");
    }
    // What is not said is not taken for granted.
    let dir = Dir::new();
    let (disk, back) = (disk(&dir, "disk"), full_disk(&dir, "back", SIZE));
    let server = Server::nbdkit(&["file", &back]);
    copied(&[&disk, &uri(&server)]);
    same(&disk, &back);
}

#[test]
fn the_destination_is_flushed_unless_that_is_not_wanted() {
    for (options, flushes) in [
        (&[][..], true),
        (&["--flush"], true),
        (&["--no-flush"], false),
        (&["--no-flush", "--flush"], true),
        (&["--flush", "--no-flush"], false),
    ] {
        let dir = Dir::new();
        let logged = written(&dir, options);
        assert_eq!(!logged.lines("Flush").is_empty(), flushes, "{options:?}");
    }
}

#[test]
fn any_number_of_threads_will_do() {
    let dir = Dir::new();
    let disk = disk(&dir, "disk");
    let server = Server::nbdkit(&["file", &disk]);
    for (option, number) in [("-T0", 0), ("-T", 1), ("--threads", 3)] {
        let back = dir.path(&format!("back{number}"));
        let number = number.to_string();
        let threads: &[&str] = if option == "-T0" {
            &[option]
        } else {
            &[option, &number]
        };
        copied(&[threads, &[&uri(&server), &back]].concat());
        same(&disk, &back);
    }
}

#[test]
fn options_can_be_shortened_repeated_and_come_last() {
    let dir = Dir::new();
    let (disk, back) = (disk(&dir, "disk"), dir.path("back"));
    copied(&[
        "--alloc", &disk, "-C1", &back, "-C2", "-pv", "--flush", "--flush",
    ]);
    same(&disk, &back);
    assert!(room(&back) >= SIZE);
}

#[test]
fn copies_are_verified() {
    let dir = Dir::new();
    let disk = disk(&dir, "disk");
    let report = report(&["--verify", &disk, &dir.path("back")]);
    assert_eq!(report["verified"], true);
    // A server that loses what is written.
    let eval = [
        "eval",
        "get_size=echo 8M",
        "pread=head -c $3 /dev/zero",
        "pwrite=cat >/dev/null",
        "zero=exit 0",
    ];
    let server = Server::nbdkit(&eval);
    let (code, complaint) = failed(&["--verify", &disk, &uri(&server)]);
    assert_eq!(code, 1);
    assert!(complaint.contains("different at offset 0"), "{complaint}");
}

#[test]
fn what_cannot_be_read_becomes_zeroes_if_that_is_wanted() {
    // One sector at 100 KiB is bad.
    let pread = "pread=if [ $4 -le 102400 ] && [ $(($4 + $3)) -gt 102400 ]; then
        echo EIO bad sector >&2; exit 1; else head -c $3 /dev/zero | tr '\\0' x; fi";
    let dir = Dir::new();
    let back = dir.path("back");
    let server = Server::nbdkit(&["eval", "get_size=echo 256K", pread]);
    let request = ["--request-size=16K", &uri(&server), &back];
    let (code, complaint) = failed(&request);
    assert_eq!(code, 1);
    assert!(complaint.contains("the source of the copy"), "{complaint}");
    let output = copied(&[&["--salvage", "--json"][..], &request].concat());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        report["salvaged"],
        json!([{"offset": 102_400, "length": 512}])
    );
    assert!(
        errors(&output).contains("512 bytes at offset 102400"),
        "{}",
        errors(&output)
    );
    let mut expected = vec![b'x'; 256 << 10];
    expected[102_400..102_912].fill(0);
    assert!(fs::read(&back).unwrap() == expected);
}

#[test]
fn only_what_is_dirty_is_copied() {
    let dir = Dir::new();
    let (image, back) = (dir.path("image"), dir.path("back"));
    run("qemu-img", &["create", "-q", "-f", "qcow2", &image, "8M"]);
    let write = |command: &str| run("qemu-io", &["-f", "qcow2", "-c", command, &image]);
    write("write -P 1 0 1M");
    run("qemu-img", &["bitmap", "--add", "--enable", &image, "b0"]);
    let server = Server::qemu(&["-r", "-f", "qcow2", &image]);
    copied(&[&uri(&server), &back]);
    server.stop();
    write("write -P 2 2M 64k");
    write("write -z 64k 64k");
    let server = Server::qemu(&["-r", "-f", "qcow2", "-B", "b0", &image]);
    let context = "--only=qemu:dirty-bitmap:b0";
    let report = report(&[context, &uri(&server), &back]);
    assert_eq!(report["data"], 64 << 10);
    assert_eq!(report["zeroes"], 64 << 10);
    run(
        "qemu-img",
        &["compare", "-f", "raw", "-F", "qcow2", &back, &image],
    );
    let (code, complaint) = failed(&["--only=qemu:dirty-bitmap:b1", &uri(&server), &back]);
    assert_eq!(code, 1);
    assert!(complaint.contains("qemu:dirty-bitmap:b1"), "{complaint}");
}

#[test]
fn the_rate_is_limited() {
    let dir = Dir::new();
    let disk = full_disk(&dir, "disk", SIZE);
    // It can be slower than the limit, never quicker; one request is free.
    let report = report(&["--rate=16M", &disk, "null:"]);
    let seconds = report["elapsed"].as_f64().unwrap();
    assert!(seconds > 0.4, "{seconds}");
}
