//! Requests that nobody waits for any more.

use super::*;

#[test]
fn r16_the_reply_to_an_abandoned_read_is_drained_wherever_it_is_abandoned() {
    for style in STYLES {
        let length = 40_000;
        let cuts = (0..64).chain((64..40_000).step_by(1009)).chain([40_016]);
        for cut in cuts {
            let mut wire = Wire::new(style);
            let (cookie, head) = wire.ask_read(0, length);
            let (next, other) = wire.ask_read(8, 4);
            let bytes = data(style, &head, 0, &vec![1; length as usize], DONE);
            wire.feed(&bytes[..cut]).unwrap();
            wire.session.abandon(cookie);
            // Not all at once, or it would be dropped without having been waited for.
            wire.step = 7_000;
            wire.feed(&bytes[cut..]).unwrap();
            assert_eq!(wire.session.in_flight(), 1, "it is over with its last byte");
            wire.feed(&data(style, &other, 8, b"next", DONE)).unwrap();
            assert_eq!(wire.data(next), b"next", "abandoned after {cut} bytes");
            assert_eq!(wire.session.in_flight(), 0);
        }
    }
}

#[test]
fn r16_no_buffer_is_taken_for_an_abandoned_read() {
    for style in STYLES {
        for abandons in [false, true] {
            let mut wire = Wire::new(style);
            let (cookie, head) = wire.ask_read(0, 1 << 20);
            if abandons {
                wire.session.abandon(cookie);
            }
            let bytes = data(style, &head, 0, &vec![1; 1 << 20], DONE);
            wire.feed(&bytes[..1000]).unwrap();
            assert_eq!(wire.bulk.is_none(), abandons);
        }
    }
}

#[test]
fn r16_the_reply_to_an_abandoned_request_is_still_checked() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let (cookie, head) = wire.ask_read(0, 512);
        wire.session.abandon(cookie);
        let outside = wire.feed(&data(style, &head, 512, &[0], DONE));
        assert_matches!(outside, Err(ProtocolError::OutOfRange { .. }));
    }
}

#[test]
fn an_abandoned_read_needs_every_byte_too() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let (cookie, head) = wire.ask_read(0, 512);
        wire.session.abandon(cookie);
        let half = wire.feed(&hole(style, &head, 0, 256, DONE));
        assert_matches!(half, Err(ProtocolError::IncompleteRead { .. }));
    }
}

#[test]
fn a_cookie_is_not_used_again_before_its_reply_has_come() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        let mut cookies = std::collections::HashSet::new();
        for _ in 0..100 {
            let (cookie, head) = wire.ask(Command::FLUSH);
            assert!(cookies.insert(head.cookie));
            assert_ne!(head.cookie, 0);
            wire.session.abandon(cookie);
        }
        assert_eq!(wire.session.in_flight(), 100, "each keeps its slot");
        for cookie in cookies {
            let head = RequestHead {
                flags: CommandFlags::empty(),
                command: Command::FLUSH,
                cookie,
                offset: 0,
                length: 0,
            };
            // An extended reply names the offset of its request.
            wire.feed(&success(style, &head)).unwrap();
        }
        assert_eq!(wire.session.in_flight(), 0);
    }
}

#[test]
fn k32_a_late_second_reply_never_meets_a_newer_request() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        let (old, old_head) = wire.ask(Command::FLUSH);
        wire.feed(&success(style, &old_head)).unwrap();
        assert!(wire.answer(old).is_ok());
        // It gets the same slot in the table.
        let (new, _) = wire.ask(Command::FLUSH);
        let late = wire.feed(&success(style, &old_head));
        assert_eq!(late, Err(ProtocolError::UnknownCookie(old_head.cookie)));
        assert_matches!(wire.answer(new), Err(Error::Protocol(..)));
    }
}

#[test]
fn an_answer_that_nobody_took_is_dropped_with_its_request() {
    let mut wire = Wire::new(SIMPLE);
    let (cookie, head) = wire.ask(Command::FLUSH);
    wire.feed(&success(SIMPLE, &head)).unwrap();
    wire.session.abandon(cookie);
    assert_matches!(wire.answer(cookie), Err(Error::Closed(_)));
}

/// Everything that changes 4096..8192, or a part of it.
/// Some overlap, some only meet.
fn overlapping(style: ReplyStyle) -> [Submission; 5] {
    [
        write(style, 4096, &[2; 4096]),
        write(style, 8191, &[2]),
        write(style, 8192, &[2]),
        bare(Command::TRIM, 0, 4097),
        bare(Command::WRITE_ZEROES, 0, 1 << 20),
    ]
}

#[test]
fn k04_an_overlapping_change_waits_for_an_abandoned_one() {
    for style in STYLES {
        for first in overlapping(style) {
            for second in overlapping(style) {
                let mut wire = Wire::new(style);
                let overlaps = first.offset < second.offset + second.length
                    && second.offset < first.offset + first.length;
                let first = Submission {
                    payload: first.payload.clone(),
                    sink: Sink::None,
                    ..first
                };
                let cookie = wire.submit(first);
                let head = wire.send().pop().unwrap().head;
                wire.session.abandon(cookie);
                let mut second = Some(second);
                let mut ticket = None;
                let mut submit = |wire: &mut Wire| {
                    wire.session
                        .poll_submit(&mut second, &mut ticket, Waker::noop())
                };
                if !overlaps {
                    assert!(submit(&mut wire).is_ready());
                    continue;
                }
                assert!(submit(&mut wire).is_pending());
                assert!(!wire.session.has_output());
                wire.feed(&success(style, &head)).unwrap();
                assert_matches!(submit(&mut wire), Poll::Ready(Ok(_)));
            }
        }
    }
}

#[test]
fn k04_a_blocked_write_is_sent_when_the_abandoned_write_fails() {
    let mut wire = Wire::new(SIMPLE);
    let (cookie, head) = wire.ask(Command::WRITE);
    wire.session.abandon(cookie);
    let (mut second, mut ticket) = (Some(write(SIMPLE, 0, &[1])), None);
    let mut submit = |wire: &mut Wire| {
        wire.session
            .poll_submit(&mut second, &mut ticket, Waker::noop())
    };
    assert!(submit(&mut wire).is_pending());
    wire.feed(&simple(&head, Errno::EIO)).unwrap();
    assert_matches!(submit(&mut wire), Poll::Ready(Ok(_)));
}

#[test]
fn k04_an_abandoned_write_that_was_answered_early_blocks_others_until_it_is_written() {
    let mut wire = Wire::new(SIMPLE);
    let cookie = wire.write(0, &[1; 100]);
    wire.write_out(28);
    let head = RequestHead {
        flags: CommandFlags::empty(),
        command: Command::WRITE,
        cookie: cookie.0,
        offset: 0,
        length: 100,
    };
    wire.feed(&simple(&head, Errno::EIO)).unwrap();
    wire.session.abandon(cookie);
    let (mut second, mut ticket) = (Some(write(SIMPLE, 0, &[1])), None);
    let mut submit = |wire: &mut Wire| {
        wire.session
            .poll_submit(&mut second, &mut ticket, Waker::noop())
    };
    assert!(submit(&mut wire).is_pending());
    wire.session.set_written(128);
    assert_matches!(submit(&mut wire), Poll::Ready(Ok(_)));
}

#[test]
fn k04_what_does_not_overlap_passes_a_waiting_change() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        let (cookie, _) = wire.ask(Command::WRITE);
        wire.session.abandon(cookie);
        let mut blocked = None;
        let waits = wire.try_submit(write(style, 0, &[1]), &mut blocked);
        assert!(waits.is_pending());
        // There is room, so nothing keeps these from going at once.
        for free in [
            read(0, 512),
            write(style, 512, &[1]),
            bare(Command::CACHE, 0, 512),
        ] {
            let mut ticket = None;
            assert!(wire.try_submit(free, &mut ticket).is_ready());
        }
    }
}

#[test]
fn k04_a_waiting_change_that_has_no_room_either_holds_nobody_up() {
    let mut wire = Wire::bounded(SIMPLE, 3, 1000);
    let (abandoned, _) = wire.ask(Command::WRITE);
    wire.session.abandon(abandoned);
    let (cache, head) = wire.ask(Command::CACHE);
    let fill = wire.submit(bare(Command::CACHE, 0, 512));
    let mut blocked = None;
    let waits = wire.try_submit(write(SIMPLE, 0, &[1; 900]), &mut blocked);
    assert!(waits.is_pending());
    let (mut free, mut ticket) = (Some(read(0, 400)), None);
    let mut submit = |wire: &mut Wire| {
        wire.session
            .poll_submit(&mut free, &mut ticket, Waker::noop())
    };
    assert!(submit(&mut wire).is_pending());
    wire.feed(&simple(&head, Errno::OK)).unwrap();
    assert!(wire.answer(cache).is_ok());
    assert!(submit(&mut wire).is_ready());
    assert!(wire.poll(fill).is_pending());
}

#[test]
fn k04_reads_are_not_blocked() {
    let mut wire = Wire::new(SIMPLE);
    let (cookie, _) = wire.ask(Command::WRITE);
    wire.session.abandon(cookie);
    wire.read(0, 512);
}

#[test]
fn k04_abandoned_reads_block_nothing() {
    let mut wire = Wire::new(SIMPLE);
    let (cookie, _) = wire.ask(Command::READ);
    wire.session.abandon(cookie);
    wire.write(0, &[1; 512]);
}
