//! What the answers to block status may hold.

use super::status::{query, status};
use super::*;

/// What an extent takes, in bytes.
const EXTENT: u64 = size_of::<crate::Extent>() as u64;

fn many(count: u64) -> Vec<(u64, u64)> {
    (0..count).map(|i| (1, i)).collect()
}

#[test]
fn extents_count_against_the_bound_on_bytes_as_they_arrive() {
    for style in CHUNKED {
        for abandons in [false, true] {
            // An extent for each sector is what is expected: 129 of them.
            let mut wire = Wire::bounded(style, 1024, 400 * EXTENT);
            let cookie = wire.submit(query());
            let head = wire.send().pop().unwrap().head;
            wire.read(0, 271 * EXTENT);
            let mut ticket = None;
            assert!(wire.try_submit(read(0, 1), &mut ticket).is_pending());
            wire.give_up(ticket);
            if abandons {
                wire.session.abandon(cookie);
            }
            wire.feed(&status(style, &head, 10, &many(500), MORE))
                .unwrap();
            // 271 more than expected are kept, up to the whole bound.
            wire.feed(&none(style, &head)).unwrap();
            assert_eq!(wire.session.in_flight(), 1);
            if !abandons {
                let Ok(Answer::Status(status)) = wire.answer(cookie) else {
                    panic!("no status");
                };
                assert_eq!(status.get("base:allocation").unwrap().len(), 400);
            }
            // All that it held is free again.
            wire.read(0, 129 * EXTENT);
        }
    }
}

#[test]
fn what_an_answer_holds_beyond_what_was_expected_makes_others_wait() {
    for style in CHUNKED {
        for abandons in [false, true] {
            let mut wire = Wire::bounded(style, 1024, 400 * EXTENT);
            let cookie = wire.submit(query());
            let head = wire.send().pop().unwrap().head;
            if abandons {
                wire.session.abandon(cookie);
            }
            wire.feed(&status(style, &head, 10, &many(300), MORE))
                .unwrap();
            wire.read(0, 100 * EXTENT);
            let mut ticket = None;
            let waits = wire.try_submit(read(0, 100 * EXTENT), &mut ticket);
            assert_eq!(waits.is_pending(), !abandons);
            wire.feed(&none(style, &head)).unwrap();
            let mut granted = |ticket: &mut Option<u64>| {
                wire.session.poll_submit(&mut None, ticket, Waker::noop())
            };
            assert!(abandons || granted(&mut ticket).is_ready());
        }
    }
}

#[test]
fn statuses_that_are_asked_for_at_once_share_the_bound_on_bytes() {
    const COUNT: u64 = 10;
    for style in CHUNKED {
        let mut wire = Wire::bounded(style, 1024, 200 * COUNT * EXTENT);
        let cookies: Vec<_> = (0..COUNT).map(|_| wire.submit(query())).collect();
        let sent = wire.send();
        assert_eq!(sent.len() as u64, COUNT, "they do not wait for each other");
        for request in &sent {
            wire.feed(&status(style, &request.head, 10, &many(5000), DONE))
                .unwrap();
        }
        for cookie in cookies {
            let Ok(Answer::Status(status)) = wire.answer(cookie) else {
                panic!("no status");
            };
            assert_eq!(status.get("base:allocation").unwrap().len(), 200);
        }
        // One alone has all.
        let cookie = wire.submit(query());
        let head = wire.send().pop().unwrap().head;
        wire.feed(&status(style, &head, 10, &many(5000), DONE))
            .unwrap();
        let Ok(Answer::Status(status)) = wire.answer(cookie) else {
            panic!("no status");
        };
        assert_eq!(status.get("base:allocation").unwrap().len(), 2000);
    }
}
