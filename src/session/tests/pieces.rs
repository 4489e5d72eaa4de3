//! Data in pieces: bytes, floods, holes, and cuts anywhere.

use super::*;

#[test]
fn c41_data_byte_by_byte_is_put_together() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let (cookie, head) = wire.ask_read(0, 4096);
        for i in 0..4096u64 {
            let flags = if i == 4095 { DONE } else { MORE };
            wire.feed(&data(style, &head, i, &[i as u8], flags))
                .unwrap();
        }
        let expected: Vec<u8> = (0..4096).map(|i| i as u8).collect();
        assert_eq!(wire.data(cookie), expected);
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow there")]
fn c42_pieces_that_nobody_takes_are_bounded_in_number() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        wire.submit(read_chunks(0, 1 << 20));
        let head = wire.send().pop().unwrap().head;
        let refused = (0..1 << 20).find_map(|at| {
            let bytes = data(style, &head, at, &[0], MORE);
            wire.feed(&bytes).err().map(|cause| (at, cause))
        });
        let (count, cause) = refused.expect("a million pieces are kept");
        assert_eq!(cause, ProtocolError::TooFragmented);
        assert!(count >= 4096, "a sector in bytes is tolerated");
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow there")]
fn c42_pieces_that_are_taken_may_be_of_one_byte_each() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let cookie = wire.submit(read_chunks(0, 10_000));
        let head = wire.send().pop().unwrap().head;
        for at in 0..10_000 {
            let flags = if at == 9_999 { DONE } else { MORE };
            wire.feed(&data(style, &head, at, &[0], flags)).unwrap();
            let next = wire.session.poll_chunk(cookie, Waker::noop());
            assert_matches!(next, Poll::Ready(Some(Ok(_))));
        }
        let end = wire.session.poll_chunk(cookie, Waker::noop());
        assert_matches!(end, Poll::Ready(None));
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow there")]
fn c43_every_second_byte_first_kills_the_connection() {
    for style in CHUNKED {
        let cause = fatal(
            style,
            || read(0, 65536),
            |head| {
                let every_second = (0..32768).map(|i| 2 * i + 1);
                every_second
                    .flat_map(|offset| data(style, head, offset, &[0], MORE))
                    .collect()
            },
        );
        assert_eq!(cause, ProtocolError::TooFragmented);
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow there")]
fn c44_chunks_of_many_requests_may_be_interleaved() {
    for style in CHUNKED {
        for step in [usize::MAX, 1, 13] {
            let mut wire = Wire::new(style);
            wire.step = step;
            let cookies: Vec<_> = (0..64).map(|i| wire.read(i * 1000, 256)).collect();
            let heads: Vec<_> = wire.send().iter().map(|request| request.head).collect();
            let mut bytes = Vec::new();
            for piece in 0..16u64 {
                for (i, head) in heads.iter().enumerate() {
                    // Each request in an order of its own.
                    let piece = (piece * 5 + i as u64) % 16;
                    let last = (15 * 5 + i as u64) % 16;
                    let flags = if piece == last { DONE } else { MORE };
                    let at = head.offset + piece * 16;
                    let fill = (i as u64 * 16 + piece) as u8;
                    if fill == 77 {
                        bytes.extend(hole(style, head, at, 16, flags));
                    } else {
                        bytes.extend(data(style, head, at, &[fill; 16], flags));
                    }
                }
            }
            wire.feed(&bytes).unwrap();
            for (i, cookie) in cookies.into_iter().enumerate() {
                let expected: Vec<u8> = (0..256)
                    .map(|at| (i * 16 + at / 16) as u8)
                    .map(|fill| if fill == 77 { 0 } else { fill })
                    .collect();
                assert_eq!(wire.data(cookie), expected);
            }
        }
    }
}

fn read_unfragmented() -> Submission {
    Submission {
        flags: CommandFlags::DF,
        ..read(4096, 512)
    }
}

#[test]
fn c46_one_hole_answers_a_read_that_must_not_be_fragmented() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let cookie = wire.submit(read_unfragmented());
        let head = wire.send().pop().unwrap().head;
        wire.feed(&hole(style, &head, 4096, 512, DONE)).unwrap();
        assert_eq!(wire.data(cookie), [0; 512]);
    }
}

#[test]
fn c46_two_pieces_for_a_read_that_must_not_be_fragmented_kill_the_connection() {
    for style in CHUNKED {
        let cause = fatal(style, read_unfragmented, |head| {
            let mut bytes = data(style, head, 4096, &[0; 256], MORE);
            bytes.extend(hole(style, head, 4096 + 256, 256, DONE));
            bytes
        });
        assert_eq!(cause, ProtocolError::Fragmented);
    }
}

/// A read of 64 KiB + 100 bytes in a large chunk, a hole, and a small chunk that came early.
fn three_chunks(style: ReplyStyle, head: &RequestHead) -> (Vec<u8>, Vec<u8>) {
    let large: Vec<u8> = (0..65536u32).map(|i| (i % 251) as u8).collect();
    let mut bytes = data(style, head, head.offset + 65536 + 60, &[3; 40], MORE);
    bytes.extend(data(style, head, head.offset, &large, MORE));
    bytes.extend(hole(style, head, head.offset + 65536, 60, DONE));
    let mut expected = large;
    expected.extend([0; 60]);
    expected.extend([3; 40]);
    (bytes, expected)
}

#[test]
#[cfg_attr(miri, ignore = "too slow there")]
fn c47_a_cut_anywhere_in_a_reply_changes_nothing() {
    for style in CHUNKED {
        let cuts = (0..200)
            .chain((200..65700).step_by(997))
            .chain(65700..66000);
        for cut in cuts {
            let mut wire = Wire::new(style);
            let (cookie, head) = wire.ask_read(1 << 20, 65536 + 100);
            let (bytes, expected) = three_chunks(style, &head);
            let cut = cut.min(bytes.len());
            wire.feed(&bytes[..cut]).unwrap();
            wire.feed(&bytes[cut..]).unwrap();
            assert!(wire.data(cookie) == expected, "cut at {cut}");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow there")]
fn c48_a_reply_cut_off_anywhere_is_no_answer() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let (cookie, head) = wire.ask_read(0, 65636);
        let (bytes, _) = three_chunks(style, &head);
        for (at, byte) in bytes[..bytes.len() - 1].iter().enumerate() {
            wire.feed(&[*byte]).unwrap();
            assert!(wire.poll(cookie).is_pending(), "{at}");
        }
        wire.session.fail(&Error::eof(crate::error::Phase::Request));
        assert_matches!(wire.answer(cookie), Err(Error::Disconnected(..)));
    }
}

#[test]
fn c52_data_for_another_read_kills_the_connection() {
    // The bystander reads 64 bytes at 1 << 40.
    let cause = fatal_read(STRUCTURED, |head| {
        data(STRUCTURED, head, 1 << 40, &[0; 64], DONE)
    });
    assert_matches!(cause, ProtocolError::OutOfRange { .. });
}

#[test]
fn pieces_are_handed_over_as_they_arrive() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let cookie = wire.submit(read_chunks(0, 100));
        let head = wire.send().pop().unwrap().head;
        let next = |wire: &mut Wire| wire.session.poll_chunk(cookie, Waker::noop());
        assert!(next(&mut wire).is_pending());
        wire.feed(&data(style, &head, 60, &[1; 40], MORE)).unwrap();
        assert_matches!(
            next(&mut wire),
            Poll::Ready(Some(Ok(Chunk::Data { offset: 60, .. })))
        );
        assert!(next(&mut wire).is_pending());
        wire.feed(&hole(style, &head, 0, 60, DONE)).unwrap();
        assert_matches!(
            next(&mut wire),
            Poll::Ready(Some(Ok(Chunk::Hole {
                offset: 0,
                length: 60
            })))
        );
        assert_matches!(next(&mut wire), Poll::Ready(None));
    }
}

#[test]
fn pieces_that_came_before_an_error_come_first() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let cookie = wire.submit(read_chunks(0, 100));
        let head = wire.send().pop().unwrap().head;
        wire.feed(&data(style, &head, 0, &[1; 40], MORE)).unwrap();
        wire.feed(&error(style, &head, Errno::EIO, "", DONE))
            .unwrap();
        let mut next = || wire.session.poll_chunk(cookie, Waker::noop());
        assert_matches!(next(), Poll::Ready(Some(Ok(Chunk::Data { .. }))));
        assert_matches!(next(), Poll::Ready(Some(Ok(Chunk::Error { .. }))));
        assert_matches!(next(), Poll::Ready(Some(Err(Error::Request(_)))));
    }
}
