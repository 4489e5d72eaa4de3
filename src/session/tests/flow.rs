//! Room, ends, and what is known about a request then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;
use crate::error::Phase;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn wake_all(session: &mut Session) {
    let mut woken = Vec::new();
    session.take_woken(&mut woken);
    woken.into_iter().for_each(Waker::wake);
}

#[test]
fn w01_requests_beyond_the_bound_wait_in_order() {
    for style in STYLES {
        let mut wire = Wire::bounded(style, 2, u64::MAX);
        let first = wire.read(0, 4);
        wire.read(0, 4);
        let heads: Vec<_> = wire.send().iter().map(|request| request.head).collect();
        let (mut third, mut third_place) = (Some(read(0, 4)), None);
        let (mut fourth, mut fourth_place) = (Some(read(0, 4)), None);
        let waker = Waker::noop();
        let session = &mut wire.session;
        assert!(
            session
                .poll_submit(&mut third, &mut third_place, waker)
                .is_pending()
        );
        assert!(
            session
                .poll_submit(&mut fourth, &mut fourth_place, waker)
                .is_pending()
        );
        assert!(!wire.session.has_output());
        wire.feed(&data(style, &heads[0], 0, b"data", DONE))
            .unwrap();
        assert!(wire.answer(first).is_ok());
        let session = &mut wire.session;
        let fourth = session.poll_submit(&mut fourth, &mut fourth_place, waker);
        assert!(fourth.is_pending(), "the third was first");
        let third = session.poll_submit(&mut third, &mut third_place, waker);
        assert!(third.is_ready());
    }
}

#[test]
fn payload_in_flight_is_bounded_in_both_directions() {
    let mut wire = Wire::bounded(SIMPLE, 1024, 1000);
    wire.read(0, 600);
    let mut ticket = None;
    assert!(
        wire.try_submit(write(SIMPLE, 0, &[0; 600]), &mut ticket)
            .is_pending()
    );
    // What has no payload is not held up by bytes, but by its turn.
    let mut ticket = None;
    assert!(
        wire.try_submit(bare(Command::FLUSH, 0, 0), &mut ticket)
            .is_pending()
    );
}

#[test]
fn who_waits_for_room_is_woken_when_there_is_some() {
    let mut wire = Wire::bounded(SIMPLE, 1, u64::MAX);
    let (cookie, head) = wire.ask(Command::FLUSH);
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let (mut next, mut ticket) = (Some(read(0, 4)), None);
    let waits = wire.session.poll_submit(&mut next, &mut ticket, &waker);
    assert!(waits.is_pending());
    wire.feed(&success(SIMPLE, &head)).unwrap();
    wake_all(&mut wire.session);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(wire.answer(cookie).is_ok());
}

// A future may move to another task between two polls.
#[test]
fn whoever_polled_last_is_woken() {
    let counts = [Arc::new(Count::default()), Arc::new(Count::default())];
    let wakers = counts.clone().map(Waker::from);
    let assert_woken = |wire: &mut Wire| {
        wake_all(&mut wire.session);
        let woken = counts
            .each_ref()
            .map(|count| count.0.swap(0, Ordering::SeqCst));
        assert_eq!(woken, [0, 1]);
    };
    // There is no room; or a change has to be answered first.
    for (before, then) in [
        (Command::FLUSH, Command::CACHE),
        (Command::WRITE, Command::FLUSH),
    ] {
        let mut wire = Wire::bounded(SIMPLE, 1, u64::MAX);
        let (_, head) = wire.ask(before);
        let (mut next, mut ticket) = (Some(bare(then, 0, 0)), None);
        for waker in &wakers {
            let waits = wire.session.poll_submit(&mut next, &mut ticket, waker);
            assert!(waits.is_pending());
        }
        wire.feed(&success(SIMPLE, &head)).unwrap();
        assert_woken(&mut wire);
    }
    let mut wire = Wire::new(SIMPLE);
    let (cookie, head) = wire.ask(Command::FLUSH);
    for waker in &wakers {
        assert!(wire.session.poll_answer(cookie, waker).is_pending());
    }
    wire.feed(&success(SIMPLE, &head)).unwrap();
    assert_woken(&mut wire);
}

#[test]
fn who_has_its_turn_is_sent_whether_or_not_its_caller_looks() {
    for style in STYLES {
        let mut wire = Wire::bounded(style, 1, u64::MAX);
        let (_, head) = wire.ask(Command::FLUSH);
        let mut tickets = [None, None, None];
        for ticket in &mut tickets {
            assert!(wire.try_submit(read(0, 4), ticket).is_pending());
        }
        let [first, second, third] = tickets;
        // One answer after the other, and nobody has looked yet.
        wire.feed(&success(style, &head)).unwrap();
        for answer in [b"old1", b"old2"] {
            let sent = wire.send();
            assert_eq!(sent.len(), 1);
            let head = sent[0].head;
            wire.feed(&data(style, &head, 0, answer, DONE)).unwrap();
        }
        let mut ticket = first;
        let sent = wire
            .session
            .poll_submit(&mut None, &mut ticket, Waker::noop());
        let Poll::Ready(Ok(cookie)) = sent else {
            panic!("not sent: {sent:?}");
        };
        assert_eq!((ticket, &wire.data(cookie)[..]), (None, &b"old1"[..]));
        // It is too late to give up what was sent, but it can be abandoned.
        wire.give_up(second);
        wire.give_up(third);
        let head = wire.send().pop().unwrap().head;
        wire.feed(&data(style, &head, 0, b"data", DONE)).unwrap();
        wire.assert_usable();
    }
}

#[test]
fn who_had_its_turn_when_the_session_ended_learns_what_became_of_the_request() {
    for (written, delivery) in [(0, Delivery::NotSent), (9, Delivery::MaybeSent)] {
        let mut wire = Wire::bounded(SIMPLE, 1, u64::MAX);
        let (_, head) = wire.ask(Command::FLUSH);
        let (mut granted, mut waiting) = (None, None);
        assert!(wire.try_submit(read(0, 4), &mut granted).is_pending());
        assert!(wire.try_submit(read(0, 4), &mut waiting).is_pending());
        wire.feed(&success(SIMPLE, &head)).unwrap();
        wire.write_out(written);
        wire.session.fail(&Error::eof(Phase::Request));
        let mut poll =
            |ticket: &mut Option<u64>| wire.session.poll_submit(&mut None, ticket, Waker::noop());
        let late = poll(&mut waiting);
        assert_matches!(late, Poll::Ready(Err(e)) if e.delivery() == Delivery::NotSent);
        let Poll::Ready(Ok(cookie)) = poll(&mut granted) else {
            panic!("it was let go");
        };
        assert_eq!(wire.answer(cookie).unwrap_err().delivery(), delivery);
        assert_eq!(wire.session.in_flight(), 0);
    }
}

#[test]
fn nothing_is_let_go_after_goodbye() {
    let mut wire = Wire::bounded(SIMPLE, 1, u64::MAX);
    let (_, head) = wire.ask(Command::FLUSH);
    assert!(wire.try_submit(read(0, 4), &mut None).is_pending());
    wire.session.disconnect_now();
    assert_eq!(wire.send().len(), 1);
    wire.feed(&success(SIMPLE, &head)).unwrap();
    assert!(!wire.session.has_output());
}

#[test]
fn a_caller_is_woken_when_its_answer_is_there_and_not_before() {
    for style in CHUNKED {
        let mut wire = Wire::new(style);
        let (cookie, head) = wire.ask_read(0, 4);
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        assert!(wire.session.poll_answer(cookie, &waker).is_pending());
        wire.feed(&data(style, &head, 0, b"da", MORE)).unwrap();
        wake_all(&mut wire.session);
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        wire.feed(&data(style, &head, 2, b"ta", DONE)).unwrap();
        wake_all(&mut wire.session);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn the_end_wakes_everybody() {
    let mut wire = Wire::bounded(SIMPLE, 1, u64::MAX);
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut in_flight = Some(read(0, 4));
    let taken = wire.session.poll_submit(&mut in_flight, &mut None, &waker);
    assert!(taken.is_ready());
    let (mut waiting, mut ticket) = (Some(read(0, 4)), None);
    let waits = wire.session.poll_submit(&mut waiting, &mut ticket, &waker);
    assert!(waits.is_pending());
    wire.session.fail(&Error::eof(Phase::Request));
    wake_all(&mut wire.session);
    // The one in flight made room for the waiting one, who is woken in either case.
    assert_eq!(count.0.load(Ordering::SeqCst), 2);
    let late = wire.session.poll_submit(&mut waiting, &mut ticket, &waker);
    assert_matches!(late, Poll::Ready(Err(Error::Disconnected(..))));
}

#[test]
fn the_end_says_what_may_have_been_sent() {
    for style in STYLES {
        let header = crate::wire::request::header_length(style == EXTENDED);
        for (written, first, second) in [
            (0, Delivery::NotSent, Delivery::NotSent),
            (1, Delivery::MaybeSent, Delivery::NotSent),
            (header + 100, Delivery::MaybeSent, Delivery::NotSent),
            (header + 101, Delivery::MaybeSent, Delivery::MaybeSent),
        ] {
            let mut wire = Wire::new(style);
            let a = wire.write(0, &[1; 100]);
            let b = wire.write(200, &[1; 100]);
            wire.write_out(written);
            wire.session.fail(&Error::eof(Phase::Request));
            assert_eq!(wire.answer(a).unwrap_err().delivery(), first, "{written}");
            assert_eq!(wire.answer(b).unwrap_err().delivery(), second, "{written}");
        }
    }
}

#[test]
fn an_answer_stands_whatever_ends_the_connection_later() {
    let mut wire = Wire::new(SIMPLE);
    let (cookie, head) = wire.ask_read(0, 4);
    wire.feed(&data(SIMPLE, &head, 0, b"data", DONE)).unwrap();
    wire.session.fail(&Error::eof(Phase::Request));
    assert_eq!(wire.data(cookie), b"data");
}

#[test]
fn the_first_cause_stands() {
    let mut wire = Wire::new(SIMPLE);
    let (cookie, _) = wire.ask_read(0, 4);
    wire.session.fail(&Error::timeout(
        Phase::Request,
        std::time::Duration::from_secs(1),
    ));
    wire.session.fail(&Error::eof(Phase::Request));
    assert_matches!(wire.answer(cookie), Err(Error::Timeout(..)));
    assert_matches!(wire.session.ended(), Some(Error::Timeout(..)));
}

#[test]
fn replies_that_come_after_the_end_change_nothing() {
    for style in STYLES {
        for written in [40, usize::MAX] {
            let mut wire = Wire::new(style);
            let cookie = wire.write(0, &[1; 100]);
            wire.write_out(written);
            let head = RequestHead {
                flags: CommandFlags::empty(),
                command: Command::WRITE,
                cookie: cookie.0,
                offset: 0,
                length: 100,
            };
            wire.session.fail(&Error::timeout(
                Phase::Request,
                std::time::Duration::from_secs(1),
            ));
            // Another thread ended it while the driver was reading.
            let reply = success(style, &head);
            assert_eq!(wire.feed(&reply[..10]), Ok(()));
            assert_eq!(wire.feed(&reply[10..]), Ok(()));
            assert_eq!(wire.session.in_flight(), 0);
            assert_matches!(wire.answer(cookie), Err(Error::Timeout(..)));
        }
    }
}

#[test]
fn the_rest_of_a_reply_that_comes_after_the_end_changes_nothing() {
    for cut in [4, 16, 20, 30, 40_000] {
        let mut wire = Wire::new(SIMPLE);
        let (cookie, head) = wire.ask_read(0, 50_000);
        let reply = data(SIMPLE, &head, 0, &[1; 50_000], DONE);
        wire.feed(&reply[..cut]).unwrap();
        wire.session.fail(&Error::timeout(
            Phase::Request,
            std::time::Duration::from_secs(1),
        ));
        assert_eq!(wire.feed(&reply[cut..]), Ok(()));
        assert_matches!(wire.answer(cookie), Err(Error::Timeout(..)));
    }
}

#[test]
fn w12_disc_waits_for_what_is_in_flight() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        let (cookie, head) = wire.ask(Command::FLUSH);
        wire.session.abandon(cookie);
        wire.session.close();
        assert!(!wire.session.try_disconnect());
        assert!(!wire.session.has_output());
        wire.feed(&success(style, &head)).unwrap();
        assert!(wire.session.try_disconnect());
        assert!(wire.session.try_disconnect(), "once is enough");
        let sent = wire.send();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].head.command, Command::DISC);
    }
}

#[test]
fn requests_are_given_up_once_however_often_that_is_asked() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        let (sent, head) = wire.ask(Command::FLUSH);
        let unsent = wire.command(Command::FLUSH);
        wire.session.close();
        for _ in 0..3 {
            wire.session.discard_unsent(&mut wire.taken);
            assert_eq!(wire.session.in_flight(), 1);
            assert_eq!(wire.session.messages().0, 1);
        }
        assert!(!wire.session.try_disconnect(), "one is still in flight");
        assert_matches!(wire.answer(unsent), Err(Error::Closed(_)));
        wire.feed(&success(style, &head)).unwrap();
        assert_matches!(wire.answer(sent), Ok(Answer::Done));
        assert!(wire.session.try_disconnect());
    }
}

#[test]
fn what_waits_for_room_is_queued_behind_what_is_kept_when_unsent_requests_are_given_up() {
    for style in STYLES {
        for is_taken in [false, true] {
            let mut wire = Wire::bounded(style, 2, u64::MAX);
            let half_sent = wire.write(0, &[1; 100]);
            wire.write_out(50);
            let unsent = wire.write(200, &[2; 100]);
            if is_taken {
                wire.write_out(1);
            }
            let mut ticket = None;
            let waits = wire.try_submit(write(style, 400, &[3; 100]), &mut ticket);
            assert!(waits.is_pending());
            wire.session.discard_unsent(&mut wire.taken);
            assert_eq!(
                wire.answer(unsent).unwrap_err().delivery(),
                Delivery::NotSent
            );
            let Poll::Ready(Ok(granted)) = wire.try_submit(bare(Command::FLUSH, 0, 0), &mut ticket)
            else {
                panic!("there is room");
            };
            let sent = wire.send();
            let offsets: Vec<_> = sent.iter().map(|request| request.head.offset).collect();
            assert_eq!(offsets, [0, 400]);
            for request in sent {
                wire.feed(&success(style, &request.head)).unwrap();
            }
            assert_matches!(wire.answer(half_sent), Ok(Answer::Done));
            assert_matches!(wire.answer(granted), Ok(Answer::Done));
            wire.assert_usable();
        }
    }
}

#[test]
fn k08_a_closed_session_takes_nothing() {
    let mut wire = Wire::new(SIMPLE);
    wire.session.close();
    let late = wire.try_submit(read(0, 4), &mut None);
    assert_matches!(late, Poll::Ready(Err(Error::Closed(_))));
}
