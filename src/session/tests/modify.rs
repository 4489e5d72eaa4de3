//! Changes of parts of blocks.

use super::*;
use crate::error::ErrorKind;

/// The length of a block.
pub(super) const BLOCK: u64 = 512;

/// The change of a part of the block that begins at `block`.
pub(super) fn modify(style: ReplyStyle, block: u64, position: usize, data: &[u8]) -> Submission {
    Submission {
        sink: Sink::Modify(Box::new(Modify {
            read: Assembly::new(block, BLOCK, BytesMut::new()),
            position,
            data: Bytes::copy_from_slice(data),
            flags: write(style, 0, data).flags | CommandFlags::FUA,
        })),
        ..bare(Command::READ, block, BLOCK)
    }
}

/// Begins to change a part of the first block, and takes the read.
fn begin(wire: &mut Wire) -> (Cookie, RequestHead) {
    let cookie = wire.submit(modify(wire.style, 0, 4, b"new"));
    let head = wire.send().pop().unwrap().head;
    assert_eq!(
        (head.command, head.offset, head.length),
        (Command::READ, 0, BLOCK)
    );
    (cookie, head)
}

/// Answers the read of the block with ones.
fn ones(wire: &mut Wire, head: &RequestHead) {
    let reply = data(wire.style, head, 0, &[1; BLOCK as usize], DONE);
    wire.feed(&reply).unwrap();
}

#[test]
fn a_block_is_read_changed_and_written() {
    for style in STYLES {
        for step in [usize::MAX, 1] {
            let mut wire = Wire::new(style);
            wire.step = step;
            let (cookie, read) = begin(&mut wire);
            ones(&mut wire, &read);
            assert!(wire.poll(cookie).is_pending());
            let request = wire.send().pop().unwrap();
            let head = request.head;
            assert_eq!(
                (head.command, head.offset, head.length),
                (Command::WRITE, 0, BLOCK)
            );
            let announces = head.flags.contains(CommandFlags::PAYLOAD_LEN);
            assert_eq!(announces, style == EXTENDED);
            assert!(head.flags.contains(CommandFlags::FUA));
            assert_eq!(&request.payload[..9], b"\x01\x01\x01\x01new\x01\x01");
            assert_eq!(request.payload.len(), BLOCK as usize);
            assert_ne!(head.cookie, read.cookie);
            assert_eq!(wire.session.in_flight(), 1);
            let done = success(style, &head);
            wire.feed(&done).unwrap();
            assert_matches!(wire.answer(cookie), Ok(Answer::Done));
            assert_eq!(wire.session.expected(), 0);
            wire.assert_usable();
        }
    }
}

#[test]
fn a_second_answer_to_the_read_does_not_answer_the_write() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let (_, read) = begin(&mut wire);
        ones(&mut wire, &read);
        wire.send();
        let again = wire.feed(&none(style, &read));
        assert_matches!(again, Err(ProtocolError::UnknownCookie(_)));
    }
}

#[test]
fn a_read_that_fails_is_the_end_and_lets_others_go_on() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        let (cookie, read) = begin(&mut wire);
        let mut ticket = None;
        let next = write(style, 0, &[2; BLOCK as usize]);
        assert!(wire.try_submit(next, &mut ticket).is_pending());
        wire.feed(&error(style, &read, Errno::EIO, "", DONE))
            .unwrap();
        let failure = wire.request_error(cookie);
        assert_eq!(
            (failure.command(), failure.errno),
            (Command::READ, Errno::EIO)
        );
        let written = wire.send().pop().unwrap().head;
        assert_eq!(written.command, Command::WRITE);
        assert!(!wire.session.has_unflushed());
    }
}

#[test]
fn changes_of_the_block_wait_until_it_is_written() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        let (cookie, read) = begin(&mut wire);
        let (mut a, mut b) = (None, None);
        let all = write(style, 0, &[2; 2 * BLOCK as usize]);
        assert!(wire.try_submit(all, &mut a).is_pending());
        assert!(
            wire.try_submit(modify(style, 0, 0, b"x"), &mut b)
                .is_pending()
        );
        // What is beside it does not wait, nor do reads.
        wire.submit(modify(style, BLOCK, 0, b"y"));
        wire.read(0, BLOCK);
        assert_eq!(wire.send().len(), 2);
        ones(&mut wire, &read);
        let head = wire.send().pop().unwrap().head;
        assert!(wire.send().is_empty());
        wire.feed(&success(style, &head)).unwrap();
        assert_matches!(wire.answer(cookie), Ok(Answer::Done));
        // The write of two blocks still waits for the change of the second one, but the change of the
        // first does not wait for it.
        let sent = wire.send();
        assert_eq!(sent.len(), 1);
        assert_eq!(
            (sent[0].head.command, sent[0].head.offset),
            (Command::READ, 0)
        );
    }
}

#[test]
fn it_waits_for_changes_that_are_in_flight() {
    for style in STYLES {
        for abandons in [false, true] {
            let mut wire = Wire::new(style);
            let (cookie, head) = wire.ask(Command::WRITE);
            let beside = wire.submit(write(style, BLOCK, &[3; 16]));
            wire.send();
            if abandons {
                wire.session.abandon(cookie);
            }
            let mut ticket = None;
            let change = modify(style, 0, 0, b"x");
            assert!(wire.try_submit(change, &mut ticket).is_pending());
            assert!(wire.send().is_empty());
            wire.feed(&success(style, &head)).unwrap();
            assert_eq!(wire.send().pop().unwrap().head.command, Command::READ);
            assert!(wire.poll(beside).is_pending());
        }
    }
}

/// Submits a change of the first block that must wait, and returns its ticket.
fn wait(wire: &mut Wire, change: Submission) -> Option<u64> {
    let mut ticket = None;
    assert!(wire.try_submit(change, &mut ticket).is_pending());
    ticket
}

#[test]
fn it_has_its_turn_although_changes_of_the_block_never_end() {
    for style in STYLES {
        for ends in 0..3 {
            let mut wire = Wire::new(style);
            let whole = || write(style, 0, &[2; BLOCK as usize]);
            let (_, first) = wire.ask(Command::WRITE);
            let (_, second) = wire.ask(Command::WRITE);
            let ticket = wait(&mut wire, modify(style, 0, 0, b"x"));
            wait(&mut wire, whole());
            wire.feed(&success(style, &first)).unwrap();
            assert!(wire.send().is_empty(), "it is overtaken");
            wait(&mut wire, whole());
            wait(&mut wire, bare(Command::FLUSH, 0, 0));
            if ends == 0 {
                // Given up while it waits.
                wire.give_up(ticket);
                assert_eq!(wire.send().len(), 2);
                continue;
            }
            wire.feed(&success(style, &second)).unwrap();
            let sent = wire.send();
            assert_eq!(sent.len(), 1);
            let read = sent[0].head;
            assert_eq!(read.command, Command::READ);
            if ends == 1 {
                // Given up while it is read.
                wire.give_up(ticket);
            } else {
                ones(&mut wire, &read);
                let head = wire.send().pop().unwrap().head;
                wire.feed(&success(style, &head)).unwrap();
            }
            let sent = wire.send();
            assert_eq!(sent.len(), 2, "both writes have waited for it");
            for request in sent {
                wire.feed(&success(style, &request.head)).unwrap();
            }
            assert_eq!(wire.send().pop().unwrap().head.command, Command::FLUSH);
        }
    }
}

#[test]
fn given_up_while_it_is_read_it_is_not_written_and_nobody_waits_any_more() {
    for style in STYLES {
        for early in [false, true] {
            let mut wire = Wire::new(style);
            let (cookie, read) = begin(&mut wire);
            let (mut a, mut b) = (None, None);
            let next = write(style, 0, &[2; BLOCK as usize]);
            assert!(wire.try_submit(next, &mut a).is_pending());
            let flush = bare(Command::FLUSH, 0, 0);
            assert!(wire.try_submit(flush, &mut b).is_pending());
            if early {
                wire.give_up(a);
            }
            wire.session.abandon(cookie);
            let sent: Vec<_> = wire.send().iter().map(|r| r.head.command).collect();
            match early {
                // The flush was held by the write that was given up, and by the change.
                true => assert_eq!(sent, [Command::FLUSH]),
                false => assert_eq!(sent, [Command::WRITE]),
            }
            ones(&mut wire, &read);
            assert!(wire.send().is_empty());
        }
    }
}

#[test]
fn given_up_after_an_answer_that_came_early_it_is_not_written() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        let cookie = wire.submit(modify(style, 0, 4, b"new"));
        wire.write_out(10);
        let head = RequestHead {
            flags: CommandFlags::empty(),
            command: Command::READ,
            cookie: cookie.0,
            offset: 0,
            length: BLOCK,
        };
        ones(&mut wire, &head);
        wire.session.abandon(cookie);
        wire.session.set_written(1 << 20);
        assert!(!wire.session.has_output());
        assert_eq!(wire.session.in_flight(), 0);
    }
}

#[test]
fn given_up_while_it_waits_it_holds_up_nobody() {
    let style = STRUCTURED;
    let mut wire = Wire::new(style);
    let (_, head) = wire.ask(Command::WRITE);
    let (mut a, mut b, mut c) = (None, None, None);
    assert!(
        wire.try_submit(modify(style, 0, 0, b"x"), &mut a)
            .is_pending()
    );
    // It came after the change of the block, so it waits although it does not overlap a change in
    // flight that is abandoned.
    let next = write(style, 0, &[2; 16]);
    assert!(wire.try_submit(next, &mut b).is_pending());
    assert!(
        wire.try_submit(modify(style, 0, 1, b"y"), &mut c)
            .is_pending()
    );
    wire.give_up(a);
    assert_eq!(wire.send().pop().unwrap().head.command, Command::WRITE);
    wire.give_up(b);
    assert!(wire.send().is_empty(), "the first write is in flight");
    wire.feed(&success(style, &head)).unwrap();
    assert!(wire.send().is_empty(), "so is the second one");
}

#[test]
fn given_up_while_it_is_written_it_holds_up_later_changes() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        let (cookie, read) = begin(&mut wire);
        ones(&mut wire, &read);
        let head = wire.send().pop().unwrap().head;
        wire.session.abandon(cookie);
        let mut ticket = None;
        let next = write(style, 0, &[2; BLOCK as usize]);
        assert!(wire.try_submit(next, &mut ticket).is_pending());
        wire.feed(&success(style, &head)).unwrap();
        assert_eq!(wire.send().len(), 1);
        let mut change = None;
        let again = modify(style, 0, 0, b"x");
        assert!(wire.try_submit(again, &mut change).is_pending());
    }
}

#[test]
fn after_eshutdown_nothing_is_written_but_after_close_it_is() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        let (cookie, read) = begin(&mut wire);
        let (_, other) = wire.ask_read(1 << 20, 4);
        wire.feed(&error(style, &other, Errno::ESHUTDOWN, "", DONE))
            .unwrap();
        ones(&mut wire, &read);
        assert!(wire.send().is_empty());
        let refused = wire.answer(cookie).unwrap_err();
        assert!(refused.is_retryable(), "{refused}");
        assert_eq!(refused.delivery(), Delivery::NotSent);

        let mut wire = Wire::new(style);
        let (cookie, read) = begin(&mut wire);
        wire.session.close();
        assert!(!wire.session.try_disconnect());
        ones(&mut wire, &read);
        let head = wire.send().pop().unwrap().head;
        assert!(!wire.session.try_disconnect());
        wire.feed(&success(style, &head)).unwrap();
        assert_matches!(wire.answer(cookie), Ok(Answer::Done));
        assert!(wire.session.try_disconnect());

        // Nothing follows DISC.
        let mut wire = Wire::new(style);
        let (cookie, read) = begin(&mut wire);
        wire.session.disconnect_now();
        assert_eq!(wire.send().len(), 1);
        ones(&mut wire, &read);
        assert!(wire.send().is_empty());
        let closed = wire.answer(cookie).unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::Closed);
    }
}

#[test]
fn a_failure_ends_it_in_either_half() {
    for style in STYLES {
        for is_read in [false, true] {
            let mut wire = Wire::new(style);
            let (cookie, read) = begin(&mut wire);
            if is_read {
                ones(&mut wire, &read);
                wire.send();
            }
            wire.session.fail(&Error::closed());
            assert_matches!(wire.answer(cookie), Err(Error::Closed(_)));
            assert_eq!(wire.session.in_flight(), 0);
        }
    }
}

#[test]
fn a_guessed_answer_to_the_write_kills_the_connection() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        let (_, read) = begin(&mut wire);
        ones(&mut wire, &read);
        let next = RequestHead {
            cookie: read.cookie.wrapping_add(1 << 32),
            ..read
        };
        let mut copy = Wire::new(style);
        let (_, read) = begin(&mut copy);
        ones(&mut copy, &read);
        let real = copy.send().pop().unwrap().head;
        assert_eq!(real.cookie, next.cookie, "the guess is right");
        let guessed = wire.feed(&success(style, &next));
        assert_matches!(guessed, Err(ProtocolError::UnknownCookie(_)));
    }
}
