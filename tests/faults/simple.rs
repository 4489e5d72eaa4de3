//! R: simple replies, and what holds for replies of any kind.

use std::time::Duration;

use nbd_client::wire::{
    Command, EXTENDED_REPLY_MAGIC, EXTENDED_REQUEST_MAGIC, Errno, ProtocolError, REQUEST_MAGIC,
    ReplyStyle, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC,
};
use nbd_client::{Connection, Delivery, Error, State};
use tokio::time::Instant;

use crate::answer::*;
use crate::harness::*;

/// Four bytes of a magic, which are enough.
fn magic(styles: &[ReplyStyle], magic: u32) {
    let says = |_: &To| magic.to_be_bytes().to_vec();
    let is_cause = |cause: &ProtocolError| *cause == ProtocolError::Magic(magic);
    row(styles, Ask::Read, &says, Outcome::Fatal(&is_cause));
}

#[test]
fn r01_an_unknown_magic_kills_the_connection() {
    for number in [0, 0x9674_4668, REQUEST_MAGIC, EXTENDED_REQUEST_MAGIC] {
        magic(&STYLES, number);
    }
}

#[test]
fn r02_an_unknown_cookie_kills_the_connection() {
    let unknown = Outcome::Fatal(is!(ProtocolError::UnknownCookie(_)));
    let says = |to: &To| to.cookie(!to.head.cookie).error(Errno::EIO, "", DONE);
    row(&STYLES, Ask::Read, &says, unknown);
    let unknown = Outcome::Fatal(is!(ProtocolError::UnknownCookie(_)));
    let says = |to: &To| to.cookie(to.head.cookie ^ 1 << 40).success();
    row(&STYLES, Ask::Flush, &says, unknown);
}

#[test]
fn r03_a_second_reply_kills_the_connection_and_the_first_stands() {
    each(&STYLES, async |style, transport| {
        let mut case = Case::start(style, transport, Ask::Write).await;
        case.say(&case.to.success().repeat(2)).await;
        assert!(matches!(case.asked().await, Ok(Got::Done)));
        let cookie = case.to.head.cookie;
        case.assert_dead(&|cause| *cause == ProtocolError::UnknownCookie(cookie))
            .await;
    });
}

#[test]
fn r05_a_read_cut_off_at_any_byte_is_lost() {
    for cut in 0..16 + 512 {
        let says = |to: &To| to.data(4096, &[1; 512], DONE)[..cut].to_vec();
        row(&SIMPLE, Ask::Read, &says, Outcome::Lost);
    }
}

#[test]
fn r07_every_errno_fails_its_request_only_and_keeps_its_value() {
    for errno in [1, 5, 12, 22, 28, 75, 95, 99_999, u32::MAX].map(Errno) {
        let is_error = |error: &nbd_client::RequestError| error.errno() == errno;
        for ask in [Ask::Read, Ask::Write, Ask::Zero] {
            let says = |to: &To| to.error(errno, "", DONE);
            row(&STYLES, ask, &says, Outcome::Failed(&is_error));
        }
    }
}

#[test]
fn r08_eshutdown_lets_the_others_finish_and_takes_no_more() {
    each(&STYLES, async |style, transport| {
        let (conn, mut peer) = transport.ready(style, Connection::builder()).await;
        let read = tokio::spawn(conn.read(0, 4).into_future());
        let first = peer.expect_command(Command::READ).await.unwrap().head;
        let flush = tokio::spawn(conn.flush().into_future());
        let second = peer.expect_command(Command::FLUSH).await.unwrap().head;
        peer.send_error(&second, Errno::ESHUTDOWN, "bye")
            .await
            .unwrap();
        let error = flush.await.unwrap().unwrap_err();
        assert!(matches!(&error, Error::Request(e) if e.errno() == Errno::ESHUTDOWN));
        assert!(error.is_retryable());
        let late = conn.flush().await.unwrap_err();
        assert!(matches!(late, Error::Disconnected(..)), "{late:?}");
        assert!(late.is_retryable() && late.delivery() == Delivery::NotSent);
        peer.send_data(&first, b"last").await.unwrap();
        assert_eq!(&read.await.unwrap().unwrap()[..], b"last");
        peer.expect_command(Command::DISC).await.unwrap();
        peer.expect_end().await.unwrap();
        drop(peer);
        let cause = conn.closed().await;
        assert!(matches!(cause, Error::Disconnected(..)), "{cause:?}");
        assert_eq!(conn.state(), State::Closed);
    });
}

#[test]
fn r09_a_simple_reply_to_a_structured_read_kills_the_connection() {
    for errno in [Errno::OK, Errno::EIO] {
        let says = |to: &To| to.simple(errno);
        let simple = Outcome::Fatal(is!(ProtocolError::SimpleReply(Command::READ)));
        row(&STRUCTURED, Ask::Read, &says, simple);
    }
}

#[test]
fn r10_a_simple_success_of_a_block_status_kills_the_connection() {
    let missing = Outcome::Fatal(is!(ProtocolError::MissingStatus(1)));
    row(
        &STRUCTURED,
        Ask::Status,
        &|to| to.simple(Errno::OK),
        missing,
    );
}

#[test]
fn r11_a_simple_reply_with_extended_headers_is_told_from_its_magic() {
    magic(&EXTENDED, SIMPLE_REPLY_MAGIC);
}

#[test]
fn r12_a_chunk_that_was_not_agreed_is_told_from_its_magic() {
    magic(&SIMPLE, STRUCTURED_REPLY_MAGIC);
    magic(&SIMPLE, EXTENDED_REPLY_MAGIC);
}

#[test]
fn r13_a_thousand_replies_in_random_order_are_told_apart() {
    each(&STYLES, async |style, transport| {
        let mut random = Random::seeded();
        let (conn, mut peer) = transport.ready(style, Connection::builder()).await;
        let length = |i: u64| 1 + (i * 7 % 61) as usize;
        let reads: Vec<_> = (0..1000)
            .map(|i| tokio::spawn(conn.read(i * 64, length(i)).into_future()))
            .collect();
        let mut heads = Vec::new();
        for _ in 0..1000 {
            heads.push(peer.expect_command(Command::READ).await.unwrap().head);
        }
        while !heads.is_empty() {
            let head = heads.swap_remove(random.below(heads.len() as u64) as usize);
            let data = vec![(head.offset / 64) as u8; head.length as usize];
            peer.send_data(&head, &data).await.unwrap();
        }
        for (i, read) in (0..).zip(reads) {
            let data = read.await.unwrap().unwrap();
            assert_eq!(data, vec![i as u8; length(i)]);
        }
        goodbye(&conn, peer).await;
    });
}

#[test]
fn r14_a_pause_at_any_byte_changes_nothing() {
    each(&STYLES, async |style, transport| {
        let (conn, mut peer) = transport.ready(style, Connection::builder()).await;
        for cut in 0.. {
            let (read, flush) = (conn.read(512, 100), conn.flush());
            let both = tokio::spawn(async move { tokio::join!(read, flush) });
            let mut to = async || To {
                style,
                head: peer.expect_request().await.unwrap().head,
            };
            let (read, flush) = (to().await, to().await);
            let mut bytes = read.data(512, &[9; 100], DONE);
            bytes.extend(flush.success());
            let parts = bytes.split_at_checked(cut);
            let (head, tail) = parts.unwrap_or((&bytes[..], &[]));
            peer.send_bytes(head).await.unwrap();
            settle().await;
            peer.send_bytes(tail).await.unwrap();
            let (read, flush) = both.await.unwrap();
            assert_eq!(read.unwrap()[..], [9; 100]);
            flush.unwrap();
            if parts.is_none() {
                break;
            }
        }
        goodbye(&conn, peer).await;
    });
}

#[test]
fn r15_anything_after_our_disc_is_ignored() {
    each(&STYLES, async |style, transport| {
        let (conn, mut peer) = transport.ready(style, Connection::builder()).await;
        let script = async {
            let disc = peer.expect_command(Command::DISC).await.unwrap().head;
            let to = To { style, head: disc };
            for lie in [
                to.success(),
                to.error(Errno::EIO, "", DONE),
                vec![0xff; 9000],
            ] {
                peer.send_bytes(&lie).await.unwrap();
            }
            settle().await;
            drop(peer);
        };
        let (disconnected, ()) = tokio::join!(conn.disconnect().into_future(), script);
        disconnected.unwrap();
        assert_eq!(conn.state(), State::Closed);
    });
}

#[test]
fn r15_endless_chatter_after_our_disc_ends_at_the_shutdown_deadline() {
    paused(&STYLES, async |style| {
        let builder = Connection::builder().shutdown_timeout(PATIENCE);
        let (conn, mut peer) = Transport::Duplex.ready(style, builder).await;
        let start = Instant::now();
        let chatter = tokio::spawn(async move {
            peer.expect_command(Command::DISC).await.unwrap();
            while peer.send_bytes(&[0xff; 100]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        conn.disconnect().await.unwrap();
        assert_eq!(start.elapsed(), PATIENCE);
        assert_eq!(conn.state(), State::Closed);
        chatter.await.unwrap();
    });
}

#[test]
fn r16_the_reply_to_an_abandoned_read_is_drained() {
    each(&STYLES, async |style, transport| {
        for length in [512, 1 << 20] {
            let ask = Ask::ReadOf(length);
            let mut case = Case::start(style, transport, ask).await;
            case.give_up().await;
            assert_eq!(case.conn.in_flight(), 3, "its answer is still due");
            case.say(&case.to.data(4096, &vec![6; length], DONE)).await;
            case.assert_usable().await;
        }
    });
}

#[test]
fn r17_a_stall_in_the_payload_ends_the_connection_at_the_deadline() {
    for length in [512, 1 << 20] {
        for cut in [0, 15, 16, 100, length / 2, length - 1] {
            let says = |to: &To| to.data(4096, &vec![1; length], DONE)[..cut].to_vec();
            row(&STYLES, Ask::ReadOf(length), &says, Outcome::Expired);
        }
    }
}

/// More than any socket holds.
const LONG: usize = 16 << 20;

#[test]
fn r18_an_error_before_the_payload_is_told_when_the_payload_is_sent() {
    each(&STYLES, async |style, transport| {
        let (conn, mut peer) = transport.ready(style, Connection::builder()).await;
        let write = tokio::spawn(conn.write(0, vec![7; LONG]).into_future());
        let head = peer.expect_head().await.unwrap();
        peer.send_error(&head, Errno::EPERM, "no").await.unwrap();
        settle().await;
        assert_eq!(conn.in_flight(), 1, "its payload is still due");
        let request = peer.expect_command(Command::WRITE).await.unwrap();
        assert!(request.payload.iter().all(|&byte| byte == 7));
        let error = write.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Request(e) if e.errno() == Errno::EPERM));
        goodbye(&conn, peer).await;
    });
}

#[test]
fn r20_a_write_that_is_refused_early_and_never_read_expires() {
    paused(&STYLES, async |style| {
        let builder = Connection::builder();
        let (conn, mut peer) = Transport::Duplex.ready(style, builder).await;
        let write = conn.write(0, vec![7; LONG]).timeout(PATIENCE);
        let start = Instant::now();
        let write = tokio::spawn(write.into_future());
        let head = peer.expect_head().await.unwrap();
        peer.send_error(&head, Errno::EPERM, "no").await.unwrap();
        write.await.unwrap().unwrap_err();
        assert!(matches!(conn.closed().await, Error::Timeout(..)));
        assert_eq!(start.elapsed(), PATIENCE);
        assert_eq!(conn.state(), State::Dead);
    });
}
