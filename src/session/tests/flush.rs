//! Flushes, and the changes they wait for.

use super::*;

/// A flush that is polled when asked.
struct Flush {
    submission: Option<Submission>,
    ticket: Option<u64>,
}

impl Flush {
    fn new() -> Self {
        Self {
            submission: Some(bare(Command::FLUSH, 0, 0)),
            ticket: None,
        }
    }

    fn poll(&mut self, wire: &mut Wire) -> Poll<Cookie> {
        let session = &mut wire.session;
        session
            .poll_submit(&mut self.submission, &mut self.ticket, Waker::noop())
            .map(Result::unwrap)
    }

    /// A flush that has been polled and has to wait.
    #[track_caller]
    fn held(wire: &mut Wire) -> Self {
        let mut flush = Self::new();
        assert!(flush.poll(wire).is_pending());
        assert!(!wire.session.has_output());
        flush
    }
}

fn changes(style: ReplyStyle) -> [Submission; 3] {
    [
        write(style, 0, &[1; 512]),
        bare(Command::TRIM, 0, 512),
        bare(Command::WRITE_ZEROES, 0, 512),
    ]
}

/// Submits a change and sends it.
fn begin(wire: &mut Wire, change: Submission) -> (Cookie, RequestHead) {
    let cookie = wire.submit(change);
    (cookie, wire.send().pop().unwrap().head)
}

#[test]
fn a_flush_waits_for_every_kind_of_change_and_then_leaves_by_itself() {
    for style in STYLES {
        for change in changes(style) {
            let mut wire = Wire::new(style);
            let (_, head) = begin(&mut wire, change);
            let mut flush = Flush::held(&mut wire);
            wire.feed(&success(style, &head)).unwrap();
            // Nobody has polled it again.
            let sent = wire.send();
            assert_eq!(sent[0].head.command, Command::FLUSH);
            let Poll::Ready(cookie) = flush.poll(&mut wire) else {
                panic!("still held");
            };
            wire.feed(&success(style, &sent[0].head)).unwrap();
            assert!(wire.answer(cookie).is_ok());
        }
    }
}

#[test]
fn a_flush_waits_for_no_other_request() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        for other in [Command::READ, Command::CACHE, Command::FLUSH] {
            wire.ask(other);
        }
        let (_, head) = wire.ask(Command::WRITE);
        wire.feed(&success(style, &head)).unwrap();
        assert!(Flush::new().poll(&mut wire).is_ready());
    }
}

#[test]
fn a_flush_waits_for_changes_that_were_abandoned_and_for_those_that_fail() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        let (abandoned, first) = begin(&mut wire, write(style, 0, &[1; 512]));
        let (_, second) = begin(&mut wire, write(style, 512, &[1; 512]));
        wire.session.abandon(abandoned);
        let mut flush = Flush::held(&mut wire);
        wire.feed(&error(style, &second, Errno::EIO, "", DONE))
            .unwrap();
        assert!(flush.poll(&mut wire).is_pending());
        wire.feed(&success(style, &first)).unwrap();
        assert!(flush.poll(&mut wire).is_ready());
    }
}

#[test]
fn a_flush_does_not_starve_behind_later_changes_nor_hold_them_up() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        let (_, head) = begin(&mut wire, write(style, 0, &[1; 512]));
        let mut flush = Flush::held(&mut wire);
        // There is always a later one in flight.
        let mut later = Vec::new();
        for _ in 0..100 {
            later.push(begin(&mut wire, write(style, 0, &[2; 512])));
            if later.len() > 3 {
                let (cookie, head) = later.remove(0);
                wire.feed(&success(style, &head)).unwrap();
                assert!(wire.answer(cookie).is_ok());
            }
            assert!(flush.poll(&mut wire).is_pending());
        }
        wire.feed(&success(style, &head)).unwrap();
        assert!(flush.poll(&mut wire).is_ready());
        assert_eq!(later.len(), 3, "which it did not wait for");
    }
}

#[test]
fn a_flush_waits_for_changes_that_wait_for_room() {
    for style in STYLES {
        let mut wire = Wire::bounded(style, 1, u64::MAX);
        let (_, mut head) = wire.ask(Command::READ);
        let mut tickets = [None; 3];
        for ticket in &mut tickets {
            let waits = wire.try_submit(write(style, 0, &[1; 512]), ticket);
            assert!(waits.is_pending());
        }
        let mut flush = Flush::held(&mut wire);
        let later = write(style, 0, &[2; 512]);
        assert!(wire.try_submit(later, &mut None).is_pending());
        wire.feed(&error(style, &head, Errno::EIO, "", DONE))
            .unwrap();
        // One is given up, the others are sent one after the other.
        wire.give_up(tickets[1]);
        for _ in 0..2 {
            assert!(flush.poll(&mut wire).is_pending());
            let sent = wire.send();
            head = sent[0].head;
            assert_eq!((sent.len(), head.command), (1, Command::WRITE));
            wire.feed(&success(style, &head)).unwrap();
        }
        assert_eq!(wire.send()[0].head.command, Command::FLUSH);
        assert!(flush.poll(&mut wire).is_ready(), "before what came later");
    }
}

#[test]
fn k04_a_flush_waits_for_changes_that_wait_for_abandoned_ones() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        let (abandoned, old) = begin(&mut wire, write(style, 0, &[1; 512]));
        wire.session.abandon(abandoned);
        let mut blocked = None;
        let waits = wire.try_submit(write(style, 0, &[2; 512]), &mut blocked);
        assert!(waits.is_pending());
        let mut flush = Flush::held(&mut wire);
        wire.feed(&success(style, &old)).unwrap();
        assert!(flush.poll(&mut wire).is_pending());
        let newer = wire.send().pop().unwrap().head;
        assert_eq!(newer.command, Command::WRITE);
        wire.feed(&success(style, &newer)).unwrap();
        assert!(flush.poll(&mut wire).is_ready());
    }
}

#[test]
fn a_change_that_gives_up_its_place_lets_the_flush_go() {
    let mut wire = Wire::bounded(SIMPLE, 2, 512);
    wire.ask(Command::READ);
    let mut ticket = None;
    let waits = wire.try_submit(write(SIMPLE, 0, &[1; 512]), &mut ticket);
    assert!(waits.is_pending());
    let mut flush = Flush::held(&mut wire);
    wire.give_up(ticket);
    assert!(flush.poll(&mut wire).is_ready());
}

#[test]
fn a_flush_dropped_while_it_waits_is_never_sent() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        let (cookie, head) = begin(&mut wire, write(style, 0, &[1; 512]));
        let dropped = Flush::held(&mut wire);
        let mut other = Flush::held(&mut wire);
        wire.give_up(dropped.ticket);
        wire.feed(&success(style, &head)).unwrap();
        assert_eq!(wire.send().len(), 1);
        assert!(other.poll(&mut wire).is_ready());
        assert!(wire.answer(cookie).is_ok());
        assert_eq!(wire.session.in_flight(), 1);
    }
}

#[test]
fn a_flush_that_waits_ends_with_the_connection() {
    for is_orderly in [true, false] {
        let mut wire = Wire::new(SIMPLE);
        begin(&mut wire, write(SIMPLE, 0, &[1; 512]));
        let mut flush = Flush::held(&mut wire);
        if is_orderly {
            wire.session.close();
        } else {
            wire.session.fail(&Error::eof(crate::error::Phase::Request));
        }
        let session = &mut wire.session;
        let late = session.poll_submit(&mut flush.submission, &mut flush.ticket, Waker::noop());
        assert_matches!(late, Poll::Ready(Err(e)) if e.delivery() == Delivery::NotSent);
        assert!(wire.send().is_empty());
    }
}

/// Answers one request of the command, with success or not.
fn answered(wire: &mut Wire, submission: Submission, errno: Errno) -> Result<Answer, Error> {
    let (cookie, head) = begin(wire, submission);
    let reply = match errno {
        Errno::OK => success(wire.style, &head),
        errno => error(wire.style, &head, errno, "", DONE),
    };
    wire.feed(&reply).unwrap();
    wire.answer(cookie)
}

#[test]
fn what_was_acknowledged_is_unflushed_until_a_flush_or_fua_has_covered_it() {
    for style in STYLES {
        for change in 0..3 {
            let mut wire = Wire::new(style);
            let change = |flags| {
                let mut change = changes(style).into_iter().nth(change).unwrap();
                change.flags |= flags;
                change
            };
            let none = CommandFlags::empty();
            answered(&mut wire, bare(Command::CACHE, 0, 512), Errno::OK).unwrap();
            answered(&mut wire, change(none), Errno::EIO).unwrap_err();
            answered(&mut wire, change(CommandFlags::FUA), Errno::OK).unwrap();
            assert!(!wire.session.has_unflushed());
            answered(&mut wire, change(none), Errno::OK).unwrap();
            assert!(wire.session.has_unflushed());
            // What is acknowledged while the flush is on its way is not covered.
            let (_, flush) = begin(&mut wire, bare(Command::FLUSH, 0, 0));
            answered(&mut wire, change(none), Errno::OK).unwrap();
            wire.feed(&success(style, &flush)).unwrap();
            assert!(wire.session.has_unflushed());
            answered(&mut wire, bare(Command::FLUSH, 0, 0), Errno::OK).unwrap();
            assert!(!wire.session.has_unflushed());
        }
    }
}

#[test]
fn after_a_flush_that_failed_no_other_succeeds_until_it_is_forgiven() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        let flush = || bare(Command::FLUSH, 0, 0);
        answered(&mut wire, write(style, 0, &[1; 512]), Errno::OK).unwrap();
        answered(&mut wire, flush(), Errno::EIO).unwrap_err();
        let late = answered(&mut wire, flush(), Errno::OK);
        assert_matches!(late, Err(Error::DurabilityUnknown(cause)) if cause.errno() == Errno::EIO);
        wire.session.clear_flush_error();
        answered(&mut wire, flush(), Errno::OK).unwrap();
    }
}

#[test]
fn settled_does_not_wait_for_changes_that_were_turned_away() {
    for style in STYLES {
        let mut wire = Wire::bounded(style, 1, u64::MAX);
        let (first, head) = wire.ask(Command::WRITE);
        let mut ticket = None;
        let waits = wire.try_submit(write(style, 4096, &[1; 512]), &mut ticket);
        assert!(waits.is_pending());
        let mut place = None;
        let settled = |wire: &mut Wire, place: &mut Option<Place>| {
            wire.session.poll_settled(place, Waker::noop())
        };
        assert!(settled(&mut wire, &mut place).is_pending());
        wire.session.close();
        wire.give_up(ticket);
        assert!(settled(&mut wire, &mut place).is_pending());
        wire.feed(&success(style, &head)).unwrap();
        assert_matches!(wire.answer(first), Ok(Answer::Done));
        assert_matches!(settled(&mut wire, &mut place), Poll::Ready(Ok(())));
    }
}
