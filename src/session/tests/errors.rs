//! Errors in chunks: what fails, what is told, and what is too much.

use super::*;
use crate::wire::ChunkType as Kind;
use crate::wire::reply::error_body;

#[test]
fn c21_an_unknown_kind_of_error_fails_its_request_only() {
    for style in CHUNKED {
        for command in BARE.into_iter().chain([Command::READ]) {
            let mut wire = Wire::new(style);
            let (cookie, head) = wire.ask(command);
            let body = error_body(Errno::EIO, "what is this", Some(7));
            wire.feed(&chunk(style, &head, DONE, Kind(0x8077), body))
                .unwrap();
            let error = wire.request_error(cookie);
            assert_eq!(error.errno, Errno::EIO);
            assert_eq!(error.message.as_str(), "what is this");
            assert_eq!(error.failed_at, None);
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
        let (cookie, head) = wire.ask(Command::READ);
        let message = "x".repeat(4096);
        wire.feed(&error(style, &head, Errno::EIO, &message, DONE))
            .unwrap();
        assert_eq!(wire.request_error(cookie).message.as_str(), message);
    }
}

#[test]
fn c28_a_hostile_message_is_printed_without_control_characters() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let (cookie, head) = wire.ask(Command::READ);
        let text = b"\0\x1b[2J\r\nlog: ok \xff\xe2\x80\xae";
        let body = lying_error(u16::try_from(text.len()).unwrap(), text);
        wire.feed(&chunk(style, &head, DONE, Kind::ERROR, body))
            .unwrap();
        let printed = Error::Request(wire.request_error(cookie)).to_string();
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
            let (cookie, head) = wire.ask_read(4096, 512);
            let body = error_body(Errno::EIO, "", Some(at));
            wire.feed(&chunk(style, &head, DONE, Kind::ERROR_OFFSET, body))
                .unwrap();
            assert_eq!(wire.request_error(cookie).failed_at, told);
            wire.assert_usable();
        }
    }
}

#[test]
fn c31_an_error_offset_for_a_flush_fails_it_only() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let cookie = wire.submit(bare(Command::FLUSH, 0, 0));
        let head = wire.send().pop().unwrap().head;
        let body = error_body(Errno::EIO, "", Some(0));
        wire.feed(&chunk(style, &head, DONE, Kind::ERROR_OFFSET, body))
            .unwrap();
        assert_eq!(wire.request_error(cookie).failed_at, None);
        wire.assert_usable();
    }
}

#[test]
fn c33_an_error_after_all_data_fails_the_read() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let (cookie, head) = wire.ask_read(0, 512);
        wire.feed(&data(style, &head, 0, &[1; 512], MORE)).unwrap();
        wire.feed(&error(style, &head, Errno::EIO, "late", DONE))
            .unwrap();
        assert_eq!(wire.request_error(cookie).message.as_str(), "late");
        wire.assert_usable();
    }
}

#[test]
fn c34_the_first_of_two_errors_wins() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let (cookie, head) = wire.ask_read(0, 512);
        let mut bytes = error(style, &head, Errno::EPERM, "first", MORE);
        bytes.extend(error(style, &head, Errno::EIO, "second", MORE));
        bytes.extend(none(style, &head));
        wire.feed(&bytes).unwrap();
        let error = wire.request_error(cookie);
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
        // As many as are allowed fail their request only.
        let mut wire = Wire::new(style);
        let (cookie, head) = wire.ask_read(0, 512);
        let errors = error(style, &head, Errno::EIO, "", MORE).repeat(64);
        wire.feed(&errors).unwrap();
        wire.feed(&none(style, &head)).unwrap();
        assert_eq!(wire.request_error(cookie).errno(), Errno::EIO);
        wire.assert_usable();
    }
}

#[test]
fn c36_a_reply_that_never_ends_is_never_an_answer() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let (cookie, head) = wire.ask_read(0, 512);
        wire.feed(&data(style, &head, 0, &[1; 512], MORE)).unwrap();
        assert!(wire.poll(cookie).is_pending());
        wire.session.fail(&Error::eof(crate::error::Phase::Request));
        let error = wire.answer(cookie).unwrap_err();
        assert_matches!(error, Error::Disconnected(..));
        assert_eq!(error.delivery(), Delivery::MaybeSent);
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
