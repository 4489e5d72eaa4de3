//! Random use.

use super::*;

#[test]
#[cfg_attr(miri, ignore = "too slow there")]
fn nothing_is_left_in_flight_by_random_use() {
    for seed in 0..200u64 {
        let mut wire = Wire::bounded(STYLES[(seed % 3) as usize], 8, 4096);
        random_use(&mut wire, seed);
    }
}

/// Submits, answers, abandons and gives up at random; then answers everything and looks whether
/// all room is free again.
fn random_use(wire: &mut Wire, seed: u64) {
    let style = wire.style;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut waiting: Vec<(Option<Submission>, Option<u64>)> = Vec::new();
    let mut flying: Vec<Cookie> = Vec::new();
    let mut unanswered: Vec<RequestHead> = Vec::new();
    for round in 0..400 {
        let is_last = round >= 300;
        match random(6) {
            0 | 1 if !is_last => {
                let offset = random(16) * 64;
                waiting.push((
                    Some(match random(3) {
                        0 => read(offset, 64 + random(1000)),
                        1 => write(style, offset, &vec![1; 64 + random(1000) as usize]),
                        _ if random(2) == 0 => bare(Command::FLUSH, 0, 0),
                        _ => bare(Command::TRIM, offset, 64),
                    }),
                    None,
                ));
            }
            2 if !unanswered.is_empty() => {
                let head = unanswered.swap_remove(random(unanswered.len() as u64) as usize);
                let reply = match (head.command, random(2)) {
                    (_, 0) => error(style, &head, Errno::EIO, "", DONE),
                    (Command::READ, _) => {
                        let content = vec![1; head.length as usize];
                        data(style, &head, head.offset, &content, DONE)
                    }
                    _ => success(style, &head),
                };
                wire.feed(&reply).unwrap();
            }
            3 if !flying.is_empty() => {
                let cookie = flying.swap_remove(random(flying.len() as u64) as usize);
                wire.session.abandon(cookie);
            }
            4 if !waiting.is_empty() => {
                let (_, ticket) = waiting.swap_remove(random(waiting.len() as u64) as usize);
                wire.give_up(ticket);
            }
            _ => {}
        }
        waiting.retain_mut(|(submission, ticket)| {
            match wire.session.poll_submit(submission, ticket, Waker::noop()) {
                Poll::Ready(cookie) => {
                    flying.push(cookie.unwrap());
                    false
                }
                Poll::Pending => true,
            }
        });
        unanswered.extend(wire.send().iter().map(|request| request.head));
        flying.retain(|&cookie| wire.poll(cookie).is_pending());
    }
    for (_, ticket) in waiting.drain(..) {
        wire.give_up(ticket);
    }
    unanswered.extend(wire.send().iter().map(|request| request.head));
    for head in unanswered {
        wire.feed(&error(style, &head, Errno::EIO, "", DONE))
            .unwrap();
    }
    assert_eq!(wire.session.in_flight(), 0, "seed {seed}");
    for _ in 0..8 {
        wire.submit(write(style, 0, &[1; 512]));
    }
}
