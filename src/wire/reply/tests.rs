//! Heads and bodies, whole, cut and wrong.

use bytes::BytesMut;

use proptest::prelude::*;

use super::*;
use crate::wire::ProtocolError;
use crate::wire::num::*;

fn head(style: ReplyStyle, bytes: &[u8]) -> Result<Option<(ReplyHead, usize)>, ProtocolError> {
    ReplyHead::decode(style, bytes)
}

#[test]
fn heads_survive_a_round_trip_and_any_truncation() {
    let chunk = ChunkHead {
        flags: ReplyFlags::from_bits_retain(0xffff),
        chunk: ChunkType::OFFSET_DATA,
        cookie: 7,
        offset: None,
        length: 520,
    };
    let extended = ChunkHead {
        offset: Some(4096),
        length: 1 << 33,
        ..chunk
    };
    for (style, sent) in [
        (
            ReplyStyle::Simple,
            ReplyHead::Simple {
                cookie: 7,
                error: Errno::EIO,
            },
        ),
        (
            ReplyStyle::Structured,
            ReplyHead::Simple {
                cookie: 7,
                error: Errno::OK,
            },
        ),
        (ReplyStyle::Structured, ReplyHead::Chunk(chunk)),
        (ReplyStyle::Extended, ReplyHead::Chunk(extended)),
    ] {
        let mut bytes = BytesMut::new();
        sent.encode(&mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(head(style, &bytes[..cut]), Ok(None));
        }
        assert_eq!(head(style, &bytes), Ok(Some((sent, bytes.len()))));
    }
}

// X-07, P-152: the four bytes of the magic are enough.
#[test]
fn a_magic_of_another_style_is_refused_at_once() {
    for (style, magic) in [
        (ReplyStyle::Simple, STRUCTURED_REPLY_MAGIC),
        (ReplyStyle::Simple, 0x9674_4668),
        (ReplyStyle::Structured, EXTENDED_REPLY_MAGIC),
        (ReplyStyle::Extended, SIMPLE_REPLY_MAGIC),
        (ReplyStyle::Extended, STRUCTURED_REPLY_MAGIC),
    ] {
        let result = head(style, &magic.to_be_bytes());
        assert_eq!(result, Err(ProtocolError::Magic(magic)));
    }
}

// P-157: an unexpected chunk ends the connection; P-159: an error has a number and a fitting
// message; P-160: content is inside the request, without overlap; P-168: a status is whole extents,
// at least one; X-08: extended status only with extended headers.
#[test]
fn chunk_lengths_are_judged_by_type() {
    for (chunk, good, bad) in [
        (ChunkType::NONE, &[0][..], &[1][..]),
        (ChunkType::OFFSET_DATA, &[9, 1 << 25], &[0, 7, 8]),
        (ChunkType::OFFSET_HOLE, &[12], &[0, 11, 13]),
        (
            ChunkType::BLOCK_STATUS,
            &[12, 4 + (8 << 20)],
            &[0, 4, 13, 4 + (8 << 20) + 8],
        ),
        (
            ChunkType::BLOCK_STATUS_EXT,
            &[24, 8 + (16 << 20)],
            &[8, 25, 8 + (16 << 20) + 16],
        ),
        (ChunkType::ERROR, &[6, 65536], &[0, 5, 65537, 0xffff_ffff]),
        (ChunkType::ERROR_OFFSET, &[14, 65536], &[13, 65537]),
        (ChunkType(0x8077), &[6, 65536], &[5, 65537]),
        (ChunkType(3), &[], &[0, 1, 100]),
    ] {
        let of = |length| ChunkHead {
            flags: ReplyFlags::DONE,
            chunk,
            cookie: 0,
            offset: None,
            length,
        };
        assert!(
            good.iter().all(|&length| of(length).check_length().is_ok()),
            "{chunk}"
        );
        assert!(
            bad.iter().all(|&length| of(length).check_length().is_err()),
            "{chunk}"
        );
    }
}

// P-158: an unknown error fails its request; P-159: an error has a number and a fitting message.
#[test]
fn error_chunks_are_checked() {
    let body = error_body(Errno::EIO, "bad sector", Some(512));
    let error = ErrorChunk::decode(ChunkType::ERROR_OFFSET, &body).unwrap();
    assert_eq!((error.error, error.offset), (Errno::EIO, Some(512)));
    assert_eq!(error.message.as_str(), "bad sector");
    let zero = error_body(Errno::OK, "", None);
    assert_eq!(
        ErrorChunk::decode(ChunkType::ERROR, &zero),
        Err(ProtocolError::NoError)
    );
    let too_long = [0, 0, 0, 5, 0, 9, b'x'];
    assert!(ErrorChunk::decode(ChunkType::ERROR, &too_long).is_err());
    assert!(ErrorChunk::decode(ChunkType(0x8077), &too_long).is_err());
    // What follows message and offset is skipped.
    for (kind, offset) in [
        (ChunkType::ERROR, None),
        (ChunkType::ERROR_OFFSET, Some(512)),
        (ChunkType(0x8077), None),
    ] {
        let body = error_body(Errno::EIO, "bad sector", offset);
        let error = ErrorChunk::decode(kind, &[&body[..], &[7; 9]].concat());
        assert_eq!(error, ErrorChunk::decode(kind, &body), "{kind}");
        assert_eq!(error.unwrap().message.as_str(), "bad sector");
    }
}

// P-168: a status is whole extents, at least one; X-08: extended status only with extended headers.
#[test]
fn status_chunks_survive_a_round_trip_in_both_widths() {
    let extents = vec![(65536, 0), (4096, 3)];
    for extended in [false, true] {
        let body = status_body(extended, 4, &extents);
        let status = StatusChunk {
            context: 4,
            extents: extents.clone(),
        };
        assert_eq!(StatusChunk::decode(extended, &body), Ok(status));
    }
    let empty = status_body(false, 4, &[(0, 0)]);
    assert!(StatusChunk::decode(false, &empty).is_err());
    let mut miscounted = BytesMut::from(&status_body(true, 4, &extents)[..]);
    miscounted[7] = 3;
    assert!(StatusChunk::decode(true, &miscounted).is_err());
}

fn any_head() -> impl Strategy<Value = (ReplyStyle, ReplyHead)> {
    let simple = (any::<u64>(), any::<u32>()).prop_map(|(cookie, error)| {
        let error = Errno(error);
        (ReplyStyle::Simple, ReplyHead::Simple { cookie, error })
    });
    let chunk = (any::<(u16, u16, u64)>(), any::<Option<u64>>(), any::<u64>());
    let chunk = chunk.prop_map(|((flags, chunk, cookie), offset, length)| {
        let style = offset.map_or(ReplyStyle::Structured, |_| ReplyStyle::Extended);
        let head = ChunkHead {
            flags: ReplyFlags::from_bits_retain(flags),
            chunk: ChunkType(chunk),
            cookie,
            offset,
            length: offset.map_or(length >> 32, |_| length),
        };
        (style, ReplyHead::Chunk(head))
    });
    prop_oneof![simple, chunk]
}

proptest! {
    #![proptest_config(crate::tests::properties::config())]

    #[test]
    fn any_reply_reads_back_equal((style, sent) in any_head(), cut in 0usize..32) {
        let mut bytes = BytesMut::new();
        sent.encode(&mut bytes);
        prop_assert_eq!(head(style, &bytes), Ok(Some((sent, bytes.len()))));
        prop_assert_eq!(head(style, &bytes[..cut % bytes.len()]), Ok(None));
    }

    #[test]
    fn any_body_reads_back_equal(
        offset: u64,
        length in 1u32..,
        error in 1u32..,
        message in ".{0,30}",
        context: u32,
        extents in prop::collection::vec((1u32.., any::<u32>()), 1..9),
        extended: bool,
    ) {
        let hole = Hole { offset, length };
        prop_assert_eq!(Hole::decode(&hole_body(hole)), Ok(hole));
        for (kind, offset) in [(ChunkType::ERROR, None), (ChunkType::ERROR_OFFSET, Some(offset))] {
            let body = error_body(Errno(error), &message, offset);
            let message = message.as_str().into();
            let sent = ErrorChunk { error: Errno(error), message, offset };
            prop_assert_eq!(ErrorChunk::decode(kind, &body), Ok(sent));
        }
        let shift = if extended { 20 } else { 0 };
        let wider = |(length, flags): (u32, u32)| (u64::from(length) << shift, u64::from(flags) << shift);
        let extents = extents.into_iter().map(wider).collect();
        let status = StatusChunk { context, extents };
        let body = status_body(extended, context, &status.extents);
        prop_assert_eq!(StatusChunk::decode(extended, &body), Ok(status));
    }
}
