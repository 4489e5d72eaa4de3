//! Requests that are longer than one message can be.

use std::time::Duration;

use bytes::BytesMut;
use futures::TryStreamExt;
use nbd_client::testing::{Export, Server};
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{Command, CommandFlags, Errno, ReplyStyle, TransmissionFlags};
use nbd_client::{Connection, Delivery, Error, Request, op};
use tokio::time::timeout;

use crate::support::*;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// Far beyond what anything here takes: whoever waits longer waits for ever.
const WATCHDOG: Duration = Duration::from_secs(60);
/// No more messages of one request than this are sent ahead of what is answered.
const MOST_AHEAD: usize = 256;

async fn connected(style: ReplyStyle, export: &Export) -> Connection {
    let conn = builder(style).build();
    conn.connect_stream(Server::new(export.clone()).connect())
        .await
        .unwrap();
    conn
}

/// The messages of one request cover `offset..end`, one after the other.
fn assert_covers(log: &[RequestHead], offset: u64, end: u64) {
    let reached = log.iter().fold(offset, |at, head| {
        assert_eq!(head.offset, at, "a gap or an overlap");
        at + head.length
    });
    assert_eq!(reached, end);
}

/// What the requests that have no data are called, and how each is made.
type Bare = (Command, fn(&Connection, u64, u64) -> Sent);
type Sent = futures::future::BoxFuture<'static, nbd_client::Result<()>>;

fn boxed<O>(request: Request<O>) -> Sent
where
    O: op::Operation,
    Request<O>: IntoFuture<Output = nbd_client::Result<()>, IntoFuture: Send + 'static>,
{
    Box::pin(IntoFuture::into_future(request))
}

const BARE: [Bare; 3] = [
    (Command::TRIM, |conn, offset, length| {
        boxed(conn.trim(offset, length))
    }),
    (Command::WRITE_ZEROES, |conn, offset, length| {
        boxed(conn.write_zeroes(offset, length))
    }),
    (Command::CACHE, |conn, offset, length| {
        boxed(conn.cache(offset, length))
    }),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k36_what_a_call_accepts_does_not_depend_on_the_headers() {
    for style in STYLES {
        for (command, act) in BARE {
            let export = Export::new(1 << 40).log_requests(1000);
            let conn = connected(style, &export).await;
            act(&conn, 4096, 10 * GIB).await.unwrap();
            let log = export.log();
            assert_covers(&log, 4096, 4096 + 10 * GIB);
            assert!(log.iter().all(|head| head.command == command));
            let messages = match (command, style) {
                (Command::CACHE, _) => 10 * GIB / (32 * MIB),
                (_, ReplyStyle::Extended) => 1,
                _ => 3,
            };
            assert_eq!(log.len() as u64, messages, "{command} {style:?}");
            conn.disconnect().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_length_of_a_status_is_what_is_safe_with_the_headers() {
    for style in CHUNKED {
        let export = Export::new(1 << 40).log_requests(10);
        let server = Server::new(export.clone());
        let conn = builder(style).meta_context("base:allocation").build();
        conn.connect_stream(server.connect()).await.unwrap();
        conn.block_status(0, 10 * GIB).await.unwrap();
        let expected = match style {
            ReplyStyle::Extended => 10 * GIB,
            _ => (1 << 32) - (64 << 10),
        };
        assert_eq!(export.log().pop().unwrap().length, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_end_at_blocks_that_the_server_prefers() {
    for (minimum, preferred, maximum) in [
        (1, 4096, u32::MAX),
        (512, 64 << 10, 1 << 20),
        (4096, 1 << 31, 1 << 31),
        (65_536, 65_536, 1 << 20),
    ] {
        for (command, act) in BARE {
            let export = Export::new(20 * GIB)
                .block_sizes(minimum, preferred, maximum)
                .log_requests(1 << 18);
            let conn = connected(ReplyStyle::Structured, &export).await;
            let (offset, end) = (65_536, 9 * GIB);
            act(&conn, offset, end - offset).await.unwrap();
            let log = export.log();
            assert_covers(&log, offset, end);
            let most = match command {
                Command::CACHE => u64::from(maximum).min(32 * MIB),
                _ => u64::from(u32::MAX),
            };
            let block = match u64::from(preferred) {
                preferred if preferred > most => u64::from(minimum),
                preferred => preferred,
            };
            let context = format!("{command} {minimum} {preferred} {maximum}");
            for head in &log[..log.len() - 1] {
                assert_eq!((head.offset + head.length) % block, 0, "{context}");
                assert!(head.length <= most, "{context}");
            }
            let least = (end - offset).div_ceil(most) as usize;
            assert!(
                log.len() <= least + least / 8 + 2,
                "{context}: {}",
                log.len()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_has_the_flags_of_the_request() {
    let export = Export::new(1 << 40).log_requests(10);
    let conn = connected(ReplyStyle::Simple, &export).await;
    conn.trim(0, 10 * GIB).fua().await.unwrap();
    let zero = conn.write_zeroes(0, 10 * GIB).fua().fast_zero();
    zero.await.unwrap();
    let flags: Vec<_> = export.log().iter().map(|head| head.flags).collect();
    let (trim, zero) = (
        CommandFlags::FUA,
        CommandFlags::FUA | CommandFlags::FAST_ZERO,
    );
    assert_eq!(flags, [trim, trim, trim, zero, zero, zero]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zeroes_that_cannot_be_fast_leave_everything_as_it_was() {
    for style in STYLES {
        let export = Export::new(1 << 40).fast_zero(false).log_requests(10);
        let places = [0, 4 * GIB, 8 * GIB, 10 * GIB - 1];
        places.iter().for_each(|&at| export.write(at, [7]));
        let conn = connected(style, &export).await;
        let zero = conn.write_zeroes(0, 10 * GIB).fast_zero().await;
        assert_matches!(zero, Err(Error::Request(e)) if e.errno() == Errno::ENOTSUP);
        assert_eq!(export.log().len(), 1, "the others are not sent");
        for at in places {
            assert_eq!(export.contents(at, 1), [7]);
        }
        conn.read(0, 512).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_in_the_middle_is_the_result_and_the_rest_is_not_sent() {
    for (_, act) in BARE {
        let export = Export::new(1 << 40).log_requests(10_000);
        let server = Server::builder()
            .export("", export.clone())
            .fail_with(|head| (head.offset >= 30 * GIB).then(|| (Errno::EIO, String::new())))
            .build();
        let conn = builder(ReplyStyle::Structured).build();
        conn.connect_stream(server.connect()).await.unwrap();
        let error = act(&conn, 0, 100 * GIB).await.unwrap_err();
        assert_matches!(&error, Error::Request(e) if e.errno() == Errno::EIO);
        assert_eq!(error.delivery(), Delivery::MaybeSent);
        assert!(conn.is_ready());
        conn.disconnect().await.unwrap();
        let last = export.log().iter().map(|head| head.offset).max().unwrap();
        assert!(last < 60 * GIB, "{last} was sent");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_in_place_of_fua_comes_after_the_last_message() {
    let flags = all_flags() - TransmissionFlags::SEND_FUA;
    let export = Export::new(1 << 40).flags(flags).log_requests(10);
    let server = Server::new(export.clone());
    let conn = builder(ReplyStyle::Simple).emulate_fua(true).build();
    conn.connect_stream(server.connect()).await.unwrap();
    conn.write_zeroes(0, 10 * GIB).fua().await.unwrap();
    let commands: Vec<_> = export.log().iter().map(|head| head.command).collect();
    let zero = Command::WRITE_ZEROES;
    assert_eq!(commands, [zero, zero, zero, Command::FLUSH]);
}

/// A connection to a server that holds all replies back, whose messages are of 512 bytes and whose
/// client lets as many of them through as there are; and the disk behind it.
async fn tiny_messages(style: ReplyStyle) -> (Connection, Server, Export) {
    let export = Export::new(64 * MIB).block_sizes(1, 512, 512);
    let server = Server::new(export.clone());
    let conn = builder(style).max_in_flight(usize::MAX).build();
    conn.connect_stream(server.connect()).await.unwrap();
    server.pause();
    (conn, server, export)
}

fn long_ones(conn: &Connection) -> [Sent; 4] {
    let read = IntoFuture::into_future(conn.read(0, MIB as usize));
    [
        boxed(conn.write(0, vec![7; MIB as usize])),
        boxed(conn.write(0, vec![7; MIB as usize]).fua()),
        boxed(conn.cache(0, MIB)),
        Box::pin(async { read.await.map(drop) }),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_not_made_yet_are_never_sent() {
    for style in STYLES {
        for which in 0..4 {
            let (conn, server, export) = tiny_messages(style).await;
            let request = long_ones(&conn).into_iter().nth(which).unwrap();
            let request = tokio::spawn(request);
            let ahead = server.received(MOST_AHEAD);
            timeout(WATCHDOG, ahead).await.expect("that many are sent");
            assert_eq!(conn.in_flight(), MOST_AHEAD, "and no more");
            request.abort();
            assert!(request.await.unwrap_err().is_cancelled());
            server.resume();
            // Whatever was sent is answered before this.
            timeout(WATCHDOG, conn.disconnect()).await.unwrap().unwrap();
            let counters = export.counters();
            let sent = counters.reads + counters.writes + counters.caches;
            assert_eq!(sent as usize, MOST_AHEAD, "{which}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_follow_as_answers_come() {
    for style in STYLES {
        for which in 0..4 {
            let (conn, server, _export) = tiny_messages(style).await;
            let request = long_ones(&conn).into_iter().nth(which).unwrap();
            let request = tokio::spawn(request);
            let mut total = MOST_AHEAD;
            for answered in [0, 1, 10, 100] {
                server.release(answered);
                total += answered;
                let sent = server.received(total);
                timeout(WATCHDOG, sent).await.expect("more are sent");
                assert!(conn.in_flight() <= MOST_AHEAD);
            }
            server.resume();
            timeout(WATCHDOG, request).await.unwrap().unwrap().unwrap();
        }
    }
}

// A caller may await a flush while nobody polls its write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_does_not_wait_for_messages_that_are_not_made_yet() {
    let (conn, server, export) = tiny_messages(ReplyStyle::Structured).await;
    let mut write = Box::pin(conn.write(0, vec![7; MIB as usize]).into_future());
    assert!(drop_after(1, &mut write).await.is_none());
    timeout(WATCHDOG, server.received(MOST_AHEAD))
        .await
        .unwrap();
    server.resume();
    timeout(WATCHDOG, conn.flush()).await.unwrap().unwrap();
    assert_eq!(
        export.counters().writes,
        MOST_AHEAD as u64,
        "all that were made"
    );
    assert!(!conn.has_unflushed_writes());
    timeout(WATCHDOG, write).await.unwrap().unwrap();
    assert_eq!(export.counters().writes, 2048);
    assert!(conn.has_unflushed_writes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_leaves_when_a_write_it_waits_for_is_given_up() {
    let (conn, server, export) = tiny_messages(ReplyStyle::Structured).await;
    let write = tokio::spawn(conn.write(0, vec![7; MIB as usize]).into_future());
    timeout(WATCHDOG, server.received(MOST_AHEAD))
        .await
        .unwrap();
    let flush = tokio::spawn(conn.flush().into_future());
    settle().await;
    write.abort();
    assert!(write.await.unwrap_err().is_cancelled());
    server.resume();
    timeout(WATCHDOG, flush).await.unwrap().unwrap().unwrap();
    assert_eq!(export.counters().flushes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_long_request_of_which_nothing_was_sent_says_so() {
    for which in 0..3 {
        let export = Export::new(1 << 40).block_sizes(1, 512, 512);
        let server = Server::new(export.clone());
        let conn = builder(ReplyStyle::Simple).max_in_flight(1).build();
        conn.connect_stream(server.connect()).await.unwrap();
        server.pause();
        let first = tokio::spawn(conn.read(0, 512).into_future());
        server.held(1).await;
        let second = Duration::from_secs(1);
        let error = match which {
            0 => conn.write(0, vec![7; 10_000]).timeout(second).await,
            1 => conn.trim(0, 10 * GIB).timeout(second).await,
            _ => conn.cache(0, 10 * GIB).timeout(second).await,
        };
        assert_eq!(error.unwrap_err().delivery(), Delivery::NotSent);
        server.resume();
        first.await.unwrap().unwrap();
        conn.disconnect().await.unwrap();
        assert_eq!(export.counters().requests(), 1);
    }
}

/// A connection that asks for every read in one piece, to a disk of one 7 after the other, whose
/// server gives no more of it at once than it must.
async fn in_one_piece(style: ReplyStyle, flags: TransmissionFlags) -> (Connection, Export) {
    let export = Export::new(MIB)
        .flags(flags)
        .max_unfragmented(65_536)
        .log_requests(1000);
    export.fill(0, MIB, 7);
    let server = Server::new(export.clone());
    let conn = builder(style).dont_fragment_reads(true).build();
    conn.connect_stream(server.connect()).await.unwrap();
    (conn, export)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p166_reads_in_one_piece_are_as_long_as_every_server_allows() {
    for style in CHUNKED {
        let (conn, export) = in_one_piece(style, all_flags()).await;
        for length in [1, 512, 65_536, 65_537, 1_000_000] {
            let data = conn.read(100, length).await.unwrap();
            assert_eq!(data, vec![7; length]);
            let buffer = BytesMut::with_capacity(length);
            let place = buffer.as_ptr();
            let data = conn.read_into(100, buffer).await.unwrap();
            assert_eq!(data, vec![7; length]);
            assert_eq!(data.as_ptr(), place, "into the buffer itself");
        }
        let chunks: Vec<_> = conn.read_structured(0, 65_536).try_collect().await.unwrap();
        assert_eq!(chunks.len(), 1);
        for head in export.log() {
            assert_eq!(head.flags, CommandFlags::DF);
            assert!(head.length <= 65_536, "{}", head.length);
        }
        // What is never split may be refused.
        let chunks = conn.read_structured(0, 65_537).try_collect::<Vec<_>>();
        let error = chunks.await.unwrap_err();
        assert_matches!(error, Error::Request(e) if e.errno() == Errno::EOVERFLOW);
        conn.write(0, vec![1; 512]).await.unwrap();
        let write = export.log().pop().unwrap();
        assert!(!write.flags.contains(CommandFlags::DF), "only reads");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p132_reads_are_not_asked_for_in_one_piece_where_that_is_not_offered() {
    let without = all_flags() - TransmissionFlags::SEND_DF;
    for (style, flags) in [
        (ReplyStyle::Simple, all_flags()),
        (ReplyStyle::Structured, without),
        (ReplyStyle::Extended, without),
    ] {
        let (conn, export) = in_one_piece(style, flags).await;
        assert_eq!(conn.read(0, 1_000_000).await.unwrap(), vec![7; 1_000_000]);
        let log = export.log();
        assert_eq!(log.len(), 1);
        assert_eq!(log[0].flags, CommandFlags::empty());
    }
}
