//! FAULTS of extended headers.

use super::*;
use crate::wire::ChunkType as Kind;
use crate::wire::reply::status_body;

#[test]
fn x01_a_compact_reply_is_told_from_its_magic() {
    for magic in [
        crate::wire::SIMPLE_REPLY_MAGIC,
        crate::wire::STRUCTURED_REPLY_MAGIC,
    ] {
        let cause = fatal_read(EXTENDED, |_| magic.to_be_bytes().to_vec());
        assert_eq!(cause, ProtocolError::Magic(magic));
    }
    let magic = crate::wire::EXTENDED_REPLY_MAGIC;
    let cause = fatal_read(STRUCTURED, |_| magic.to_be_bytes().to_vec());
    assert_eq!(cause, ProtocolError::Magic(magic));
}

#[test]
fn x03_an_impossible_length_is_told_at_the_head() {
    for length in [
        1 << 63,
        u64::MAX,
        (1 << 32) + 520,
        (1 << 32) + 12,
        (64 << 10) + 1,
    ] {
        for kind in [0, 1, 2, 6, 0x8001, 0x8002, 0x8077].map(Kind) {
            let cause = fatal_read(EXTENDED, |head| chunk_head(EXTENDED, head, kind, length));
            assert_matches!(
                cause,
                ProtocolError::Length { .. } | ProtocolError::UnexpectedChunk { .. }
            );
        }
    }
}

#[test]
fn x04_a_count_that_contradicts_the_length_kills_the_connection() {
    for count in [0, 1, 3, u32::MAX] {
        let cause = fatal(EXTENDED, status::query, |head| {
            let body = status_body(true, 10, &[(512, 0), (512, 1)]);
            let mut body = BytesMut::from(&body[..]);
            body[4..8].copy_from_slice(&count.to_be_bytes());
            chunk(EXTENDED, head, DONE, Kind::BLOCK_STATUS_EXT, body.freeze())
        });
        assert_matches!(cause, ProtocolError::Extents(_));
    }
}

#[test]
fn x05_status_of_the_other_width_kills_the_connection() {
    for (style, kind) in [
        (EXTENDED, Kind::BLOCK_STATUS),
        (STRUCTURED, Kind::BLOCK_STATUS_EXT),
    ] {
        let cause = fatal(style, status::query, |head| {
            let extended = kind == Kind::BLOCK_STATUS_EXT;
            let body = status_body(extended, 10, &[(512, 0)]);
            chunk(style, head, DONE, kind, body)
        });
        assert_matches!(cause, ProtocolError::UnexpectedChunk { .. });
    }
}

#[test]
fn x07_huge_extents_are_cut_off_or_kill_the_connection() {
    let reply = |length: u64| {
        move |head: &RequestHead| {
            let body = status_body(true, 10, &[(512, 0), (length, 1)]);
            chunk(EXTENDED, head, DONE, Kind::BLOCK_STATUS_EXT, body)
        }
    };
    let overflow = fatal(EXTENDED, status::query, reply(u64::MAX));
    assert_matches!(overflow, ProtocolError::Extents(_));
    let mut wire = Wire::new(EXTENDED);
    let cookie = wire.submit(status::query());
    let head = wire.send().pop().unwrap().head;
    wire.feed(&reply(1 << 63)(&head)).unwrap();
    let Ok(Answer::Status(status)) = wire.answer(cookie) else {
        panic!("no status");
    };
    let extents = status.get("base:allocation").unwrap();
    assert_eq!(extents[1].end(), 1 << 20, "the end of the export");
}

#[test]
fn x07_a_reply_that_names_another_offset_kills_the_connection() {
    let cause = fatal_read(EXTENDED, |head| {
        let head = RequestHead { offset: 0, ..*head };
        data(EXTENDED, &head, 4096, &[0; 512], DONE)
    });
    assert_eq!(cause, ProtocolError::WrongOffset { sent: 4096, got: 0 });
}

#[test]
fn x09_a_zero_of_more_than_4_gib_fails_alone() {
    let mut wire = Wire::new(EXTENDED);
    let cookie = wire.submit(bare(Command::WRITE_ZEROES, 0, 1 << 33));
    let head = wire.send().pop().unwrap().head;
    assert_eq!(head.length, 1 << 33);
    wire.feed(&error(EXTENDED, &head, Errno::EINVAL, "", DONE))
        .unwrap();
    assert_eq!(wire.request_error(cookie).errno, Errno::EINVAL);
    wire.assert_usable();
}
