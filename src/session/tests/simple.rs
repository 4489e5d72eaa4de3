//! FAULTS of simple replies.

use super::*;

#[test]
fn r01_an_unknown_magic_kills_the_connection() {
    for style in STYLES {
        for magic in [
            0u32,
            0x9674_4668,
            crate::wire::REQUEST_MAGIC,
            crate::wire::EXTENDED_REQUEST_MAGIC,
        ] {
            // Told from its four bytes alone.
            let cause = fatal_read(style, |_| magic.to_be_bytes().to_vec());
            assert_eq!(cause, ProtocolError::Magic(magic));
        }
    }
}

#[test]
fn r02_an_unknown_cookie_kills_the_connection() {
    for style in STYLES {
        for cookie in [0, 1, u64::MAX] {
            let cause = fatal_read(style, |head| {
                let head = RequestHead {
                    cookie: head.cookie ^ cookie.max(1) << 40,
                    ..*head
                };
                error(style, &head, Errno::EIO, "", DONE)
            });
            assert_matches!(cause, ProtocolError::UnknownCookie(_));
        }
    }
}

#[test]
fn r02_a_success_for_an_unknown_cookie_kills_the_connection() {
    for style in STYLES {
        let cause = fatal_read(style, |head| {
            let cookie = head.cookie.wrapping_add(1 << 33);
            success(style, &RequestHead { cookie, ..*head })
        });
        assert_matches!(cause, ProtocolError::UnknownCookie(_));
    }
}

#[test]
fn r03_a_second_reply_kills_the_connection_and_the_first_stands() {
    for style in STYLES {
        for taken in [false, true] {
            let mut wire = Wire::new(style);
            let (flush, head) = wire.ask(Command::FLUSH);
            wire.feed(&success(style, &head)).unwrap();
            if taken {
                assert_matches!(wire.answer(flush), Ok(Answer::Done));
            }
            let second = wire.feed(&error(style, &head, Errno::EIO, "", DONE));
            assert_eq!(second, Err(ProtocolError::UnknownCookie(head.cookie)));
            if !taken {
                assert_matches!(wire.answer(flush), Ok(Answer::Done));
            }
        }
    }
}

#[test]
fn r05_a_read_cut_off_in_its_payload_fails() {
    for cut in 0..16 + 512 {
        let mut wire = Wire::new(SIMPLE);
        let (cookie, head) = wire.ask_read(0, 512);
        let reply = data(SIMPLE, &head, 0, &[5; 512], DONE);
        wire.feed(&reply[..cut]).unwrap();
        assert!(wire.poll(cookie).is_pending(), "{cut}");
        wire.session.fail(&Error::eof(crate::error::Phase::Request));
        assert_matches!(wire.answer(cookie), Err(Error::Disconnected(..)));
    }
}

#[test]
fn r07_every_errno_fails_its_request_only_and_keeps_its_value() {
    for style in STYLES {
        for errno in [1, 5, 12, 22, 28, 75, 95, 99_999, u32::MAX] {
            for command in BARE.into_iter().chain([Command::READ]) {
                // P-154: with structured replies a read is failed by a chunk.
                let mut wire = Wire::new(style);
                let (cookie, head) = wire.ask(command);
                wire.feed(&error(style, &head, Errno(errno), "", DONE))
                    .unwrap();
                let error = wire.request_error(cookie);
                assert_eq!((error.errno, error.command()), (Errno(errno), command));
                wire.assert_usable();
            }
        }
    }
}

#[test]
fn r07_a_simple_error_fails_a_command_even_with_structured_replies() {
    for command in BARE {
        let mut wire = Wire::new(STRUCTURED);
        let (cookie, head) = wire.ask(command);
        wire.feed(&simple(&head, Errno::ENOSPC)).unwrap();
        assert_eq!(wire.request_error(cookie).errno, Errno::ENOSPC);
        wire.assert_usable();
    }
}

/// It was not sent, because the server is shutting down.
#[track_caller]
fn assert_shutting_down(error: &Error) {
    assert_matches!(error, Error::Disconnected(..));
    assert_eq!(error.to_string(), "the server is shutting down");
    assert_eq!(error.delivery(), Delivery::NotSent);
    assert_eq!(error.errno(), Some(108));
    assert!(error.is_retryable() && error.is_fatal());
}

#[test]
fn r08_after_eshutdown_what_is_in_flight_finishes_and_disc_follows() {
    for style in STYLES {
        let mut wire = Wire::bounded(style, 2, u64::MAX);
        let first = wire.read(0, 4);
        let second = wire.read(8, 4);
        let mut ticket = None;
        assert!(wire.try_submit(read(0, 1), &mut ticket).is_pending());
        let heads: Vec<_> = wire.send().iter().map(|request| request.head).collect();
        wire.feed(&error(style, &heads[0], Errno::ESHUTDOWN, "", DONE))
            .unwrap();
        assert_eq!(wire.request_error(first).errno, Errno::ESHUTDOWN);
        // The first cause stands.
        wire.session.close();
        for ticket in [&mut ticket, &mut None] {
            match wire.try_submit(read(0, 1), ticket) {
                Poll::Ready(Err(error)) => assert_shutting_down(&error),
                other => panic!("{other:?}"),
            }
        }
        assert!(!wire.session.try_disconnect(), "one is in flight");
        wire.feed(&data(style, &heads[1], 8, b"last", DONE))
            .unwrap();
        assert_eq!(wire.data(second), b"last");
        assert!(wire.session.try_disconnect());
        let disc = wire.send().pop().unwrap().head;
        assert_eq!(disc.command, Command::DISC);
        assert_eq!((disc.offset, disc.length), (0, 0));
    }
}

#[test]
fn r08_eshutdown_after_a_close_of_this_side_changes_no_cause() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        let (cookie, head) = wire.ask(Command::FLUSH);
        wire.session.close();
        wire.feed(&error(style, &head, Errno::ESHUTDOWN, "", DONE))
            .unwrap();
        assert_eq!(wire.request_error(cookie).errno, Errno::ESHUTDOWN);
        let late = wire.try_submit(read(0, 1), &mut None);
        assert_matches!(late, Poll::Ready(Err(Error::Closed(_))));
    }
}

#[test]
fn r09_a_simple_reply_to_a_structured_read_kills_the_connection() {
    for errno in [Errno::OK, Errno::EIO] {
        let cause = fatal_read(STRUCTURED, |head| simple(head, errno));
        assert_eq!(cause, ProtocolError::SimpleReply(Command::READ));
    }
}

#[test]
fn r10_a_simple_success_of_a_block_status_kills_the_connection() {
    let cause = fatal(STRUCTURED, status::query, |head| simple(head, Errno::OK));
    assert_eq!(cause, ProtocolError::MissingStatus(1));
}

#[test]
fn r11_a_simple_reply_with_extended_headers_is_told_from_its_magic() {
    let magic = crate::wire::SIMPLE_REPLY_MAGIC;
    let cause = fatal_read(EXTENDED, |_| magic.to_be_bytes().to_vec());
    assert_eq!(cause, ProtocolError::Magic(magic));
}

#[test]
fn r12_a_chunk_that_was_not_agreed_is_told_from_its_magic() {
    for magic in [
        crate::wire::STRUCTURED_REPLY_MAGIC,
        crate::wire::EXTENDED_REPLY_MAGIC,
    ] {
        let cause = fatal_read(SIMPLE, |_| magic.to_be_bytes().to_vec());
        assert_eq!(cause, ProtocolError::Magic(magic));
    }
}

/// Sends 1000 reads of different lengths and gives the replies in another order.
fn shuffled(wire: &mut Wire) -> (Vec<(Cookie, Vec<u8>)>, Vec<u8>) {
    let style = wire.style;
    let mut cookies = Vec::new();
    for i in 0..1000u64 {
        let expected = vec![i as u8; 1 + (i * 7 % 61) as usize];
        cookies.push((wire.read(i * 64, expected.len() as u64), expected));
    }
    let heads: Vec<_> = wire.send().iter().map(|request| request.head).collect();
    let mut replies = Vec::new();
    for i in 0..1000 {
        // 387 and 1000 have no common divisor.
        let i = i * 387 % 1000;
        replies.extend(data(style, &heads[i], heads[i].offset, &cookies[i].1, DONE));
    }
    (cookies, replies)
}

#[test]
#[cfg_attr(miri, ignore = "too slow there")]
fn r13_r14_replies_in_any_order_and_any_pieces_are_matched() {
    for style in STYLES {
        for step in [usize::MAX, 1, 7, 1000] {
            let mut wire = Wire::new(style);
            wire.step = step;
            let (cookies, replies) = shuffled(&mut wire);
            wire.feed(&replies).unwrap();
            for (cookie, expected) in cookies {
                assert_eq!(wire.data(cookie), expected);
            }
            assert_eq!(wire.session.in_flight(), 0);
        }
    }
}

#[test]
fn r14_a_cut_anywhere_changes_nothing() {
    for style in STYLES {
        let mut whole = 0;
        for cut in 0.. {
            let mut wire = Wire::new(style);
            let (first, head) = wire.ask_read(512, 100);
            let (second, other) = wire.ask(Command::FLUSH);
            let mut replies = data(style, &head, 512, &[9; 100], DONE);
            replies.extend(success(style, &other));
            whole = replies.len();
            if cut > whole {
                break;
            }
            wire.feed(&replies[..cut]).unwrap();
            wire.feed(&replies[cut..]).unwrap();
            assert_eq!(wire.data(first), [9; 100]);
            assert_matches!(wire.answer(second), Ok(Answer::Done));
        }
        assert!(whole > 0);
    }
}

#[test]
fn r18_an_early_error_is_told_when_the_payload_is_written() {
    for style in STYLES {
        let (mut wire, cookie, head) = half_sent(style);
        wire.feed(&error(style, &head, Errno::EPERM, "", DONE))
            .unwrap();
        assert!(wire.poll(cookie).is_pending());
        assert!(wire.session.has_early());
        assert_eq!(wire.session.in_flight(), 1, "its slot stays taken");
        wire.session.set_written(wire.written + 99);
        assert!(wire.poll(cookie).is_pending());
        wire.session.set_written(wire.written + 100);
        assert_eq!(wire.request_error(cookie).errno, Errno::EPERM);
        assert_eq!(wire.session.in_flight(), 0);
    }
}

#[test]
fn r18_an_early_error_is_told_although_what_is_not_sent_is_given_up() {
    for style in STYLES {
        let (mut wire, cookie, head) = half_sent(style);
        let unsent = wire.command(Command::READ);
        wire.feed(&error(style, &head, Errno::EPERM, "", DONE))
            .unwrap();
        wire.session.close();
        wire.session.discard_unsent(&mut wire.taken);
        assert_matches!(wire.answer(unsent), Err(Error::Closed(_)));
        wire.session.set_written(wire.written + 100);
        assert_eq!(wire.request_error(cookie).errno, Errno::EPERM);
        assert!(wire.session.try_disconnect());
    }
}

#[test]
fn r18_an_early_error_stands_if_the_connection_then_dies() {
    for style in STYLES {
        let (mut wire, cookie, head) = half_sent(style);
        wire.feed(&error(style, &head, Errno::EPERM, "", DONE))
            .unwrap();
        wire.session.fail(&Error::timeout(
            crate::error::Phase::Request,
            std::time::Duration::from_secs(1),
        ));
        assert_eq!(wire.request_error(cookie).errno, Errno::EPERM);
    }
}

#[test]
fn r18_an_early_success_does_not_stand_if_the_connection_then_dies() {
    for style in STYLES {
        let (mut wire, cookie, head) = half_sent(style);
        wire.feed(&success(style, &head)).unwrap();
        wire.session.fail(&Error::timeout(
            crate::error::Phase::Request,
            std::time::Duration::from_secs(1),
        ));
        let lost = wire.answer(cookie).unwrap_err();
        assert_matches!(&lost, Error::Timeout(..));
        assert_eq!(lost.delivery(), Delivery::MaybeSent);
    }
}

#[test]
fn r18_a_second_reply_to_an_early_answered_request_kills_the_connection() {
    for style in STYLES {
        let (mut wire, _, head) = half_sent(style);
        let reply = error(style, &head, Errno::EPERM, "", DONE);
        wire.feed(&reply).unwrap();
        let second = wire.feed(&reply);
        assert_eq!(second, Err(ProtocolError::UnknownCookie(head.cookie)));
    }
}

/// A write of 100 bytes of which the server has nothing but the header.
fn half_sent(style: ReplyStyle) -> (Wire, Cookie, RequestHead) {
    let mut wire = Wire::new(style);
    let cookie = wire.write(0, &[1; 100]);
    wire.write_out(encoded_length(style));
    let head = RequestHead {
        cookie: cookie.0,
        ..head_of(Command::WRITE)
    };
    (wire, cookie, head)
}

fn encoded_length(style: ReplyStyle) -> usize {
    crate::wire::request::header_length(style == EXTENDED)
}

fn head_of(command: Command) -> RequestHead {
    RequestHead {
        flags: CommandFlags::empty(),
        command,
        cookie: 0,
        offset: 0,
        length: 100,
    }
}
