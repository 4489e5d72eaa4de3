use proptest::prelude::*;

use super::super::ranges::steps;
use super::*;

fn want(bytes: u64) -> Want {
    Want {
        bytes,
        changes: None,
        exclusive: false,
        span: 0,
        continues: false,
    }
}

fn change(bytes: u64, changes: Range<u64>) -> Want {
    Want {
        changes: Some(changes),
        ..want(bytes)
    }
}

fn exclusive(bytes: u64, block: Range<u64>) -> Want {
    Want {
        exclusive: true,
        ..change(bytes, block)
    }
}

/// Admits a request, or gives it a ticket.
fn enter(gate: &mut Gate<()>, want: &Want) -> Option<u64> {
    if gate.enter(want) {
        return None;
    }
    Some(gate.wait(waiter(want)))
}

fn waiter(want: &Want) -> Waiter<()> {
    Waiter {
        want: want.clone(),
        item: (),
        waker: Waker::noop().clone(),
    }
}

/// Returns the tickets of all requests that can be admitted now.
fn grant(gate: &mut Gate<()>) -> Vec<u64> {
    std::iter::from_fn(|| gate.grant().map(|(ticket, _)| ticket)).collect()
}

#[test]
fn waiters_pass_in_the_order_they_came() {
    let mut gate = Gate::new(1, 100);
    assert_eq!(enter(&mut gate, &want(0)), None);
    let b = enter(&mut gate, &want(0)).unwrap();
    let c = enter(&mut gate, &want(0)).unwrap();
    gate.free(0);
    assert_eq!(grant(&mut gate), [b]);
    gate.free(0);
    assert_eq!(grant(&mut gate), [c]);
}

#[test]
fn bytes_are_bounded_but_one_large_request_passes_alone() {
    let mut gate = Gate::new(10, 100);
    assert_eq!(enter(&mut gate, &want(1000)), None);
    let b = enter(&mut gate, &want(1)).unwrap();
    assert!(grant(&mut gate).is_empty());
    gate.free(1000);
    assert_eq!(grant(&mut gate), [b]);
}

#[test]
fn a_waiter_that_gives_up_leaves_nothing_behind() {
    let mut gate = Gate::new(1, 100);
    assert_eq!(enter(&mut gate, &want(0)), None);
    let b = enter(&mut gate, &want(0)).unwrap();
    let c = enter(&mut gate, &want(0)).unwrap();
    assert!(gate.cancel(b).is_some());
    assert!(gate.cancel(b).is_none());
    gate.free(0);
    assert_eq!(grant(&mut gate), [c]);
    assert!(!gate.has_waiting());
}

#[test]
fn who_waits_for_room_is_not_overtaken() {
    let mut gate = Gate::new(10, 100);
    assert_eq!(enter(&mut gate, &want(60)), None);
    let large = enter(&mut gate, &want(60)).unwrap();
    let small = enter(&mut gate, &want(1)).unwrap();
    assert!(grant(&mut gate).is_empty());
    gate.free(60);
    assert_eq!(grant(&mut gate), [large, small]);
}

#[test]
fn who_waits_for_an_abandoned_write_is_overtaken() {
    let mut gate = Gate::new(10, 100);
    assert_eq!(enter(&mut gate, &change(1, 0..4)), None);
    gate.abandon(&(0..4), 7);
    let a = enter(&mut gate, &change(1, 3..9)).unwrap();
    assert_eq!(enter(&mut gate, &want(1)), None);
    assert_eq!(enter(&mut gate, &change(1, 4..9)), None);
    assert!(grant(&mut gate).is_empty());
    gate.answered(&(0..4), 7);
    assert_eq!(grant(&mut gate), [a]);
}

#[test]
fn a_write_abandoned_after_another_had_come_into_the_line_holds_that_one_too() {
    let mut gate = Gate::new(2, 100);
    assert_eq!(enter(&mut gate, &change(1, 0..4)), None);
    assert_eq!(enter(&mut gate, &want(1)), None);
    let overlaps = enter(&mut gate, &change(1, 0..1)).unwrap();
    let other = enter(&mut gate, &change(1, 4..5)).unwrap();
    gate.abandon(&(0..4), 7);
    gate.free(1);
    assert_eq!(grant(&mut gate), [other]);
    // It is first again when it can go.
    let last = enter(&mut gate, &want(1)).unwrap();
    gate.free(1);
    gate.answered(&(0..4), 7);
    assert_eq!(grant(&mut gate), [overlaps]);
    gate.free(1);
    assert_eq!(grant(&mut gate), [last]);
}

/// How many nodes are looked at while others come, pass and leave beside `waiters` changes that
/// wait for one abandoned change, and while others are abandoned and answered that all of them
/// overlap; and then for each waiter, as the abandoned change is answered.
fn steps_beside(waiters: u64) -> (u64, u64) {
    let mut gate = Gate::new(usize::MAX, u64::MAX);
    let all = 0..1 << 30;
    gate.abandon(&all, 0);
    let tickets: Vec<_> = (0..waiters)
        .map(|i| enter(&mut gate, &change(1, i << 9..all.end - i)).unwrap())
        .collect();
    steps();
    for number in 1..=100 {
        assert_eq!(enter(&mut gate, &want(1)), None);
        let free = all.end + number..all.end + number + 1;
        assert_eq!(enter(&mut gate, &change(1, free.clone())), None);
        gate.abandon(&free, number);
        gate.abandon(&(number << 20..all.end), 1000);
        let ticket = enter(&mut gate, &change(1, all.clone())).unwrap();
        assert!(gate.cancel(ticket).is_some());
        gate.answered(&(number << 20..all.end), 1000);
        gate.answered(&free, number);
        gate.free(1);
        gate.free(1);
        assert!(grant(&mut gate).is_empty());
    }
    let beside = steps() / 100;
    gate.answered(&all, 0);
    assert_eq!(grant(&mut gate), tickets);
    (beside, steps() / waiters)
}

#[test]
#[cfg_attr(miri, ignore = "too slow there")]
fn the_cost_does_not_grow_with_how_many_wait_for_an_abandoned_write() {
    let (few, each_of_few) = steps_beside(100);
    for waiters in [1_000, 10_000] {
        let (many, each) = steps_beside(waiters);
        // A hundred times as many make the logarithm twice as large.
        assert!(many <= 4 * few, "{many} steps for {few}, beside {waiters}");
        assert!(
            each <= 4 * each_of_few,
            "{each} for {each_of_few}, of {waiters}"
        );
    }
}

/// Many changes that overlap each other are abandoned; then one after the other is answered,
/// while others wait for all of them.
#[test]
#[cfg_attr(miri, ignore = "too slow there")]
fn who_waits_for_many_abandoned_writes_is_not_looked_at_for_each() {
    const COUNT: u64 = 1000;
    for order in 0..3 {
        let mut gate = Gate::new(usize::MAX, u64::MAX);
        let range = |number: u64| match order {
            0 => 0..100_000,
            1 => number..100_000,
            _ => number..100_000 + number,
        };
        (0..COUNT).for_each(|number| gate.abandon(&range(number), number));
        let wanted = change(1, COUNT..100_000);
        let tickets: Vec<_> = (0..COUNT)
            .map(|_| enter(&mut gate, &wanted).unwrap())
            .collect();
        steps();
        for number in 0..COUNT {
            assert!(grant(&mut gate).is_empty());
            gate.answered(&range(number), number);
        }
        assert_eq!(grant(&mut gate), tickets);
        let steps = steps();
        assert!(steps < 300 * COUNT, "{steps} steps");
    }
}

/// Few and many changes wait behind an exclusive one, while a change that it waits for comes and goes.
#[test]
#[cfg_attr(miri, ignore = "too slow there")]
fn who_waits_behind_an_exclusive_change_is_not_looked_at_for_each_answer() {
    let cost = |waiters: u64| {
        let mut gate = Gate::new(usize::MAX, u64::MAX);
        gate.track_changes(std::iter::empty());
        let (block, all) = (0..512, 0..4096);
        gate.begin(&all, false, 0);
        let first = enter(&mut gate, &exclusive(1, block.clone())).unwrap();
        let others: Vec<_> = (0..waiters)
            .map(|_| enter(&mut gate, &change(1, all.clone())).unwrap())
            .collect();
        gate.begin(&all, false, 1);
        gate.answered(&all, 0);
        steps();
        for number in 2..102 {
            gate.begin(&all, false, number);
            gate.answered(&all, number - 1);
            assert!(grant(&mut gate).is_empty());
        }
        let steps = steps() / 100;
        gate.answered(&all, 101);
        assert_eq!(gate.grant().map(|(ticket, _)| ticket), Some(first));
        gate.begin(&block, true, 102);
        assert!(grant(&mut gate).is_empty());
        gate.answered(&block, 102);
        assert_eq!(grant(&mut gate), others);
        steps
    };
    let (few, many) = (cost(10), cost(10_000));
    assert!(many <= 4 * few + 20, "{many} steps for {few}");
}

/// The same by simple rules, which look at everybody all the time.
struct Model {
    requests: usize,
    bytes: u64,
    inside: Vec<Inside>,
    line: Vec<(u64, Want)>,
    held: Vec<(u64, Want)>,
}

struct Inside {
    want: Want,
    /// Its ticket, or another number if it had none.
    number: u64,
    is_abandoned: bool,
}

impl Model {
    fn fits(&self, want: &Want) -> bool {
        let total: u64 = self.inside.iter().map(|inside| inside.want.bytes).sum();
        self.inside.len() < self.requests && (total == 0 || total + want.bytes <= self.bytes)
    }

    fn is_open(&self, ticket: u64, want: &Want) -> bool {
        let overlaps = |other: &Want| match (&want.changes, &other.changes) {
            (Some(a), Some(b)) => a.start < b.end && b.start < a.end,
            _ => false,
        };
        let holds =
            |inside: &&Inside| want.exclusive || inside.want.exclusive || inside.is_abandoned;
        let mut holding = self.inside.iter().filter(holds);
        let is_ahead = |(first, waiter): &&(u64, Want)| waiter.exclusive && *first < ticket;
        let mut ahead = self.line.iter().filter(is_ahead);
        !holding.any(|inside| overlaps(&inside.want)) && !ahead.any(|(_, waiter)| overlaps(waiter))
    }

    fn has_open(&self) -> bool {
        let mut line = self.line.iter();
        line.any(|(ticket, waiter)| self.is_open(*ticket, waiter))
    }

    fn passes(&self, want: &Want) -> bool {
        self.fits(want) && self.is_open(u64::MAX, want) && !self.has_open()
    }

    fn take(&mut self, want: Want, number: u64) {
        self.inside.push(Inside {
            want,
            number,
            is_abandoned: false,
        });
    }

    /// Lets all pass who can.
    fn grant(&mut self) -> Vec<u64> {
        let mut granted = Vec::new();
        let is_open = |model: &Self| {
            let mut line = model.line.iter();
            line.position(|(ticket, want)| model.is_open(*ticket, want))
        };
        while let Some(first) = is_open(self) {
            if !self.fits(&self.line[first].1) {
                break;
            }
            let (ticket, want) = self.line.remove(first);
            self.take(want, ticket);
            granted.push(ticket);
        }
        granted
    }

    /// Whether the gate must be told that a change is answered.
    fn tells(inside: &Inside, gate: &Gate<()>) -> bool {
        inside.is_abandoned || gate.tracks_changes()
    }
}

/// Lets all pass who can, and makes their changes known as a session does.
fn grant_known(gate: &mut Gate<()>) -> Vec<u64> {
    let mut granted = Vec::new();
    while let Some((ticket, waiter)) = gate.grant() {
        begin(gate, &waiter.want, ticket);
        granted.push(ticket);
    }
    granted
}

fn begin(gate: &mut Gate<()>, want: &Want, number: u64) {
    if let Some(changes) = want.changes.as_ref().filter(|_| gate.tracks_changes()) {
        gate.begin(changes, want.exclusive, number);
    }
}

/// Makes the changes inside known before the first exclusive one.
fn track(gate: &mut Gate<()>, model: &Model) {
    let changes = model.inside.iter();
    let changes = changes.filter_map(|inside| Some((inside.number, inside.want.changes.clone()?)));
    gate.track_changes(changes);
}

proptest! {
    #![proptest_config(crate::tests::properties::config())]

    /// Each step comes, is done, is abandoned, gives up, or is a flush that is held or released.
    #[test]
    fn the_gate_does_what_it_would_by_looking_at_everybody(
        requests in 1usize..12,
        bytes in 0u64..200,
        steps in prop::collection::vec(
            (0u8..16, any::<u8>(), 0u64..16, prop::option::of((0u64..60, 1u64..30)), 0u8..4),
            1..150,
        ),
    ) {
        let mut gate = Gate::new(requests, bytes);
        let (inside, line, held) = (Vec::new(), Vec::new(), Vec::new());
        let mut model = Model { requests, bytes, inside, line, held };
        // Who passes at once has no ticket.
        let mut number = 1 << 32;
        for (step, which, size, changes, kind) in steps {
            let pick = |count: usize| usize::from(which) % count.max(1);
            let mut wanted = want(size);
            wanted.changes = changes.map(|(start, length)| start..start + length);
            if let (0, Some((start, _))) = (kind, changes) {
                wanted = exclusive(size, start / 8 * 8..start / 8 * 8 + 8);
            }
            match step {
                0..6 => {
                    if wanted.exclusive && !gate.tracks_changes() {
                        track(&mut gate, &model);
                    }
                    let ticket = enter(&mut gate, &wanted);
                    prop_assert_eq!(ticket.is_none(), model.passes(&wanted));
                    if let Some(ticket) = ticket {
                        model.line.push((ticket, wanted));
                    } else {
                        number += 1;
                        begin(&mut gate, &wanted, number);
                        model.take(wanted, number);
                    }
                }
                6..10 if !model.inside.is_empty() => {
                    let done = model.inside.swap_remove(pick(model.inside.len()));
                    gate.free(done.want.bytes);
                    if let Some(changes) = done.want.changes.as_ref().filter(|_| Model::tells(&done, &gate)) {
                        gate.answered(changes, done.number);
                    }
                }
                10..13 if !model.inside.is_empty() => {
                    let at = pick(model.inside.len());
                    let inside = &mut model.inside[at];
                    // An exclusive change holds up others whether or not it is abandoned.
                    if !std::mem::replace(&mut inside.is_abandoned, true) && !inside.want.exclusive {
                        if let Some(changes) = &inside.want.changes {
                            gate.abandon(changes, inside.number);
                        }
                    }
                    // This makes no room.
                    continue;
                }
                13 if !model.line.is_empty() => {
                    let (ticket, wanted) = model.line.remove(pick(model.line.len()));
                    prop_assert_eq!(gate.cancel(ticket).map(|waiter| waiter.want), Some(wanted));
                }
                14 => model.held.push((gate.hold(waiter(&want(size))), want(size))),
                15 => {
                    gate.release(|_| true);
                    model.line.append(&mut model.held);
                    model.line.sort_by_key(|(ticket, _)| *ticket);
                }
                _ => {}
            }
            prop_assert_eq!(grant_known(&mut gate), model.grant());
            let total: u64 = model.inside.iter().map(|inside| inside.want.bytes).sum();
            let alone = model.inside.iter().filter(|inside| inside.want.bytes > 0).count() == 1;
            prop_assert!(model.inside.len() <= requests && (total <= bytes || alone));
            prop_assert_eq!(gate.has_waiting(), model.has_open());
        }
        // Once all is answered, nobody has been forgotten.
        while let Some(done) = model.inside.pop() {
            gate.free(done.want.bytes);
            if let Some(changes) = done.want.changes.as_ref().filter(|_| Model::tells(&done, &gate)) {
                gate.answered(changes, done.number);
            }
            prop_assert_eq!(grant_known(&mut gate), model.grant());
        }
        prop_assert!(model.line.is_empty() && !gate.has_waiting());
    }
}
