//! Requests for ranges that do not begin and end where blocks do.

use std::time::Duration;

use bytes::BytesMut;
use futures::FutureExt;
use nbd_client::testing::{Export, ReplyOrder, Server};
use nbd_client::wire::{Command, CommandFlags, Errno, TransmissionFlags};
use nbd_client::{Connection, Error, InvalidRequest};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::shared::long;
use crate::support::*;

const SIZE: u64 = 1 << 18;
/// Far beyond what anything here takes: whoever waits longer waits for ever.
const WATCHDOG: Duration = Duration::from_secs(60);
const BLOCKS: [u32; 2] = [512, 4096];

/// An export of blocks of this length, in which no two bytes near each other are alike.
fn disk(block: u32) -> Export {
    let content: Vec<u8> = (0..SIZE).map(pattern).collect();
    Export::from_contents(content)
        .block_sizes(block, 4096, 1 << 16)
        .log_requests(1000)
}

const fn pattern(at: u64) -> u8 {
    (at % 251) as u8
}

async fn connect(export: &Export) -> Connection {
    // The server takes long now and then, and answers in any order.
    let server = Server::builder()
        .export("", export.clone())
        .reply_order(ReplyOrder::Random(7))
        .build();
    let conn = Connection::new();
    conn.connect_stream(server.connect()).await.unwrap();
    conn
}

/// Random ranges, many of them with ends near the ends of blocks.
fn ranges(count: u64) -> Vec<(u64, usize)> {
    let mut random = Random::seeded(3);
    let mut place = |most: u64| {
        let place = random.below(most + 1);
        match random.below(3) {
            0 => place / 512 * 512,
            1 => (place / 512 * 512 + random.below(3))
                .saturating_sub(1)
                .min(most),
            _ => place,
        }
    };
    (0..count)
        .map(|round| {
            let offset = place(SIZE - 1);
            let most = if round % 8 == 0 { 1 << 17 } else { 10_000 };
            let length = place(most.min(SIZE - offset)).clamp(1, SIZE - offset);
            (offset, length as usize)
        })
        .collect()
}

both_runtimes!(any_range_can_be_read);
async fn any_range_can_be_read() {
    for block in BLOCKS {
        let conn = connect(&disk(block)).await;
        let mut buffer = BytesMut::new();
        for (offset, length) in ranges(300) {
            let expected: Vec<u8> = (offset..).take(length).map(pattern).collect();
            let data = conn.read(offset, length).unaligned().await.unwrap();
            assert!(data == expected, "{length} at {offset}");
            buffer.resize(length, 0);
            let place = buffer.as_ptr();
            let has_room = buffer.capacity() >= length + 2 * block as usize;
            buffer = conn.read_into(offset, buffer).unaligned().await.unwrap();
            assert!(buffer == expected, "{length} at {offset}, into a buffer");
            assert!(
                !has_room || buffer.as_ptr() == place,
                "it was allocated anew"
            );
        }
    }
}

both_runtimes!(any_range_can_be_written_and_zeroed);
async fn any_range_can_be_written_and_zeroed() {
    for block in BLOCKS {
        let export = disk(block);
        let conn = connect(&export).await;
        let mut model = export.contents(0, SIZE as usize);
        for (round, (offset, length)) in ranges(300).into_iter().enumerate() {
            let range = offset as usize..offset as usize + length;
            if round % 3 == 0 {
                let zeroes = conn.write_zeroes(offset, length as u64).unaligned();
                zeroes.await.unwrap();
                model[range].fill(0);
            } else {
                let data = vec![round as u8; length];
                conn.write(offset, data).unaligned().await.unwrap();
                model[range].fill(round as u8);
            }
            assert!(
                export.contents(0, SIZE as usize) == model,
                "{length} at {offset}"
            );
        }
    }
}

#[tokio::test]
async fn the_last_block_of_an_export_may_be_shorter() {
    let export = Export::new(10_000).block_sizes(4096, 4096, 1 << 16);
    let conn = connect(&export).await;
    conn.write(9990, "0123456789").unaligned().await.unwrap();
    conn.write(8000, vec![7; 500]).unaligned().await.unwrap();
    let tail = conn.read(9995, 5).unaligned().await.unwrap();
    assert_eq!(&tail[..], b"56789");
    assert_eq!(export.contents(8000, 500), [7; 500]);
    assert_eq!(export.contents(8500, 1490), [0; 1490]);
    let beyond = conn.write(9990, vec![1; 11]).unaligned().await;
    assert_matches!(
        beyond,
        Err(Error::Invalid(InvalidRequest::OutOfBounds {
            offset: 9990,
            length: 11,
            ..
        }))
    );
    let wide = conn.read(u64::MAX - 1, 9).unaligned().await;
    assert_matches!(
        wide,
        Err(Error::Invalid(InvalidRequest::OutOfBounds { .. }))
    );
}

#[tokio::test]
async fn it_costs_nothing_where_the_range_consists_of_blocks() {
    let small = Export::new(SIZE)
        .block_sizes(1, 4096, 1 << 20)
        .log_requests(9);
    for (export, offset, length) in [(disk(512), 512, 1024), (small, 5, 7)] {
        let conn = connect(&export).await;
        conn.read(offset, length).unaligned().await.unwrap();
        let data = vec![1; length];
        conn.write(offset, data).unaligned().await.unwrap();
        let zeroes = conn.write_zeroes(offset, length as u64).unaligned();
        zeroes.await.unwrap();
        let log = export.log();
        let sent: Vec<_> = log.iter().map(|head| (head.command, head.length)).collect();
        let length = length as u64;
        assert_eq!(
            sent,
            [
                (Command::READ, length),
                (Command::WRITE, length),
                (Command::WRITE_ZEROES, length)
            ]
        );
    }
}

#[tokio::test]
async fn only_the_blocks_at_the_ends_are_read() {
    let export = disk(512);
    let conn = connect(&export).await;
    conn.write(100, vec![1; 5000])
        .unaligned()
        .fua()
        .await
        .unwrap();
    let mut sent: Vec<_> = export
        .log()
        .iter()
        .map(|head| (head.command, head.offset, head.length))
        .collect();
    sent.sort_by_key(|&(command, offset, _)| (command.0, offset));
    assert_eq!(
        sent,
        [
            (Command::READ, 0, 512),
            (Command::READ, 4608, 512),
            (Command::WRITE, 0, 512),
            (Command::WRITE, 512, 4096),
            (Command::WRITE, 4608, 512),
        ]
    );
    let is_fua = |head: &&_| head_is_fua(head);
    assert_eq!(export.log().iter().filter(is_fua).count(), 3);
    assert!(!conn.has_unflushed_writes());
}

fn head_is_fua(head: &nbd_client::wire::request::RequestHead) -> bool {
    head.flags.contains(CommandFlags::FUA)
}

#[tokio::test]
async fn fua_that_is_emulated_is_one_flush_at_the_end() {
    let flags = TransmissionFlags::HAS_FLAGS | TransmissionFlags::SEND_FLUSH;
    let export = disk(512).flags(flags);
    let conn = Connection::builder().emulate_fua(true).build();
    let server = Server::new(export.clone());
    conn.connect_stream(server.connect()).await.unwrap();
    conn.write(100, vec![1; 5000])
        .unaligned()
        .fua()
        .await
        .unwrap();
    let commands: Vec<_> = export.log().iter().map(|head| head.command).collect();
    assert_eq!(commands.len(), 6);
    assert_eq!(commands.last(), Some(&Command::FLUSH));
    assert!(!conn.has_unflushed_writes());
}

#[tokio::test]
async fn fast_zeroes_that_are_refused_change_nothing() {
    let export = disk(512).fast_zero(false);
    let conn = connect(&export).await;
    let before = export.contents(0, SIZE as usize);
    let zeroes = conn.write_zeroes(100, 5000).unaligned().fast_zero().await;
    assert_matches!(zeroes, Err(Error::Request(error)) if error.errno() == Errno::ENOTSUP);
    assert!(export.contents(0, SIZE as usize) == before);
}

#[tokio::test]
async fn what_is_not_possible_fails_before_anything_is_sent() {
    let export = disk(512).read_only(true);
    let conn = connect(&export).await;
    let error = conn.write(1, "x").unaligned().await.unwrap_err();
    assert_matches!(error, Error::Invalid(InvalidRequest::ReadOnly(_)));
    let poor = disk(512).flags(TransmissionFlags::HAS_FLAGS);
    let conn = connect(&poor).await;
    let error = conn.write_zeroes(1, 1).unaligned().await.unwrap_err();
    assert_matches!(error, Error::Invalid(InvalidRequest::Unsupported(_)));
    let error = conn.write(1, "x").unaligned().fua().await.unwrap_err();
    assert_matches!(
        error,
        Error::Invalid(InvalidRequest::UnsupportedFlag("FUA"))
    );
    conn.disconnect().await.unwrap();
    let error = conn.write(1, "x").unaligned().await.unwrap_err();
    assert_matches!(error, Error::Closed(_));
    assert_eq!(export.counters().requests() + poor.counters().requests(), 0);
}

#[tokio::test]
async fn a_read_that_fails_is_told_and_the_block_can_be_written_again() {
    let export = disk(4096);
    let server = Server::builder()
        .export("", export.clone())
        .fail_with(|head| {
            let is_bad = head.command == Command::READ && head.offset == 4096;
            is_bad.then(|| (Errno::EIO, "bad sector".into()))
        })
        .build();
    let conn = Connection::new();
    conn.connect_stream(server.connect()).await.unwrap();
    let failed = conn.write(5000, "x").unaligned().await;
    assert_matches!(
        failed,
        Err(Error::Request(error))
            if error.command() == Command::READ && error.offset() == 4096
    );
    assert_eq!(export.contents(5000, 1), [pattern(5000)]);
    conn.write(4096, vec![1; 4096]).await.unwrap();
}

// Tasks change bytes of their own, all in the same few blocks, over and over. Each looks at once
// whether its bytes are what it wrote.
both_runtimes!(tasks_that_change_neighbours_lose_nothing);
async fn tasks_that_change_neighbours_lose_nothing() {
    const TASKS: u64 = 8;
    let rounds = 60 * long::factor() as u64;
    for block in BLOCKS {
        let export = disk(block);
        let conn = connect(&export).await;
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let (conn, export) = (conn.clone(), export.clone());
            tasks.spawn(async move {
                // Neighbours, in the last two blocks of 4 KiB and across their border.
                let bytes = 700;
                let offset = SIZE - 8192 + 1300 + task * bytes;
                for round in 0..rounds {
                    let value = (round * TASKS + task) as u8 | 1;
                    let data = vec![value; bytes as usize];
                    if round % 5 == 4 {
                        let zeroes = conn.write_zeroes(offset, bytes).unaligned();
                        zeroes.await.unwrap();
                    }
                    // One that is given up at any point may have been written, and comes before.
                    let given_up = conn.write(offset, vec![0; bytes as usize]).unaligned();
                    drop_after((round % 7) as usize, given_up.into_future()).await;
                    conn.write(offset, data.clone()).unaligned().await.unwrap();
                    let held = export.contents(offset, bytes as usize);
                    assert!(held == data, "task {task}, round {round}");
                }
            });
        }
        let all = async {
            while let Some(result) = tasks.join_next().await {
                result.unwrap();
            }
        };
        timeout(WATCHDOG, all)
            .await
            .expect("they wait for each other");
        assert_eq!(conn.in_flight(), 0);
    }
}

// Whole blocks and parts of them: the newest data stays.
both_runtimes!(whole_blocks_and_parts_do_not_undo_each_other);
async fn whole_blocks_and_parts_do_not_undo_each_other() {
    let export = disk(4096);
    let conn = connect(&export).await;
    let rounds = 200 * long::factor();
    let work = async {
        for round in 0..rounds {
            let value = round as u8;
            let part = conn.write(4096 + 10, vec![value; 100]).unaligned();
            let whole = conn.write(4096, vec![value; 8192]);
            if round % 2 == 0 {
                tokio::try_join!(part.into_future(), whole.into_future()).unwrap();
            } else {
                tokio::try_join!(whole.into_future(), part.into_future()).unwrap();
            }
            assert!(
                export.contents(4096, 8192) == vec![value; 8192],
                "round {round}"
            );
        }
    };
    timeout(WATCHDOG, work)
        .await
        .expect("they wait for each other");
}

#[tokio::test]
async fn one_that_nobody_polls_holds_up_nobody() {
    let export = disk(4096);
    let conn = connect(&export).await;
    // It has begun, and is left alone from then on.
    let mut idle = Box::pin(conn.write(10, "idle").unaligned().into_future());
    assert!(idle.as_mut().now_or_never().is_none());
    let mut behind = Box::pin(conn.write(20, "behind").unaligned().into_future());
    assert!(behind.as_mut().now_or_never().is_none());
    let whole = conn.write(0, vec![9; 4096]);
    timeout(WATCHDOG, whole.into_future())
        .await
        .expect("it waits for a future that nobody polls")
        .unwrap();
    idle.await.unwrap();
    behind.await.unwrap();
}

#[tokio::test]
async fn given_up_at_each_poll_it_leaves_no_lock_and_no_old_data() {
    let export = disk(512);
    let conn = connect(&export).await;
    for polls in 0..40 {
        let old = conn.write(100, vec![0xaa; 1000]).unaligned();
        drop_after(polls, old.into_future()).await;
        let new = conn.write(0, vec![polls as u8; 2048]);
        let result = timeout(WATCHDOG, new.into_future()).await;
        result.expect("a lock was left").unwrap();
        settle().await;
        assert!(
            export.contents(0, 2048) == vec![polls as u8; 2048],
            "{polls}"
        );
    }
}

#[tokio::test]
async fn a_flush_covers_what_was_begun_before() {
    let export = disk(512);
    let conn = connect(&export).await;
    let mut write = Box::pin(conn.write(100, vec![1; 50]).unaligned().into_future());
    assert!(write.as_mut().now_or_never().is_none());
    conn.flush().await.unwrap();
    assert_eq!(export.log().last().unwrap().command, Command::FLUSH);
    assert_eq!(export.contents(100, 50), [1; 50]);
    write.await.unwrap();
    assert!(!conn.has_unflushed_writes());
}
