//! Changes of neighbouring bytes that come together.

use super::modify::{BLOCK, modify};
use super::*;

/// A change on its way: the bytes that it sets, and its value.
struct Change {
    bytes: std::ops::Range<usize>,
    value: u8,
    begun: u64,
    /// When it was answered, or given up.
    ended: Option<u64>,
    acknowledged: bool,
    cookie: Option<Cookie>,
    ticket: Option<u64>,
    submission: Option<Submission>,
}

/// Random changes, whole and in part, of a few blocks. The server carries each message out at any
/// time between its arrival and its answer.
#[test]
#[cfg_attr(miri, ignore = "too slow there")]
fn no_byte_is_lost_whatever_comes_together() {
    for seed in 0..400u64 {
        let mut wire = Wire::bounded(STYLES[(seed % 3) as usize], 6, 1 << 20);
        no_byte_is_lost(&mut wire, seed);
    }
}

fn no_byte_is_lost(wire: &mut Wire, seed: u64) {
    const BLOCKS: u64 = 3;
    let style = wire.style;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut disk = vec![0u8; (BLOCKS * BLOCK) as usize];
    let mut changes: Vec<Change> = Vec::new();
    // A request, and, once it is carried out, its answer.
    let mut server: Vec<(Request, Option<Vec<u8>>)> = Vec::new();
    let mut now = 0;
    for round in 0..600 {
        now += 1;
        let is_last = round >= 450;
        match random(10) {
            0..3 if !is_last => {
                let value = (changes.len() % 255 + 1) as u8;
                let block = random(BLOCKS) * BLOCK;
                let (bytes, submission) = if random(3) == 0 {
                    let end = (block + BLOCK * (1 + random(2))).min(BLOCKS * BLOCK);
                    let data = vec![value; (end - block) as usize];
                    (block..end, write(style, block, &data))
                } else {
                    let position = random(BLOCK - 1);
                    let length = 1 + random(BLOCK - position);
                    let start = block + position;
                    let data = vec![value; length as usize];
                    let submission = modify(style, block, position as usize, &data);
                    (start..start + length, submission)
                };
                changes.push(Change {
                    bytes: bytes.start as usize..bytes.end as usize,
                    value,
                    begun: now,
                    ended: None,
                    acknowledged: false,
                    cookie: None,
                    ticket: None,
                    submission: Some(submission),
                });
            }
            3 if !is_last => {
                let open: Vec<_> = (0..changes.len())
                    .filter(|&at| changes[at].ended.is_none())
                    .collect();
                if let Some(&at) = open.get(random(open.len().max(1) as u64) as usize) {
                    let change = &mut changes[at];
                    match change.cookie {
                        Some(cookie) => wire.session.abandon(cookie),
                        None => wire.give_up(change.ticket),
                    }
                    change.ended = Some(now);
                }
            }
            4..7 if !server.is_empty() => {
                let at = random(server.len() as u64) as usize;
                let (request, answer) = &mut server[at];
                if answer.is_none() {
                    *answer = Some(carry_out(style, request, &mut disk));
                }
            }
            _ if !server.is_empty() => {
                let (request, answer) = server.swap_remove(random(server.len() as u64) as usize);
                let answer = answer.unwrap_or_else(|| carry_out(style, &request, &mut disk));
                wire.feed(&answer).unwrap();
            }
            _ => {}
        }
        for change in changes.iter_mut().filter(|change| change.ended.is_none()) {
            let session = &mut wire.session;
            if change.cookie.is_none() {
                let (submission, ticket) = (&mut change.submission, &mut change.ticket);
                if let Poll::Ready(cookie) = session.poll_submit(submission, ticket, Waker::noop())
                {
                    change.cookie = Some(cookie.unwrap());
                }
            }
            if let Some(cookie) = change.cookie {
                if let Poll::Ready(result) = session.poll_answer(cookie, Waker::noop()) {
                    result.unwrap();
                    change.acknowledged = true;
                    change.ended = Some(now);
                }
            }
        }
        server.extend(wire.send().into_iter().map(|request| (request, None)));
    }
    while let Some((request, answer)) = server.pop() {
        let answer = answer.unwrap_or_else(|| carry_out(style, &request, &mut disk));
        wire.feed(&answer).unwrap();
        server.extend(wire.send().into_iter().map(|request| (request, None)));
    }
    assert_eq!(wire.session.in_flight(), 0, "seed {seed}");
    for (at, &value) in disk.iter().enumerate() {
        let of_byte = || changes.iter().filter(|change| change.bytes.contains(&at));
        if value == 0 {
            let sure = of_byte().find(|change| change.acknowledged);
            assert!(sure.is_none(), "seed {seed}, byte {at}: a change is lost");
            continue;
        }
        // There are at most 255 changes of one value each.
        let last = of_byte().filter(|change| change.value == value).last();
        let last = last.expect("a value that nobody wrote there");
        // No change that was acknowledged began after the end of the one that is seen.
        let newer = of_byte().find(|change| {
            change.acknowledged && last.ended.is_some_and(|ended| ended < change.begun)
        });
        assert!(
            newer.is_none(),
            "seed {seed}, byte {at}: an old change is back"
        );
    }
}

/// Carries a message out, and returns the answer.
fn carry_out(style: ReplyStyle, request: &Request, disk: &mut [u8]) -> Vec<u8> {
    let head = &request.head;
    let range = head.offset as usize..(head.offset + head.length) as usize;
    if head.command == Command::READ {
        return data(style, head, head.offset, &disk[range], DONE);
    }
    disk[range].copy_from_slice(&request.payload);
    success(style, head)
}
