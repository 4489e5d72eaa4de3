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
fn c38_reserved_flags_are_ignored() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let (cookie, head) = wire.ask_read(0, 4);
        let flags = ReplyFlags::from_bits_retain(0xfffe);
        wire.feed(&data(style, &head, 0, b"ab", flags)).unwrap();
        assert!(wire.poll(cookie).is_pending());
        let flags = ReplyFlags::from_bits_retain(0xffff);
        wire.feed(&data(style, &head, 2, b"cd", flags)).unwrap();
        assert_eq!(wire.data(cookie), b"abcd");
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
#[cfg_attr(miri, ignore = "too slow there")]
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
