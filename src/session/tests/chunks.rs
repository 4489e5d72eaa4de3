//! FAULTS of chunks in answer to reads.

use super::*;
use crate::wire::ChunkType as Kind;

#[test]
fn c01_none_without_done_kills_the_connection() {
    for style in CHUNKED {
        let cause = fatal_read(style, |head| {
            chunk(style, head, MORE, Kind::NONE, Bytes::new())
        });
        assert_eq!(cause, ProtocolError::NotDone);
    }
}

#[test]
fn c02_none_with_a_payload_kills_the_connection() {
    for style in CHUNKED {
        let cause = fatal_read(style, |head| chunk_head(style, head, Kind::NONE, 1));
        assert_matches!(cause, ProtocolError::Length { .. });
    }
}

#[test]
fn c03_a_read_without_any_data_kills_the_connection() {
    for style in CHUNKED {
        let cause = fatal_read(style, |head| none(style, head));
        let incomplete = ProtocolError::IncompleteRead {
            missing: 512,
            length: 512,
        };
        assert_eq!(cause, incomplete);
    }
}

#[test]
fn c04_half_of_the_data_kills_the_connection() {
    for style in CHUNKED {
        for half in [4096, 4096 + 256] {
            let cause = fatal_read(style, |head| data(style, head, half, &[0; 256], DONE));
            assert_matches!(cause, ProtocolError::IncompleteRead { missing: 256, .. });
        }
    }
}

#[test]
fn c05_a_gap_kills_the_connection() {
    for style in CHUNKED {
        let cause = fatal_read(style, |head| {
            let mut bytes = data(style, head, 4096, &[0; 200], MORE);
            bytes.extend(data(style, head, 4096 + 201, &[0; 311], DONE));
            bytes
        });
        assert_matches!(cause, ProtocolError::IncompleteRead { missing: 1, .. });
    }
}

#[test]
fn c07_the_same_chunk_twice_kills_the_connection() {
    for style in CHUNKED {
        let cause = fatal_read(style, |head| {
            let mut bytes = data(style, head, 4096, &[0; 512], MORE);
            bytes.extend(data(style, head, 4096, &[0; 512], DONE));
            bytes
        });
        assert_matches!(cause, ProtocolError::Overlap { .. });
    }
}

#[test]
fn c08_overlapping_chunks_kill_the_connection() {
    for style in CHUNKED {
        for (first_is_hole, second_is_hole) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            for (first, second) in [((0, 300), (299, 213)), ((200, 312), (0, 201))] {
                let cause = fatal_read(style, |head| {
                    let piece = |(offset, length): (u64, u32), is_hole, flags| {
                        let offset = 4096 + offset;
                        if is_hole {
                            return hole(style, head, offset, length, flags);
                        }
                        data(style, head, offset, &vec![0; length as usize], flags)
                    };
                    let mut bytes = piece(first, first_is_hole, MORE);
                    bytes.extend(piece(second, second_is_hole, DONE));
                    bytes
                });
                assert_matches!(cause, ProtocolError::Overlap { .. });
            }
        }
    }
}

#[test]
fn c09_to_c12_data_outside_the_request_kills_the_connection() {
    for style in CHUNKED {
        for (offset, length) in [
            (4095, 1),
            (0, 512),
            (4096 + 512, 1),
            (1 << 50, 512),
            (4096 + 1, 512),
            (4096 + 511, 2),
            (u64::MAX - 255, 512),
            (u64::MAX, 1),
        ] {
            let cause = fatal_read(style, |head| {
                data(style, head, offset, &vec![0; length], DONE)
            });
            assert_matches!(cause, ProtocolError::OutOfRange { .. });
        }
    }
}

#[test]
fn c13_holes_outside_the_request_kill_the_connection() {
    for style in CHUNKED {
        for (offset, length) in [
            (u64::MAX - 1, 512),
            (4096, u32::MAX),
            (4096, 513),
            (4000, 512),
        ] {
            let cause = fatal_read(style, |head| hole(style, head, offset, length, DONE));
            assert_matches!(cause, ProtocolError::OutOfRange { .. });
        }
    }
}

#[test]
fn c14_c15_data_without_bytes_kills_the_connection_at_its_head() {
    for style in CHUNKED {
        for length in 0..=8 {
            let cause = fatal_read(style, |head| {
                chunk_head(style, head, Kind::OFFSET_DATA, length)
            });
            assert_matches!(cause, ProtocolError::Length { .. });
        }
    }
}

#[test]
fn c17_a_hole_of_the_wrong_form_kills_the_connection() {
    for style in CHUNKED {
        for length in [0, 8, 11, 13] {
            let cause = fatal_read(style, |head| {
                chunk_head(style, head, Kind::OFFSET_HOLE, length)
            });
            assert_matches!(cause, ProtocolError::Length { .. });
        }
        let cause = fatal_read(style, |head| hole(style, head, 4096, 0, DONE));
        assert_matches!(cause, ProtocolError::Length { .. });
    }
}

#[test]
fn c18_content_for_a_command_without_content_kills_the_connection() {
    for style in CHUNKED {
        for command in BARE {
            for kind in [Kind::OFFSET_DATA, Kind::OFFSET_HOLE] {
                let submission = || match command {
                    Command::WRITE => write(style, 0, &[1; 512]),
                    _ => bare(command, 0, 512),
                };
                let cause = fatal(style, submission, |head| chunk_head(style, head, kind, 12));
                assert_eq!(
                    cause,
                    ProtocolError::UnexpectedChunk {
                        command,
                        chunk: kind
                    }
                );
            }
        }
    }
}

#[test]
fn c19_status_for_a_read_and_data_for_a_status_kill_the_connection() {
    for style in CHUNKED {
        for kind in [Kind::BLOCK_STATUS, Kind::BLOCK_STATUS_EXT] {
            let cause = fatal_read(style, |head| chunk_head(style, head, kind, 24));
            assert_matches!(cause, ProtocolError::UnexpectedChunk { .. });
        }
        for kind in [Kind::OFFSET_DATA, Kind::OFFSET_HOLE] {
            let cause = fatal(style, status::query, |head| {
                chunk_head(style, head, kind, 12)
            });
            assert_matches!(cause, ProtocolError::UnexpectedChunk { .. });
        }
    }
}

#[test]
fn c20_unknown_content_kills_the_connection() {
    for style in CHUNKED {
        for kind in [3, 4, 77, 0x7fff] {
            for command in [Command::READ, Command::FLUSH] {
                let submission = || match command {
                    Command::READ => read(0, 512),
                    _ => bare(command, 0, 0),
                };
                let cause = fatal(style, submission, |head| {
                    chunk_head(style, head, Kind(kind), 0)
                });
                assert_matches!(cause, ProtocolError::UnexpectedChunk { .. });
            }
        }
    }
}

#[test]
fn c21_an_unknown_kind_of_error_fails_its_request_only() {
    for style in CHUNKED {
        for command in BARE.into_iter().chain([Command::READ]) {
            let mut wire = Wire::new(style);
            let (ticket, head) = wire.ask(command);
            let body = error_body(Errno::EIO, "what is this", Some(7));
            wire.feed(&chunk(style, &head, DONE, Kind(0x8077), body))
                .unwrap();
            let error = wire.request_error(ticket);
            assert_eq!(error.errno, Errno::EIO);
            assert_eq!(error.message.as_str(), "what is this");
            assert_eq!(error.offset, None);
            wire.assert_usable();
        }
    }
}

/// The body of an error with a message length of its own.
fn lying_error(length: u16, message: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 5];
    body.extend(length.to_be_bytes());
    body.extend(message);
    body
}

#[test]
fn c22_c25_a_message_longer_than_its_chunk_kills_the_connection() {
    for style in CHUNKED {
        for kind in [Kind(0x8077), Kind::ERROR, Kind::ERROR_OFFSET] {
            for length in [9, 4096, u16::MAX] {
                let cause = fatal_read(style, |head| {
                    chunk(style, head, DONE, kind, lying_error(length, &[b'x'; 8]))
                });
                assert_matches!(cause, ProtocolError::Length { .. });
            }
        }
    }
}

#[test]
fn c23_c29_an_error_that_is_too_short_kills_the_connection_at_its_head() {
    for style in CHUNKED {
        for (kind, shortest) in [
            (Kind::ERROR, 6),
            (Kind::ERROR_OFFSET, 14),
            (Kind(0x8077), 6),
        ] {
            for length in 0..shortest {
                let cause = fatal_read(style, |head| chunk_head(style, head, kind, length));
                assert_matches!(cause, ProtocolError::Length { .. });
            }
        }
    }
}

#[test]
fn c24_an_error_without_an_error_kills_the_connection() {
    for style in CHUNKED {
        let cause = fatal_read(style, |head| error(style, head, Errno::OK, "", DONE));
        assert_eq!(cause, ProtocolError::NoError);
    }
}

#[test]
fn c26_a_message_over_4096_bytes_kills_the_connection() {
    for style in CHUNKED {
        for length in [4097, 65535] {
            let cause = fatal_read(style, |head| {
                error(style, head, Errno::EIO, &"x".repeat(length), DONE)
            });
            assert_matches!(cause, ProtocolError::Length { .. });
        }
        let mut wire = Wire::new(style);
        let (ticket, head) = wire.ask(Command::READ);
        let message = "x".repeat(4096);
        wire.feed(&error(style, &head, Errno::EIO, &message, DONE))
            .unwrap();
        assert_eq!(wire.request_error(ticket).message.as_str(), message);
    }
}

#[test]
fn c28_a_hostile_message_is_printed_without_control_characters() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let (ticket, head) = wire.ask(Command::READ);
        let text = b"\0\x1b[2J\r\nlog: ok \xff\xe2\x80\xae";
        let body = lying_error(u16::try_from(text.len()).unwrap(), text);
        wire.feed(&chunk(style, &head, DONE, Kind::ERROR, body))
            .unwrap();
        let printed = Error::Request(wire.request_error(ticket)).to_string();
        assert!(!printed.contains(char::is_control), "{printed:?}");
        assert!(!printed.contains('\u{202e}'), "{printed:?}");
        wire.assert_usable();
    }
}

#[test]
fn c30_an_error_offset_outside_the_request_is_ignored() {
    for style in CHUNKED {
        for (at, told) in [
            (4096 + 511, Some(4096 + 511)),
            (4096 + 512, None),
            (0, None),
        ] {
            let mut wire = Wire::new(style);
            let (ticket, head) = wire.ask_read(4096, 512);
            let body = error_body(Errno::EIO, "", Some(at));
            wire.feed(&chunk(style, &head, DONE, Kind::ERROR_OFFSET, body))
                .unwrap();
            assert_eq!(wire.request_error(ticket).offset, told);
            wire.assert_usable();
        }
    }
}

#[test]
fn c31_an_error_offset_for_a_flush_fails_it_only() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let ticket = wire.submit(bare(Command::FLUSH, 0, 0));
        let head = wire.send().pop().unwrap().head;
        let body = error_body(Errno::EIO, "", Some(0));
        wire.feed(&chunk(style, &head, DONE, Kind::ERROR_OFFSET, body))
            .unwrap();
        assert_eq!(wire.request_error(ticket).offset, None);
        wire.assert_usable();
    }
}

#[test]
fn c33_an_error_after_all_data_fails_the_read() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let (ticket, head) = wire.ask_read(0, 512);
        wire.feed(&data(style, &head, 0, &[1; 512], MORE)).unwrap();
        wire.feed(&error(style, &head, Errno::EIO, "late", DONE))
            .unwrap();
        assert_eq!(wire.request_error(ticket).message.as_str(), "late");
        wire.assert_usable();
    }
}

#[test]
fn c34_the_first_of_two_errors_wins() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let (ticket, head) = wire.ask_read(0, 512);
        let mut bytes = error(style, &head, Errno::EPERM, "first", MORE);
        bytes.extend(error(style, &head, Errno::EIO, "second", MORE));
        bytes.extend(none(style, &head));
        wire.feed(&bytes).unwrap();
        let error = wire.request_error(ticket);
        assert_eq!(error.errno, Errno::EPERM);
        assert_eq!(error.message.as_str(), "first");
        wire.assert_usable();
    }
}

#[test]
fn c35_endless_errors_kill_the_connection() {
    for style in CHUNKED {
        let cause = fatal_read(style, |head| {
            error(style, head, Errno::EIO, "", MORE).repeat(65)
        });
        assert_eq!(cause, ProtocolError::TooManyErrors);
    }
}

#[test]
fn c36_a_reply_that_never_ends_is_never_an_answer() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let (ticket, head) = wire.ask_read(0, 512);
        wire.feed(&data(style, &head, 0, &[1; 512], MORE)).unwrap();
        assert!(wire.poll(ticket).is_pending());
        wire.session.fail(&Error::eof(crate::error::Phase::Request));
        let error = wire.answer(ticket).unwrap_err();
        assert_matches!(error, Error::Disconnected(..));
        assert_eq!(error.delivery(), Delivery::MaybeSent);
    }
}

#[test]
fn c38_reserved_flags_are_ignored() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let (ticket, head) = wire.ask_read(0, 4);
        let flags = ReplyFlags::from_bits_retain(0xfffe);
        wire.feed(&data(style, &head, 0, b"ab", flags)).unwrap();
        assert!(wire.poll(ticket).is_pending());
        let flags = ReplyFlags::from_bits_retain(0xffff);
        wire.feed(&data(style, &head, 2, b"cd", flags)).unwrap();
        assert_eq!(wire.data(ticket), b"abcd");
    }
}

#[test]
fn c39_c40_an_impossible_length_is_told_at_the_head() {
    for style in CHUNKED {
        let kinds = [0, 1, 2, 5, 6, 0x8001, 0x8002, 0x8077, 77].map(Kind);
        for kind in kinds {
            let cause = fatal_read(style, |head| chunk_head(style, head, kind, u32::MAX.into()));
            assert_matches!(
                cause,
                ProtocolError::Length { .. } | ProtocolError::UnexpectedChunk { .. }
            );
        }
        let cause = fatal_read(style, |head| {
            chunk_head(style, head, Kind::OFFSET_DATA, 512 + 9)
        });
        assert_matches!(cause, ProtocolError::Length { .. });
    }
}

#[test]
fn c39_what_is_waited_for_is_bounded_whatever_the_head_says() {
    // P-175: the longest body there is: 2^20 extents.
    let most = |style| {
        if style == EXTENDED {
            8 + (16 << 20)
        } else {
            4 + (8 << 20)
        }
    };
    for style in CHUNKED {
        for command in [Command::READ, Command::BLOCK_STATUS, Command::WRITE] {
            for kind in [0, 1, 2, 5, 6, 0x8001, 0x8002, 0x8077].map(Kind) {
                for power in 0..32 {
                    for length in [1u64 << power, (1 << power) + 4, (1 << power) + 8] {
                        let mut wire = Wire::new(style);
                        match command {
                            Command::BLOCK_STATUS => wire.submit(status::query()),
                            _ => wire.command(command),
                        };
                        let head = wire.send().pop().unwrap().head;
                        let mut bytes = BytesMut::from(&chunk_head(style, &head, kind, length)[..]);
                        if let Ok(Intake::Bytes(needed)) = wire.session.receive(&mut bytes) {
                            assert!(needed <= most(style), "{kind} of {length}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn c41_data_byte_by_byte_is_put_together() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let (ticket, head) = wire.ask_read(0, 4096);
        for i in 0..4096u64 {
            let flags = if i == 4095 { DONE } else { MORE };
            wire.feed(&data(style, &head, i, &[i as u8], flags))
                .unwrap();
        }
        let expected: Vec<u8> = (0..4096).map(|i| i as u8).collect();
        assert_eq!(wire.data(ticket), expected);
    }
}

#[test]
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
fn c42_pieces_that_are_taken_may_be_of_one_byte_each() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let ticket = wire.submit(read_chunks(0, 10_000));
        let head = wire.send().pop().unwrap().head;
        for at in 0..10_000 {
            let flags = if at == 9_999 { DONE } else { MORE };
            wire.feed(&data(style, &head, at, &[0], flags)).unwrap();
            let next = wire.session.poll_chunk(ticket, Waker::noop());
            assert_matches!(next, Poll::Ready(Some(Ok(_))));
        }
        let end = wire.session.poll_chunk(ticket, Waker::noop());
        assert_matches!(end, Poll::Ready(None));
    }
}

#[test]
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
fn c44_chunks_of_many_requests_may_be_interleaved() {
    for style in CHUNKED {
        for step in [usize::MAX, 1, 13] {
            let mut wire = Wire::new(style);
            wire.step = step;
            let tickets: Vec<_> = (0..64).map(|i| wire.read(i * 1000, 256)).collect();
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
            for (i, ticket) in tickets.into_iter().enumerate() {
                let expected: Vec<u8> = (0..256)
                    .map(|at| (i * 16 + at / 16) as u8)
                    .map(|fill| if fill == 77 { 0 } else { fill })
                    .collect();
                assert_eq!(wire.data(ticket), expected);
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
        let ticket = wire.submit(read_unfragmented());
        let head = wire.send().pop().unwrap().head;
        wire.feed(&hole(style, &head, 4096, 512, DONE)).unwrap();
        assert_eq!(wire.data(ticket), [0; 512]);
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
fn c47_a_cut_anywhere_in_a_reply_changes_nothing() {
    for style in CHUNKED {
        let cuts = (0..200)
            .chain((200..65700).step_by(997))
            .chain(65700..66000);
        for cut in cuts {
            let mut wire = Wire::new(style);
            let (ticket, head) = wire.ask_read(1 << 20, 65536 + 100);
            let (bytes, expected) = three_chunks(style, &head);
            let cut = cut.min(bytes.len());
            wire.feed(&bytes[..cut]).unwrap();
            wire.feed(&bytes[cut..]).unwrap();
            assert!(wire.data(ticket) == expected, "cut at {cut}");
        }
    }
}

#[test]
fn c48_a_reply_cut_off_anywhere_is_no_answer() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let (ticket, head) = wire.ask_read(0, 65636);
        let (bytes, _) = three_chunks(style, &head);
        for (at, byte) in bytes[..bytes.len() - 1].iter().enumerate() {
            wire.feed(&[*byte]).unwrap();
            assert!(wire.poll(ticket).is_pending(), "{at}");
        }
        wire.session.fail(&Error::eof(crate::error::Phase::Request));
        assert_matches!(wire.answer(ticket), Err(Error::Disconnected(..)));
    }
}

#[test]
fn c50_an_error_for_an_unknown_cookie_kills_the_connection() {
    for style in CHUNKED {
        let cause = fatal_read(style, |head| {
            let cookie = !head.cookie;
            error(
                style,
                &RequestHead { cookie, ..*head },
                Errno::EIO,
                "",
                DONE,
            )
        });
        assert_matches!(cause, ProtocolError::UnknownCookie(_));
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
        let ticket = wire.submit(read_chunks(0, 100));
        let head = wire.send().pop().unwrap().head;
        let next = |wire: &mut Wire| wire.session.poll_chunk(ticket, Waker::noop());
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
        let ticket = wire.submit(read_chunks(0, 100));
        let head = wire.send().pop().unwrap().head;
        wire.feed(&data(style, &head, 0, &[1; 40], MORE)).unwrap();
        wire.feed(&error(style, &head, Errno::EIO, "", DONE))
            .unwrap();
        let mut next = || wire.session.poll_chunk(ticket, Waker::noop());
        assert_matches!(next(), Poll::Ready(Some(Ok(_))));
        assert_matches!(next(), Poll::Ready(Some(Err(Error::Request(_)))));
    }
}
