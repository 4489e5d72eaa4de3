//! What the answers to block status, and the pieces of structured reads, may hold.

use std::ops::Range;

use bytes::BufMut;

use super::status::{query, status};
use super::*;
use crate::wire::Text;

/// What an extent takes, in bytes.
const EXTENT: u64 = size_of::<crate::Extent>() as u64;

fn many(count: u64) -> Vec<(u64, u64)> {
    (0..count).map(|i| (1, i)).collect()
}

#[test]
fn extents_count_against_the_bound_on_bytes_as_they_arrive() {
    for style in CHUNKED {
        for abandons in [false, true] {
            // An extent for each sector is what is expected: 129 of them.
            let mut wire = Wire::bounded(style, 1024, 400 * EXTENT);
            let cookie = wire.submit(query());
            let head = wire.send().pop().unwrap().head;
            wire.read(0, 271 * EXTENT);
            let mut ticket = None;
            assert!(wire.try_submit(read(0, 1), &mut ticket).is_pending());
            wire.give_up(ticket);
            if abandons {
                wire.session.abandon(cookie);
            }
            wire.feed(&status(style, &head, 10, &many(500), MORE))
                .unwrap();
            // 271 more than expected are kept, up to the whole bound.
            wire.feed(&none(style, &head)).unwrap();
            assert_eq!(wire.session.in_flight(), 1);
            if !abandons {
                let Ok(Answer::Status(status)) = wire.answer(cookie) else {
                    panic!("no status");
                };
                assert_eq!(status.get("base:allocation").unwrap().len(), 400);
            }
            // All that it held is free again.
            wire.read(0, 129 * EXTENT);
        }
    }
}

#[test]
fn what_an_answer_holds_beyond_what_was_expected_makes_others_wait() {
    for style in CHUNKED {
        for abandons in [false, true] {
            let mut wire = Wire::bounded(style, 1024, 400 * EXTENT);
            let cookie = wire.submit(query());
            let head = wire.send().pop().unwrap().head;
            if abandons {
                wire.session.abandon(cookie);
            }
            wire.feed(&status(style, &head, 10, &many(300), MORE))
                .unwrap();
            wire.read(0, 100 * EXTENT);
            let mut ticket = None;
            let waits = wire.try_submit(read(0, 100 * EXTENT), &mut ticket);
            assert_eq!(waits.is_pending(), !abandons);
            wire.feed(&none(style, &head)).unwrap();
            let mut granted = |ticket: &mut Option<u64>| {
                wire.session.poll_submit(&mut None, ticket, Waker::noop())
            };
            assert!(abandons || granted(&mut ticket).is_ready());
        }
    }
}

#[test]
fn statuses_that_are_asked_for_at_once_share_the_bound_on_bytes() {
    const COUNT: u64 = 10;
    for style in CHUNKED {
        let mut wire = Wire::bounded(style, 1024, 200 * COUNT * EXTENT);
        let cookies: Vec<_> = (0..COUNT).map(|_| wire.submit(query())).collect();
        let sent = wire.send();
        assert_eq!(sent.len() as u64, COUNT, "they do not wait for each other");
        for request in &sent {
            wire.feed(&status(style, &request.head, 10, &many(5000), DONE))
                .unwrap();
        }
        for cookie in cookies {
            let Ok(Answer::Status(status)) = wire.answer(cookie) else {
                panic!("no status");
            };
            assert_eq!(status.get("base:allocation").unwrap().len(), 200);
        }
        // One alone has all.
        let cookie = wire.submit(query());
        let head = wire.send().pop().unwrap().head;
        wire.feed(&status(style, &head, 10, &many(5000), DONE))
            .unwrap();
        let Ok(Answer::Status(status)) = wire.answer(cookie) else {
            panic!("no status");
        };
        assert_eq!(status.get("base:allocation").unwrap().len(), 2000);
    }
}

/// What a waiting piece takes besides its data, in bytes.
const PIECE: u64 = 160;

/// Sends so many of the bytes of a structured read, each by itself.
fn bytewise(wire: &mut Wire, head: &RequestHead, bytes: Range<u64>) -> Result<(), ProtocolError> {
    let byte = |at| data(wire.style, head, head.offset + at, &[7], MORE);
    let bytes: Vec<u8> = bytes.flat_map(byte).collect();
    wire.feed(&bytes)
}

#[test]
fn structured_reads_at_once_share_the_bound_on_bytes_for_their_pieces() {
    const COUNT: u64 = 10;
    for style in CHUNKED {
        for over in 0..3 {
            let mut wire = Wire::bounded(style, 1024, 100 * COUNT * PIECE);
            let reads = (0..COUNT).map(|i| read_chunks(i << 20, 4096));
            let cookies: Vec<_> = reads.map(|read| wire.submit(read)).collect();
            let heads: Vec<_> = wire.send().iter().map(|request| request.head).collect();
            for head in &heads {
                bytewise(&mut wire, head, 0..100).unwrap();
            }
            if over == 0 {
                let end = hole(style, &heads[9], (9 << 20) + 100, 3996, DONE);
                assert_eq!(wire.feed(&end), Err(ProtocolError::TooFragmented));
                continue;
            }
            if over == 1 {
                // A piece that is taken makes room for one more.
                let taken = wire.session.poll_chunk(cookies[9], Waker::noop());
                assert!(taken.is_ready());
                bytewise(&mut wire, &heads[9], 100..101).unwrap();
            } else {
                // Reads that are over leave their share to others; the end is no piece.
                for (&cookie, head) in cookies.iter().zip(&heads).take(5) {
                    wire.feed(&error(style, head, Errno::EIO, "", DONE))
                        .unwrap();
                    wire.session.abandon(cookie);
                }
                bytewise(&mut wire, &heads[9], 100..200).unwrap();
            }
            let end = hole(style, &heads[9], (9 << 20) + 300, 1, DONE);
            assert_eq!(wire.feed(&end), Err(ProtocolError::TooFragmented));
        }
    }
}

#[test]
fn a_few_pieces_and_one_for_each_sector_may_always_wait() {
    for style in CHUNKED {
        for (length, most) in [(4096, 64), (65 * 512, 65)] {
            let mut wire = Wire::bounded(style, 1024, 1);
            wire.submit(read_chunks(0, length));
            let head = wire.send().pop().unwrap().head;
            bytewise(&mut wire, &head, 0..most).unwrap();
            let over = bytewise(&mut wire, &head, most..most + 1);
            assert_eq!(over, Err(ProtocolError::TooFragmented));
        }
    }
}

/// The messages that a structured read has got from errors with these.
fn messages(style: ReplyStyle, sent: &[&[u8]]) -> Vec<Text> {
    let mut wire = Wire::new(style);
    let cookie = wire.submit(read_chunks(0, 4096));
    let head = wire.send().pop().unwrap().head;
    for message in sent {
        let mut body = BytesMut::new();
        body.put_u32(Errno::EIO.0);
        body.put_u16(message.len() as u16);
        body.put_slice(message);
        let chunk = chunk(style, &head, MORE, ChunkType::ERROR, body);
        wire.feed(&chunk).unwrap();
    }
    let mut messages = Vec::new();
    while let Poll::Ready(Some(piece)) = wire.session.poll_chunk(cookie, Waker::noop()) {
        let Ok(Chunk::Error { message, .. }) = piece else {
            panic!("no error: {piece:?}");
        };
        messages.push(message);
    }
    messages
}

#[test]
fn the_messages_of_one_reply_take_no_more_than_one_of_them_may() {
    for style in CHUNKED {
        // The longest message, of bytes that take three times as many when they are replaced.
        let got = messages(style, &[&[0xff; 4096][..]; 60]);
        assert_eq!(got.len(), 60);
        assert_eq!(got[0].as_str().len(), 3 * 4096);
        assert!(got[1..].iter().all(Text::is_empty));
        let got = messages(style, &[&[b'x'; 64][..]; 64]);
        assert!(got.iter().all(|text| text.as_str().len() == 64));
        // A short one may still have room.
        let got = messages(style, &[b"ab", &[b'x'; 4095], b"cd"]);
        assert_eq!(got, ["ab", "", "cd"].map(Text::from));
    }
}

#[test]
fn a_structured_read_that_is_given_up_holds_no_pieces() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let cookie = wire.submit(read_chunks(0, 4096));
        let head = wire.send().pop().unwrap().head;
        wire.feed(&data(style, &head, 0, &[7; 2048], MORE)).unwrap();
        wire.session.abandon(cookie);
        let mut entries = wire.session.inflight.iter();
        let held = entries.next().map(|entry| match &entry.sink {
            Sink::Chunks(chunks) => chunks.queue.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(held, Some(0));
        drop(entries);
        wire.feed(&hole(style, &head, 2048, 2048, DONE)).unwrap();
        wire.assert_usable();
    }
}
