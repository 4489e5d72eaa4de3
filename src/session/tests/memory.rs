//! Reads for which there is no memory.

use super::*;
use crate::error::InvalidRequest;

/// More than any address space has.
const HUGE: u64 = 1 << 50;

fn start(step: usize, read: Submission) -> (Wire, Cookie, RequestHead) {
    let mut wire = Wire::new(EXTENDED);
    wire.step = step;
    let cookie = wire.submit(read);
    let head = wire.send().pop().unwrap().head;
    (wire, cookie, head)
}

#[test]
fn content_for_which_there_is_no_memory_is_passed_over() {
    for step in [usize::MAX, 1, 13] {
        let (mut wire, cookie, head) = start(step, read(0, HUGE));
        let data = |at, length| data(EXTENDED, &head, at, &vec![7; length], MORE);
        // A piece that is copied, one that goes straight to the buffer, and a hole; then another of
        // each, for which no memory is asked for any more.
        for at in [0, 1 << 20] {
            wire.feed(&data(at, 100)).unwrap();
            wire.feed(&data(at + 100, 100_000)).unwrap();
            wire.feed(&hole(EXTENDED, &head, at + 100_100, 100, MORE))
                .unwrap();
        }
        assert!(wire.bulk.is_none());
        wire.feed(&error(EXTENDED, &head, Errno::EIO, "bad sector", DONE))
            .unwrap();
        assert_eq!(wire.request_error(cookie).errno(), Errno::EIO);
        wire.assert_usable();
    }
}

#[test]
fn each_way_to_take_content_in_does_without_memory() {
    for step in [usize::MAX, 1] {
        for piece in [
            |head: &RequestHead| data(EXTENDED, head, 0, &[7; 100], MORE),
            |head: &RequestHead| data(EXTENDED, head, 0, &vec![7; 100_000], MORE),
            |head: &RequestHead| hole(EXTENDED, head, 0, 100, MORE),
        ] {
            let (mut wire, cookie, head) = start(step, read(0, HUGE));
            wire.feed(&piece(&head)).unwrap();
            wire.session.abandon(cookie);
            wire.feed(&error(EXTENDED, &head, Errno::EIO, "", DONE))
                .unwrap();
            wire.assert_usable();
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow there")]
fn a_read_that_is_answered_in_full_without_memory_for_it_says_so() {
    let (mut wire, cookie, head) = start(usize::MAX, read(0, HUGE));
    let most = u64::from(u32::MAX);
    let mut at = 0;
    while at < HUGE {
        let length = most.min(HUGE - at);
        let flags = if at + length == HUGE { DONE } else { MORE };
        wire.feed(&hole(EXTENDED, &head, at, length as u32, flags))
            .unwrap();
        at += length;
    }
    let Err(Error::Invalid(error)) = wire.answer(cookie) else {
        panic!("not an error of this side");
    };
    assert_eq!(error, InvalidRequest::OutOfMemory { length: HUGE });
    wire.assert_usable();
}
