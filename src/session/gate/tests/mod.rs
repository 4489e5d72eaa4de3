//! The gate, step by step.

mod model;

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
