//! Failures on the server, which leave the connection as it was.

use std::time::Duration;

use nbd_client::wire::{Command, Errno, OptionReplyType, OptionType};
use nbd_client::{Connection, Connector, Disk, Error, Phase, Retry};

use super::{connect, request_error};
use crate::shared::server::{Dir, Server};

/// A server on which every command fails in its own way.
const FAILING: [&str; 11] = [
    "eval",
    "get_size=echo 1M",
    "pread=echo EPERM no reading today >&2; exit 1",
    "pwrite=cat >/dev/null; echo ENOSPC the disk is full >&2; exit 1",
    "flush=echo EIO the disk is broken >&2; exit 1",
    "trim=echo EINVAL no trimming >&2; exit 1",
    "zero=echo ENOMEM no memory >&2; exit 1",
    "cache=echo ESHUTDOWN going away >&2; exit 1",
    "can_cache=echo native",
    "can_write=exit 0",
    "can_flush=exit 0",
];

both_runtimes!(the_number_of_an_error_is_the_one_the_server_chose);
async fn the_number_of_an_error_is_the_one_the_server_chose() {
    let mut args = FAILING.to_vec();
    args.extend(["can_trim=exit 0", "can_zero=exit 0"]);
    for no_sr in [false, true] {
        if no_sr {
            args.insert(0, "--no-sr");
        }
        let (conn, _server) = connect(&args).await;
        let mut seen = Vec::new();
        let mut note = |result| {
            let error = request_error(result);
            seen.push((error.command(), error.errno()));
        };
        note(conn.read(0, 512).await.map(drop));
        note(conn.write(0, vec![1; 512]).await);
        note(conn.flush().await);
        note(conn.trim(0, 512).await);
        note(conn.write_zeroes(0, 512).await);
        assert!(conn.is_ready());
        // Who shuts down is left.
        note(conn.cache(0, 512).await);
        assert_eq!(
            seen,
            [
                (Command::READ, Errno::EPERM),
                (Command::WRITE, Errno::ENOSPC),
                (Command::FLUSH, Errno::EIO),
                (Command::TRIM, Errno::EINVAL),
                (Command::WRITE_ZEROES, Errno::ENOMEM),
                (Command::CACHE, Errno::ESHUTDOWN),
            ]
        );
        let cause = conn.closed().await;
        assert!(
            matches!(&cause, Error::Disconnected(lost, _) if lost.phase() == Phase::Shutdown),
            "{cause}"
        );
        assert!(cause.is_retryable());
    }
}

both_runtimes!(a_disk_that_gives_up_says_how_often_it_tried_and_what_to_look_at);
async fn a_disk_that_gives_up_says_how_often_it_tried_and_what_to_look_at() {
    let server = Server::nbdkit(&["memory", "1M"]);
    let retry = Retry::default().first(Duration::from_millis(1)).attempts(3);
    let to = Connector::unix(server.socket());
    let disk = Disk::builder().retry(retry).open(to).await.unwrap();
    // First its name: from then on no attempt finds anything else.
    std::fs::remove_file(server.socket()).unwrap();
    drop(server);
    let error = disk.read(0, 512).await.unwrap_err();
    let text = error.to_string();
    let hint = "no such file or directory (is the server running?); gave up after 3 attempts in ";
    assert!(text.contains(hint), "{text}");
    assert_eq!(text.matches("gave up").count(), 1, "{text}");
    assert_eq!(error.errno(), Some(2));
}

// P-142: FAST_ZERO may fail with ENOTSUP.
both_runtimes!(a_fast_zero_that_would_be_slow_fails_and_a_slow_one_does_not);
async fn a_fast_zero_that_would_be_slow_fails_and_a_slow_one_does_not() {
    let dir = Dir::new();
    let disk = dir.file("disk", vec![1; 65536]);
    let pwrite = format!("pwrite=dd of={disk} seek=$4 conv=notrunc oflag=seek_bytes status=none");
    let (conn, _server) = connect(&[
        "eval",
        "get_size=echo 64K",
        &format!("pread=dd if={disk} skip=$4 count=$3 iflag=skip_bytes,count_bytes status=none"),
        &pwrite,
        "can_write=exit 0",
        "can_zero=exit 0",
        "can_fast_zero=exit 0",
        "zero=echo EOPNOTSUPP slow >&2; exit 1",
    ])
    .await;
    assert!(conn.export().unwrap().can_fast_zero());
    let error = request_error(conn.write_zeroes(0, 4096).fast_zero().await);
    assert_eq!(error.errno(), Errno::ENOTSUP);
    conn.write_zeroes(0, 4096).await.unwrap();
    let held = std::fs::read(&disk).unwrap();
    assert!(held[..4096] == [0; 4096] && held[4096] == 1);
}

both_runtimes!(a_server_that_fails_for_a_while_is_used_again_afterwards);
async fn a_server_that_fails_for_a_while_is_used_again_afterwards() {
    let dir = Dir::new();
    let trigger = dir.path("trigger");
    let (conn, _server) = connect(&[
        "--filter=error",
        "pattern",
        "1M",
        "error-pread=ENOMEM",
        "error-pread-rate=100%",
        &format!("error-file={trigger}"),
    ])
    .await;
    conn.read(0, 4096).await.unwrap();
    dir.file("trigger", "");
    for _ in 0..10 {
        let error = request_error(conn.read(0, 4096).await);
        assert_eq!(error.errno(), Errno::ENOMEM);
    }
    std::fs::remove_file(&trigger).unwrap();
    let data = conn.read(4096, 8).await.unwrap();
    assert_eq!(&data[..], 4096u64.to_be_bytes());
}

both_runtimes!(one_of_many_requests_fails_and_the_others_do_not);
async fn one_of_many_requests_fails_and_the_others_do_not() {
    let (conn, _server) = connect(&[
        "eval",
        "get_size=echo 1M",
        "pread=if [ $4 = 4096 ]; then echo EIO bad sector >&2; exit 1; fi; \
         dd if=/dev/zero count=$3 iflag=count_bytes status=none",
    ])
    .await;
    let reads = (0..8).map(|block| {
        let read = conn.read(block * 4096, 4096);
        read.into_future()
    });
    let results = futures::future::join_all(reads).await;
    for (block, result) in results.into_iter().enumerate() {
        match block {
            1 => assert_eq!(request_error(result).errno(), Errno::EIO),
            _ => assert_eq!(result.unwrap(), vec![0; 4096]),
        }
    }
}

// P-052: a refusal leaves negotiation usable.
both_runtimes!(an_export_that_cannot_be_opened_is_refused);
async fn an_export_that_cannot_be_opened_is_refused() {
    let server = Server::nbdkit(&[
        "eval",
        "get_size=echo 1M",
        "open=echo EACCES nobody comes in >&2; exit 1",
    ]);
    let conn = Connection::new();
    let error = conn.connect_unix(server.socket()).await.unwrap_err();
    let Error::Refused(refusal) = &error else {
        panic!("not a refusal: {error}");
    };
    assert_eq!(refusal.option(), OptionType::GO);
    assert_eq!(refusal.reply(), OptionReplyType::ERR_UNKNOWN);
    assert!(conn.is_dead() || conn.is_closed());
}
