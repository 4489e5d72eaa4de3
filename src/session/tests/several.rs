//! Requests of several messages, when the session is closed after they have begun.

use super::*;

/// Submits a message of a request that has begun.
fn go_on(wire: &mut Wire, ticket: &mut Option<u64>) -> Poll<Result<Cookie, Error>> {
    let mut message = Some(write(wire.style, 0, &[1; 100]));
    let session = &mut wire.session;
    session.poll_message(true, &mut message, ticket, Waker::noop())
}

fn is_closed(result: Poll<Result<Cookie, Error>>) {
    assert_matches!(result, Poll::Ready(Err(Error::Closed(_))));
}

/// Answers everything that was sent.
fn answer_all(wire: &mut Wire) {
    for request in wire.send() {
        wire.feed(&success(wire.style, &request.head)).unwrap();
    }
}

#[test]
fn w12_a_closed_session_takes_the_messages_of_a_request_that_has_begun() {
    for style in STYLES {
        let mut wire = Wire::new(style);
        assert!(wire.session.begin_several() && wire.session.begin_several());
        wire.session.close();
        assert!(!wire.session.begin_several(), "it has not begun");
        for _ in 0..3 {
            assert!(wire.session.awaits_callers() && !wire.session.try_disconnect());
            assert_matches!(go_on(&mut wire, &mut None), Poll::Ready(Ok(_)));
            assert!(!wire.session.awaits_callers());
            is_closed(wire.try_submit(read(0, 4), &mut None));
            answer_all(&mut wire);
        }
        assert!(!wire.session.end_several());
        assert_matches!(go_on(&mut wire, &mut None), Poll::Ready(Ok(_)));
        assert!(wire.session.end_several());
        assert!(!wire.session.try_disconnect(), "one is in flight");
        answer_all(&mut wire);
        assert!(wire.session.try_disconnect());
        is_closed(go_on(&mut wire, &mut None));
    }
}

#[test]
fn a_message_that_waits_is_sent_before_the_goodbye() {
    for style in STYLES {
        let mut wire = Wire::bounded(style, 1, u64::MAX);
        let first = wire.write(0, &[1; 100]);
        let (mut before, mut message) = (None, None);
        assert!(wire.try_submit(read(0, 4), &mut before).is_pending());
        assert!(wire.session.begin_several());
        assert!(go_on(&mut wire, &mut message).is_pending());
        wire.session.end_several();
        wire.session.close();
        is_closed(wire.try_submit(read(0, 4), &mut before));
        assert!(go_on(&mut wire, &mut message).is_pending());
        answer_all(&mut wire);
        assert_matches!(wire.answer(first), Ok(Answer::Done));
        assert!(!wire.session.try_disconnect());
        let Poll::Ready(Ok(second)) = go_on(&mut wire, &mut message) else {
            panic!("there is room");
        };
        answer_all(&mut wire);
        assert_matches!(wire.answer(second), Ok(Answer::Done));
        assert!(wire.session.try_disconnect());
    }
}

#[test]
fn a_request_that_is_turned_away_makes_room_for_a_message_at_once() {
    let mut wire = Wire::bounded(SIMPLE, 2, 100);
    let first = wire.write(0, &[1; 60]);
    // There is no room for this one, and what comes later stands behind it.
    let (mut large, mut message) = (None, None);
    let waits = wire.try_submit(write(SIMPLE, 512, &[1; 80]), &mut large);
    assert!(waits.is_pending() && wire.session.begin_several());
    let mut cache = Some(bare(Command::CACHE, 0, 4));
    let (session, waker) = (&mut wire.session, Waker::noop());
    let waits = session.poll_message(true, &mut cache, &mut message, waker);
    assert!(waits.is_pending());
    wire.session.close();
    assert_eq!(wire.session.in_flight(), 2);
    answer_all(&mut wire);
    assert_matches!(wire.answer(first), Ok(Answer::Done));
}

#[test]
fn what_cannot_wait_for_messages_to_come_refuses_them() {
    type Act = fn(&mut Wire);
    let acts: [Act; 5] = [
        |wire| wire.session.disconnect_now(),
        |wire| wire.session.refuse(Error::shutting_down()),
        |wire| wire.session.give_up_callers(),
        |wire| wire.session.discard_unsent(&mut wire.taken),
        |wire| wire.session.fail(&Error::closed()),
    ];
    for style in STYLES {
        for (number, act) in acts.into_iter().enumerate() {
            let mut wire = Wire::bounded(style, 1, u64::MAX);
            wire.command(Command::CACHE);
            let mut message = None;
            assert!(wire.session.begin_several());
            assert!(go_on(&mut wire, &mut message).is_pending());
            wire.session.close();
            let cache = wire.send().remove(0);
            act(&mut wire);
            is_closed(go_on(&mut wire, &mut message));
            is_closed(go_on(&mut wire, &mut None));
            assert!(!wire.session.awaits_callers());
            if number < 4 {
                wire.feed(&success(style, &cache.head)).unwrap();
                assert!(wire.session.try_disconnect());
            }
        }
    }
}
