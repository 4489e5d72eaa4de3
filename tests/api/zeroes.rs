//! Zeroes on servers that have no command for them.

use std::time::Duration;

use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Command, CommandFlags, Errno, ReplyStyle, TransmissionFlags};
use nbd_client::{Connection, Delivery, Error, InvalidRequest};

use crate::support::*;

const MIB: u64 = 1 << 20;

/// An export full of ones, without zeroes, that offers no more than these flags say.
fn poor(flags: TransmissionFlags) -> Export {
    let export = Export::new(8 * MIB)
        .block_sizes(4096, 4096, 1 << 20)
        .flags(TransmissionFlags::HAS_FLAGS | flags)
        .log_requests(1000);
    export.fill(0, 8 * MIB, 1);
    export
}

async fn connect(export: &Export) -> Connection {
    let conn = Connection::builder().emulate_fua(true).build();
    let server = Server::new(export.clone());
    conn.connect_stream(server.connect()).await.unwrap();
    conn
}

/// Zeroes are in `range` and nowhere else.
fn assert_zeroes(export: &Export, range: std::ops::Range<u64>) {
    let held = export.contents(0, 8 << 20);
    let wrong = (0..)
        .zip(&held)
        .find(|(at, byte)| range.contains(at) == (**byte != 0));
    assert_eq!(wrong, None, "{range:?}");
}

both_runtimes!(zeroes_are_written_where_there_is_no_command_for_them);
async fn zeroes_are_written_where_there_is_no_command_for_them() {
    let export = poor(TransmissionFlags::empty());
    let conn = connect(&export).await;
    let refused = conn.write_zeroes(0, 4096).await.unwrap_err();
    assert_matches!(refused, Error::Invalid(InvalidRequest::Unsupported(_)));
    conn.write_zeroes(4096, 5 * MIB).or_write().await.unwrap();
    assert_zeroes(&export, 4096..4096 + 5 * MIB);
    let log = export.log();
    assert!(log.iter().all(|head| head.command == Command::WRITE));
    let longest = log.iter().map(|head| head.length).max();
    assert_eq!(
        longest,
        Some(256 << 10),
        "of a few, which share their memory"
    );
    conn.write_zeroes(8 * MIB, 0).or_write().await.unwrap();
    let outside = conn.write_zeroes(8 * MIB, 4096).or_write().await;
    assert_matches!(
        outside,
        Err(Error::Invalid(InvalidRequest::OutOfBounds { .. }))
    );
    let unaligned = conn.write_zeroes(1, 4096).or_write().await;
    assert_matches!(
        unaligned,
        Err(Error::Invalid(InvalidRequest::Unaligned { .. }))
    );
    assert_eq!(export.log().len(), log.len());
}

#[tokio::test]
async fn any_range_can_be_zeroed_by_any_server() {
    for flags in [
        TransmissionFlags::empty(),
        TransmissionFlags::SEND_WRITE_ZEROES,
    ] {
        let export = poor(flags);
        let conn = connect(&export).await;
        let zeroes = conn.write_zeroes(1000, MIB).or_write().unaligned();
        zeroes.await.unwrap();
        assert_zeroes(&export, 1000..1000 + MIB);
    }
}

#[tokio::test]
async fn the_flags_are_those_of_the_request() {
    let flags = TransmissionFlags::SEND_FUA;
    let export = poor(flags);
    let conn = connect(&export).await;
    let zeroes = conn.write_zeroes(0, MIB).no_hole().fua().or_write();
    zeroes.await.unwrap();
    let log = export.log();
    assert_eq!(log.len(), 4);
    assert!(
        log.iter()
            .all(|head| head.flags.contains(CommandFlags::FUA))
    );
    assert!(!conn.has_unflushed_writes());

    // In place of it, one flush follows.
    let export = poor(TransmissionFlags::SEND_FLUSH);
    let conn = connect(&export).await;
    let zeroes = conn.write_zeroes(0, MIB).fua().or_write();
    zeroes.await.unwrap();
    let commands: Vec<_> = export.log().iter().map(|head| head.command).collect();
    assert_eq!(commands.len(), 5);
    assert_eq!(commands[4], Command::FLUSH);
}

#[tokio::test]
async fn fast_zeroes_that_are_refused_are_written() {
    let all = TransmissionFlags::SEND_WRITE_ZEROES | TransmissionFlags::SEND_FAST_ZERO;
    let export = poor(all).fast_zero(false);
    let conn = connect(&export).await;
    let refused = conn.write_zeroes(0, MIB).fast_zero().await;
    assert_matches!(refused, Err(Error::Request(error)) if error.errno() == Errno::ENOTSUP);
    assert_zeroes(&export, 0..0);
    let zeroes = conn.write_zeroes(0, MIB).fast_zero().or_write();
    zeroes.await.unwrap();
    assert_zeroes(&export, 0..MIB);

    // Zeroes are not offered as fast ones.
    let export = poor(TransmissionFlags::SEND_WRITE_ZEROES);
    let conn = connect(&export).await;
    let zeroes = conn
        .write_zeroes(100, 5000)
        .fast_zero()
        .unaligned()
        .or_write();
    zeroes.await.unwrap();
    assert_zeroes(&export, 100..5100);
    let log = export.log();
    assert!(log.iter().all(|head| head.command != Command::WRITE_ZEROES));
}

#[tokio::test]
async fn where_there_is_a_command_it_is_used() {
    let export = poor(TransmissionFlags::SEND_WRITE_ZEROES);
    let conn = connect(&export).await;
    conn.write_zeroes(0, 8 * MIB).or_write().await.unwrap();
    assert_eq!(export.log().len(), 1);
    assert_zeroes(&export, 0..8 * MIB);
}

#[tokio::test]
async fn a_failure_that_is_not_about_speed_is_told() {
    let export = poor(TransmissionFlags::SEND_WRITE_ZEROES | TransmissionFlags::SEND_FAST_ZERO);
    let server = Server::builder()
        .export("", export.clone())
        .fail_with(|head| {
            let zeroes = head.command == Command::WRITE_ZEROES;
            zeroes.then(|| (Errno::EIO, String::new()))
        })
        .build();
    let conn = Connection::new();
    conn.connect_stream(server.connect()).await.unwrap();
    let failed = conn.write_zeroes(0, MIB).fast_zero().or_write().await;
    assert_matches!(failed, Err(Error::Request(error)) if error.errno() == Errno::EIO);
    assert_eq!(export.log().len(), 1);
    let read_only = poor(TransmissionFlags::READ_ONLY);
    let conn = connect(&read_only).await;
    let refused = conn.write_zeroes(0, MIB).or_write().await;
    assert_matches!(
        refused,
        Err(Error::Invalid(InvalidRequest::ReadOnly(Command::WRITE)))
    );
}

#[tokio::test(start_paused = true)]
async fn zeroes_whose_refusal_came_unseen_were_sent() {
    let style = ReplyStyle::Structured;
    let (conn, mut peer) = ready_with(builder(style).max_in_flight(1), style).await;
    let read = tokio::spawn(conn.read(0, 512).into_future());
    let request = peer.expect_command(Command::READ).await.unwrap();
    let zeroes = conn.write_zeroes(0, MIB).fast_zero().or_write();
    let zeroes = zeroes.timeout(Duration::from_secs(2)).submit();
    // Its turn comes while nobody polls it, and so does the answer.
    peer.send_reply(data(style, &request.head, &[1; 512]))
        .await
        .unwrap();
    let _ = read.await.unwrap().unwrap();
    let request = peer.expect_command(Command::WRITE_ZEROES).await.unwrap();
    peer.send_error(&request.head, Errno::ENOTSUP, "")
        .await
        .unwrap();
    settle().await;
    let error = zeroes.await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::MaybeSent, "{error}");
    assert_matches!(conn.closed().await, Error::Timeout(..));
}
