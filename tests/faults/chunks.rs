//! C: chunks that are not what they must be.

use nbd_client::wire::{ChunkType as Kind, Command, Errno, ProtocolError};

use crate::answer::*;
use crate::harness::*;

/// What every kind of chunk is sent as at least once.
const KINDS: [u16; 9] = [0, 1, 2, 5, 6, 77, 0x8001, 0x8002, 0x8077];

/// The head of a chunk of a wrong length is enough.
fn wrong_length(kind: Kind, lengths: impl IntoIterator<Item = u64>) {
    for length in lengths {
        let says = |to: &To| to.chunk_head(kind, length);
        let wrong = Outcome::Fatal(is!(ProtocolError::Length { .. }));
        row(&CHUNKED, Ask::Read, &says, wrong);
    }
}

#[test]
fn c01_none_without_done_kills_the_connection() {
    let says = |to: &To| to.chunk(Kind::NONE, "", MORE);
    let not_done = Outcome::Fatal(is!(ProtocolError::NotDone));
    row(&CHUNKED, Ask::Read, &says, not_done);
}

#[test]
fn c02_none_with_a_payload_kills_the_connection() {
    wrong_length(Kind::NONE, [1, 512]);
}

#[test]
fn c03_a_read_without_any_data_kills_the_connection() {
    let nothing = Outcome::Fatal(is!(ProtocolError::IncompleteRead { missing: 512, .. }));
    row(&CHUNKED, Ask::Read, &To::none, nothing);
}

#[test]
fn c04_half_of_the_data_kills_the_connection() {
    for half in [4096, 4096 + 256] {
        let says = |to: &To| to.data(half, &[0; 256], DONE);
        let incomplete = Outcome::Fatal(is!(ProtocolError::IncompleteRead { missing: 256, .. }));
        row(&CHUNKED, Ask::Read, &says, incomplete);
    }
}

#[test]
fn c05_a_gap_kills_the_connection() {
    let says = |to: &To| {
        let mut bytes = to.data(4096, &[0; 200], MORE);
        bytes.extend(to.data(4096 + 201, &[0; 311], DONE));
        bytes
    };
    let incomplete = Outcome::Fatal(is!(ProtocolError::IncompleteRead { missing: 1, .. }));
    row(&CHUNKED, Ask::Read, &says, incomplete);
}

fn out_of_range(says: &dyn Fn(&To) -> Vec<u8>) {
    let outside = Outcome::Fatal(is!(ProtocolError::OutOfRange { .. }));
    row(&CHUNKED, Ask::Read, says, outside);
}

fn data_out_of_range(offset: u64, length: usize) {
    out_of_range(&|to| to.data(offset, &vec![1; length], DONE));
}

#[test]
fn c09_data_below_the_range_kills_the_connection() {
    data_out_of_range(4095, 1);
    data_out_of_range(4095, 512);
    data_out_of_range(0, 512);
}

#[test]
fn c10_data_above_the_range_kills_the_connection() {
    data_out_of_range(4096 + 512, 1);
    data_out_of_range(1 << 50, 512);
}

#[test]
fn c11_data_that_straddles_the_end_kills_the_connection() {
    data_out_of_range(4096 + 1, 512);
    data_out_of_range(4096 + 511, 2);
}

#[test]
fn c12_data_whose_end_wraps_kills_the_connection() {
    data_out_of_range(u64::MAX - 255, 512);
    data_out_of_range(u64::MAX, 1);
}

#[test]
fn c13_holes_outside_the_request_kill_the_connection() {
    for (offset, length) in [
        (u64::MAX - 1, 512),
        (4096, u32::MAX),
        (4096, 513),
        (4000, 512),
    ] {
        out_of_range(&|to| to.hole(offset, length, DONE));
    }
}

#[test]
fn c14_data_of_no_bytes_kills_the_connection() {
    wrong_length(Kind::OFFSET_DATA, [8]);
}

#[test]
fn c15_data_shorter_than_its_offset_kills_the_connection() {
    wrong_length(Kind::OFFSET_DATA, 0..8);
}

#[test]
fn c17_a_hole_of_the_wrong_form_kills_the_connection() {
    wrong_length(Kind::OFFSET_HOLE, [0, 8, 11, 13]);
    let empty = Outcome::Fatal(is!(ProtocolError::Length { .. }));
    row(&CHUNKED, Ask::Read, &|to| to.hole(4096, 0, DONE), empty);
}

/// A chunk that has no place in the answer to this.
fn unexpected(ask: Ask, kind: Kind, length: u64) {
    let says = |to: &To| to.chunk_head(kind, length);
    let is_cause = |cause: &ProtocolError| matches!(cause, ProtocolError::UnexpectedChunk { chunk, .. } if *chunk == kind);
    row(&CHUNKED, ask, &says, Outcome::Fatal(&is_cause));
}

#[test]
fn c18_content_for_a_command_without_content_kills_the_connection() {
    for ask in BARE {
        unexpected(ask, Kind::OFFSET_DATA, 12);
        unexpected(ask, Kind::OFFSET_HOLE, 12);
    }
}

#[test]
fn c19_status_for_a_read_and_data_for_a_status_kill_the_connection() {
    unexpected(Ask::Read, Kind::BLOCK_STATUS, 12);
    unexpected(Ask::Read, Kind::BLOCK_STATUS_EXT, 24);
    unexpected(Ask::Status, Kind::OFFSET_DATA, 12);
    unexpected(Ask::Status, Kind::OFFSET_HOLE, 12);
}

#[test]
fn c20_unknown_content_kills_the_connection() {
    for kind in [3, 4, 77, 0x7fff].map(Kind) {
        for ask in [Ask::Read, Ask::Flush, Ask::Status] {
            unexpected(ask, kind, 0);
            unexpected(ask, kind, 100);
        }
    }
}

#[test]
fn c21_an_unknown_kind_of_error_fails_its_request_only() {
    for ask in BARE.into_iter().chain([Ask::Read, Ask::Status]) {
        let body = |at| nbd_client::wire::reply::error_body(Errno::EIO, "what is this", at);
        for body in [body(None), body(Some(7))] {
            let says = |to: &To| to.chunk(Kind(0x8077), body.clone(), DONE);
            let told = Outcome::Failed(&|error| {
                let text = error.message().as_str();
                error.errno() == Errno::EIO && text == "what is this" && error.failed_at().is_none()
            });
            row(&CHUNKED, ask, &says, told);
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

/// A message that is said to be longer than its chunk.
fn message_too_long(kind: Kind) {
    for length in [9, 4096, u16::MAX] {
        let says = |to: &To| to.chunk(kind, lying_error(length, &[b'x'; 8]), DONE);
        let wrong = Outcome::Fatal(is!(ProtocolError::Length { .. }));
        row(&CHUNKED, Ask::Read, &says, wrong);
    }
}

#[test]
fn c22_an_unknown_error_whose_message_does_not_fit_kills_the_connection() {
    message_too_long(Kind(0x8077));
}

#[test]
fn c23_an_error_that_is_too_short_kills_the_connection() {
    wrong_length(Kind::ERROR, 0..6);
    wrong_length(Kind(0x8077), 0..6);
}

#[test]
fn c24_an_error_without_an_error_kills_the_connection() {
    let no_error = Outcome::Fatal(is!(ProtocolError::NoError));
    row(
        &CHUNKED,
        Ask::Read,
        &|to| to.error(Errno::OK, "", DONE),
        no_error,
    );
}

#[test]
fn c25_a_message_longer_than_its_chunk_kills_the_connection() {
    message_too_long(Kind::ERROR);
    message_too_long(Kind::ERROR_OFFSET);
}

#[test]
fn c26_a_message_over_4096_bytes_kills_the_connection() {
    for length in [4097, 65535] {
        let says = |to: &To| to.error(Errno::EIO, &"x".repeat(length), DONE);
        let wrong = Outcome::Fatal(is!(ProtocolError::Length { .. }));
        row(&CHUNKED, Ask::Read, &says, wrong);
    }
    let says = |to: &To| to.error(Errno::EIO, &"x".repeat(4096), DONE);
    let told = Outcome::Failed(&|error| error.message().as_str() == "x".repeat(4096));
    row(&CHUNKED, Ask::Read, &says, told);
}

// "no more than header length - 6", or 14: qemu and libnbd skip the rest.
#[test]
fn an_error_longer_than_its_message_fails_its_request_only() {
    use nbd_client::wire::reply::error_body;
    for (kind, at) in [
        (Kind::ERROR, None),
        (Kind::ERROR_OFFSET, Some(4096 + 7)),
        (Kind(0x8077), None),
    ] {
        for (message, surplus) in [("", 1), ("bad", 8), ("bad", 60_000)] {
            let body = error_body(Errno::EIO, message, at);
            let body = [&body[..], &vec![0xff; surplus]].concat();
            let says = |to: &To| to.chunk(kind, body.clone(), DONE);
            let told = Outcome::Failed(&|error| {
                let text = error.message().as_str();
                error.errno() == Errno::EIO && text == message && error.failed_at() == at
            });
            row(&CHUNKED, Ask::Read, &says, told);
        }
    }
}

#[test]
fn c28_a_hostile_message_is_printed_without_control_characters() {
    let text = b"\0\x1b[2J\r\nlog: ok \xff\xe2\x80\xae";
    let says = |to: &To| to.chunk(Kind::ERROR, lying_error(text.len() as u16, text), DONE);
    let harmless = Outcome::Failed(&|error| {
        let (printed, debugged) = (error.to_string(), format!("{error:?}"));
        !(printed + &debugged).contains(|c: char| c.is_control() || c == '\u{202e}')
    });
    row(&CHUNKED, Ask::Read, &says, harmless);
}

#[test]
fn c29_an_error_without_room_for_its_offset_kills_the_connection() {
    wrong_length(Kind::ERROR_OFFSET, 0..14);
}

#[test]
fn c30_an_error_offset_outside_the_request_is_ignored() {
    for (at, told) in [
        (4096, Some(4096)),
        (4096 + 511, Some(4096 + 511)),
        (4096 + 512, None),
        (4095, None),
        (u64::MAX, None),
    ] {
        let is_error = |error: &nbd_client::RequestError| error.failed_at() == told;
        let says = |to: &To| to.error_at(Errno::EIO, at);
        row(&CHUNKED, Ask::Read, &says, Outcome::Failed(&is_error));
    }
}

#[test]
fn c31_an_error_offset_for_a_flush_fails_it_only() {
    let failed = Outcome::Failed(&|error| error.failed_at().is_none());
    row(
        &CHUNKED,
        Ask::Flush,
        &|to| to.error_at(Errno::EIO, 0),
        failed,
    );
}

#[test]
fn c33_an_error_after_all_data_fails_the_read() {
    let says = |to: &To| {
        let mut bytes = to.data(4096, &[1; 512], MORE);
        bytes.extend(to.error(Errno::EIO, "late", DONE));
        bytes
    };
    let failed = Outcome::Failed(&|error| error.message().as_str() == "late");
    row(&CHUNKED, Ask::Read, &says, failed);
}

#[test]
fn c34_the_first_of_two_errors_wins() {
    let says = |to: &To| {
        let mut bytes = to.error(Errno::EPERM, "first", MORE);
        bytes.extend(to.error(Errno::EIO, "second", MORE));
        bytes.extend(to.none());
        bytes
    };
    let first = Outcome::Failed(&|error| {
        error.errno() == Errno::EPERM && error.message().as_str() == "first"
    });
    row(&CHUNKED, Ask::Read, &says, first);
}

#[test]
fn c35_endless_errors_kill_the_connection() {
    let says = |to: &To| to.error(Errno::EIO, "", MORE).repeat(65);
    let too_many = Outcome::Fatal(is!(ProtocolError::TooManyErrors));
    row(&CHUNKED, Ask::Read, &says, too_many);
}

#[test]
fn c36_a_reply_that_never_ends_is_lost_with_the_connection() {
    let says = |to: &To| to.data(4096, &[1; 512], MORE);
    row(&CHUNKED, Ask::Read, &says, Outcome::Lost);
    row(&CHUNKED, Ask::Read, &says, Outcome::Expired);
}

#[test]
fn c38_reserved_flags_are_ignored() {
    let says = |to: &To| {
        let flags = nbd_client::wire::ReplyFlags::from_bits_retain;
        let mut bytes = to.data(4096, &[1; 256], flags(0xfffe));
        bytes.extend(to.data(4096 + 256, &[1; 256], flags(0xffff)));
        bytes
    };
    let whole = Outcome::Tolerated(&|got| got.is_data(&[1; 512]));
    row(&CHUNKED, Ask::Read, &says, whole);
}

#[test]
fn c39_the_longest_length_there_is_kills_the_connection_at_its_head() {
    for kind in KINDS.map(Kind) {
        for ask in [Ask::Read, Ask::Status, Ask::Flush] {
            let says = |to: &To| to.chunk_head(kind, u32::MAX.into());
            let told = Outcome::Fatal(is!(
                ProtocolError::Length { .. } | ProtocolError::UnexpectedChunk { .. }
            ));
            row(&CHUNKED, ask, &says, told);
        }
    }
}

#[test]
fn c40_more_data_than_was_asked_for_kills_the_connection_at_its_head() {
    wrong_length(Kind::OFFSET_DATA, [8 + 513, 512 + 9, 1 << 20]);
}

#[test]
fn c50_an_error_for_an_unknown_cookie_kills_the_connection() {
    let says = |to: &To| to.cookie(!to.head.cookie).error(Errno::EIO, "", DONE);
    let unknown = Outcome::Fatal(is!(ProtocolError::UnknownCookie(_)));
    row(&CHUNKED, Ask::Read, &says, unknown);
}

#[test]
fn c52_data_for_another_read_kills_the_connection() {
    // The bystander reads 64 bytes at 2^20; with extended headers the head tells already.
    let says = |to: &To| to.data(1 << 20, &[0; 64], DONE);
    let outside = Outcome::Fatal(is!(ProtocolError::OutOfRange { .. }));
    row(&STRUCTURED, Ask::Read, &says, outside);
    let swapped = |to: &To| {
        let mut to = *to;
        to.head.offset = 1 << 20;
        to.data(1 << 20, &[0; 64], DONE)
    };
    let wrong = Outcome::Fatal(is!(ProtocolError::WrongOffset { .. }));
    row(&EXTENDED, Ask::Read, &swapped, wrong);
    let unexpected = Outcome::Fatal(is!(ProtocolError::UnexpectedChunk {
        command: Command::FLUSH,
        ..
    }));
    row(
        &CHUNKED,
        Ask::Flush,
        &|to| to.data(0, &[0; 64], DONE),
        unexpected,
    );
}
