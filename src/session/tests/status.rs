//! FAULTS of block status.

use super::*;
use crate::wire::reply::{error_body, status_body};

const SIZE: u64 = 1 << 20;

fn query_of(names: &[&str], one: bool) -> Submission {
    let flags = if one {
        CommandFlags::REQ_ONE
    } else {
        CommandFlags::empty()
    };
    let wanted = names.iter().zip(10..).map(|(name, id)| Context {
        id,
        name: (*name).into(),
    });
    let (offset, length) = (4096, 65536);
    Submission {
        flags,
        sink: Sink::Status(Box::new(StatusAssembly::new(
            offset,
            length,
            SIZE,
            one,
            wanted.collect(),
        ))),
        ..bare(Command::BLOCK_STATUS, offset, length)
    }
}

/// A query of one context, whose id is 10, over 64 KiB at 4096.
pub(super) fn query() -> Submission {
    query_of(&["base:allocation"], false)
}

fn query_two() -> Submission {
    query_of(&["base:allocation", "x:y"], false)
}

fn kind(style: ReplyStyle) -> ChunkType {
    match style {
        EXTENDED => ChunkType::BLOCK_STATUS_EXT,
        _ => ChunkType::BLOCK_STATUS,
    }
}

pub(super) fn status(
    style: ReplyStyle,
    head: &RequestHead,
    id: u32,
    extents: &[(u64, u64)],
    flags: ReplyFlags,
) -> Vec<u8> {
    let body = status_body(style == EXTENDED, id, extents);
    chunk(style, head, flags, kind(style), body)
}

fn fatal_status(style: ReplyStyle, bytes: impl Fn(&RequestHead) -> Vec<u8>) -> ProtocolError {
    fatal(style, query, bytes)
}

/// The extents of the one context, as (offset, length, flags).
fn extents(style: ReplyStyle, sent: &[(u64, u64)]) -> Vec<(u64, u64, u64)> {
    let mut wire = Wire::new(style);
    let cookie = wire.submit(query());
    let head = wire.send().pop().unwrap().head;
    wire.feed(&status(style, &head, 10, sent, DONE)).unwrap();
    let Ok(Answer::Status(status)) = wire.answer(cookie) else {
        panic!("no status");
    };
    let extents = status.get("base:allocation").unwrap().iter();
    extents.map(|e| (e.offset, e.length, e.flags)).collect()
}

#[test]
fn b01_an_unknown_context_kills_the_connection() {
    for style in CHUNKED {
        let cause = fatal_status(style, |head| status(style, head, 11, &[(4096, 0)], DONE));
        assert_eq!(cause, ProtocolError::UnknownContext(11));
    }
}

#[test]
fn b02_an_empty_extent_kills_the_connection() {
    for style in CHUNKED {
        for sent in [&[(0, 0)][..], &[(4096, 0), (0, 1)], &[(0, 1), (4096, 0)]] {
            let cause = fatal_status(style, |head| status(style, head, 10, sent, DONE));
            assert_matches!(cause, ProtocolError::Extents(_));
        }
    }
}

#[test]
fn b04_b05_status_of_the_wrong_length_kills_the_connection_at_its_head() {
    for style in CHUNKED {
        let lengths: &[u64] = match style {
            EXTENDED => &[0, 1, 4, 8, 12, 16, 23, 25, 32],
            _ => &[0, 1, 2, 3, 4, 5, 8, 11, 13, 16],
        };
        for &length in lengths {
            let cause = fatal_status(style, |head| chunk_head(style, head, kind(style), length));
            assert_matches!(cause, ProtocolError::Length { .. });
        }
    }
}

#[test]
fn b07_a_missing_context_kills_the_connection() {
    for style in CHUNKED {
        for answered in [10, 11] {
            let cause = fatal(style, query_two, |head| {
                status(style, head, answered, &[(4096, 0)], DONE)
            });
            assert_eq!(cause, ProtocolError::MissingStatus(1));
        }
    }
}

#[test]
fn b07_a_context_that_answers_twice_kills_the_connection() {
    for style in CHUNKED {
        let cause = fatal(style, query_two, |head| {
            let mut bytes = status(style, head, 11, &[(4096, 0)], MORE);
            bytes.extend(status(style, head, 11, &[(4096, 0)], DONE));
            bytes
        });
        assert_eq!(cause, ProtocolError::DuplicateStatus(11));
    }
}

#[test]
fn b08_a_status_without_any_status_kills_the_connection() {
    for style in CHUNKED {
        let cause = fatal_status(style, |head| none(style, head));
        assert_eq!(cause, ProtocolError::MissingStatus(1));
    }
}

#[test]
fn b09_extents_past_the_end_of_the_export_are_cut_off() {
    for style in CHUNKED {
        let whole = extents(style, &[(u32::MAX.into(), 3)]);
        assert_eq!(whole, [(4096, SIZE - 4096, 3)]);
        let last = extents(style, &[(65535, 0), (u32::MAX.into(), 3)]);
        assert_eq!(last[1], (4096 + 65535, SIZE - 4096 - 65535, 3));
    }
}

#[test]
fn b09_extents_whose_sum_overflows_kill_the_connection() {
    for length in [u64::MAX, u64::MAX - 4095] {
        let cause = fatal_status(EXTENDED, |head| {
            status(EXTENDED, head, 10, &[(length, 0)], DONE)
        });
        assert_matches!(cause, ProtocolError::Extents(_));
    }
}

#[test]
fn b10_extents_past_the_requested_range_are_dropped() {
    for style in CHUNKED {
        let got = extents(style, &[(65536, 0), (4096, 1)]);
        assert_eq!(got, [(4096, 65536, 0)]);
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow there")]
fn b12_more_than_a_million_extents_kill_the_connection_at_the_head() {
    for style in CHUNKED {
        for count in [(1 << 20) + 1, 1 << 21] {
            let length = match style {
                EXTENDED => 8 + 16 * count,
                _ => 4 + 8 * count,
            };
            let cause = fatal_status(style, |head| chunk_head(style, head, kind(style), length));
            assert_matches!(cause, ProtocolError::Length { .. });
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow there")]
fn b12_a_million_extents_are_taken() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let assembly = |wanted| StatusAssembly::new(0, 1 << 30, 1 << 30, false, wanted);
        let wanted = vec![Context {
            id: 0,
            name: "a:b".into(),
        }];
        let cookie = wire.submit(Submission {
            sink: Sink::Status(Box::new(assembly(wanted))),
            ..bare(Command::BLOCK_STATUS, 0, 1 << 30)
        });
        let head = wire.send().pop().unwrap().head;
        let sent: Vec<(u64, u64)> = (0..1 << 20).map(|i| (1, i % 4)).collect();
        wire.feed(&status(style, &head, 0, &sent, DONE)).unwrap();
        let Ok(Answer::Status(status)) = wire.answer(cookie) else {
            panic!("no status");
        };
        assert_eq!(status.get("a:b").unwrap().len(), 1 << 20);
    }
}

#[test]
fn b15_a_status_may_cover_less_than_was_asked_for() {
    for style in CHUNKED {
        assert_eq!(extents(style, &[(1, 7)]), [(4096, 1, 7)]);
    }
}

#[test]
fn b17_an_error_fails_the_status_only() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let cookie = wire.submit(query());
        let head = wire.send().pop().unwrap().head;
        wire.feed(&error(style, &head, Errno::EIO, "", DONE))
            .unwrap();
        assert_eq!(wire.request_error(cookie).errno, Errno::EIO);
        wire.assert_usable();
    }
    let mut wire = Wire::new(STRUCTURED);
    let cookie = wire.submit(query());
    let head = wire.send().pop().unwrap().head;
    wire.feed(&simple(&head, Errno::ENOTSUP)).unwrap();
    assert_eq!(wire.request_error(cookie).errno, Errno::ENOTSUP);
    wire.assert_usable();
}

#[test]
fn b18_an_error_after_the_status_fails_the_request() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let cookie = wire.submit(query());
        let head = wire.send().pop().unwrap().head;
        wire.feed(&status(style, &head, 10, &[(4096, 0)], MORE))
            .unwrap();
        wire.feed(&error(style, &head, Errno::EIO, "", DONE))
            .unwrap();
        assert_eq!(wire.request_error(cookie).errno, Errno::EIO);
        wire.assert_usable();
    }
}

// P-165: an error offset lies inside the request.
#[test]
fn an_error_offset_is_told_if_it_lies_in_the_range_that_was_asked_about() {
    for style in CHUNKED {
        for chooses in [false, true] {
            for (at, told) in [
                (4095, None),
                (4096, Some(4096)),
                (4096 + 65535, Some(4096 + 65535)),
                (4096 + 65536, None),
            ] {
                let mut wire = Wire::new(style);
                let mut submission = query();
                // the effect length and one id.
                if chooses && style == EXTENDED {
                    submission.flags = CommandFlags::PAYLOAD_LEN;
                    submission.payload = Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 10]);
                    submission.length = 12;
                }
                let cookie = wire.submit(submission);
                let head = wire.send().pop().unwrap().head;
                let body = error_body(Errno::EIO, "", Some(at));
                wire.feed(&chunk(style, &head, DONE, ChunkType::ERROR_OFFSET, body))
                    .unwrap();
                assert_eq!(wire.request_error(cookie).failed_at, told);
                wire.assert_usable();
            }
        }
    }
}

// P-170: REQ_ONE gives one extent.
#[test]
fn the_first_of_several_extents_is_the_one_that_was_asked_for() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let cookie = wire.submit(query_of(&["a:b"], true));
        let head = wire.send().pop().unwrap().head;
        wire.feed(&status(style, &head, 10, &[(512, 0), (512, 1)], DONE))
            .unwrap();
        let Ok(Answer::Status(status)) = wire.answer(cookie) else {
            panic!("no status");
        };
        let extents = status.get("a:b").unwrap();
        assert_eq!(extents.len(), 1);
        assert_eq!((extents[0].length, extents[0].flags), (512, 0));
    }
}

#[test]
fn contexts_answer_in_any_order() {
    for style in CHUNKED {
        for step in [usize::MAX, 1] {
            let mut wire = Wire::new(style);
            wire.step = step;
            let cookie = wire.submit(query_two());
            let head = wire.send().pop().unwrap().head;
            wire.feed(&status(style, &head, 11, &[(512, 5)], MORE))
                .unwrap();
            wire.feed(&status(style, &head, 10, &[(1024, 6)], MORE))
                .unwrap();
            wire.feed(&none(style, &head)).unwrap();
            let Ok(Answer::Status(status)) = wire.answer(cookie) else {
                panic!("no status");
            };
            assert_eq!(status.get("base:allocation").unwrap()[0].flags, 6);
            assert_eq!(status.get("x:y").unwrap()[0].flags, 5);
        }
    }
}
