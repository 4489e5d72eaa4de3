//! Tests of what the judge finds.

use std::time::{Duration, Instant};

use super::*;
use crate::driver::busy::sample::STRIDE;

fn moment(spent: Duration, at: Instant) -> Moment {
    Moment {
        spent,
        at,
        others: None,
    }
}

/// A server, and a client that waits for it as its judge says.
struct Bench {
    judge: Judge,
    progress: u64,
    spent: Duration,
    at: Instant,
    /// How many microseconds a wait takes in each way.
    took: [u64; 3],
}

impl Bench {
    fn new(can_rouse: bool) -> Self {
        Self {
            judge: Judge::new(can_rouse),
            progress: 0,
            spent: Duration::ZERO,
            at: Instant::now(),
            took: [30; 3],
        }
    }

    /// Waits so many times. A wait takes some microseconds of processor time in each way, and brings
    /// so much progress. Returns how many of the waits were in each way.
    fn run(&mut self, times: u32, ways: [(u64, u64); 3]) -> [u32; 3] {
        let mut counts = [0; 3];
        for _ in 0..times {
            let way = self.judge.begin() as usize;
            counts[way] += 1;
            let (time, progress) = ways[way];
            self.spent += Duration::from_micros(time);
            self.at += Duration::from_micros(self.took[way]);
            self.progress += progress;
            let moment = moment(self.spent, self.at);
            self.judge.hit(self.progress, || Some(moment));
        }
        counts
    }

    /// Waits so many times, asleep or awake. Returns how many of the waits were awake.
    fn wait(&mut self, times: u32, asleep: (u64, u64), awake: (u64, u64)) -> u32 {
        self.run(times, [asleep, asleep, awake])[Way::Awake as usize]
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::new(false)
    }
}

/// The waits of one sample asleep or roused, and of those awake: until the server keeps pace, and the
/// one that counts.
const ONCE: u32 = STRIDE + SAMPLE;
const LONG_ONCE: u32 = 2 * (STRIDE + LONG * SAMPLE);

#[test]
fn the_cheaper_way_is_taken() {
    let mut bench = Bench::default();
    assert_eq!(bench.wait(ONCE, (20, 1), (10, 1)), 0, "first asleep");
    let all = LONG_ONCE + FIRST;
    assert_eq!(bench.wait(all, (20, 1), (10, 1)), all);
    let awake = bench.wait(100_000, (20, 1), (10, 1));
    assert!(awake > 98_000, "{awake}");

    let mut bench = Bench::default();
    let awake = bench.wait(100_000, (10, 1), (20, 1));
    assert!((100..1000).contains(&awake), "{awake}");
    // That it has become cheaper is found out before long.
    bench.wait(MOST + 2 * ONCE, (20, 1), (10, 1));
    assert_eq!(bench.wait(FIRST / 2, (20, 1), (10, 1)), FIRST / 2);
}

#[test]
fn to_sleep_for_several_replies_at_once_is_cheaper() {
    let mut bench = Bench::default();
    let awake = bench.wait(100_000, (20, 4), (10, 1));
    assert!(awake < 1000, "{awake}");
    let awake = bench.wait(100_000, (20, 4), (10, 4));
    assert!(awake > 90_000, "{awake}");
}

#[test]
fn a_little_more_is_allowed_for_what_is_faster() {
    for (took, spent, pays) in [(20, 22, true), (20, 24, false), (29, 22, false)] {
        let mut bench = Bench::default();
        bench.took[Way::Awake as usize] = took;
        let awake = bench.wait(100_000, (20, 1), (spent, 1));
        assert_eq!(awake > 98_000, pays, "{awake}");
        assert_eq!(awake < 6000, !pays, "{awake}");
    }
}

#[test]
fn roused_is_measured_where_that_can_be() {
    let ways = [(20, 1), (15, 1), (18, 1)];
    let [asleep, roused, awake] = Bench::new(true).run(100_000, ways);
    assert!(roused > 93_000, "{asleep} {roused} {awake}");
    let [_, roused, _] = Bench::new(false).run(100_000, ways);
    assert_eq!(roused, 0);
    // Each of the three can be the best.
    let [asleep, ..] = Bench::new(true).run(100_000, [(20, 1), (24, 1), (24, 1)]);
    assert!(asleep > 94_000, "{asleep}");
    let [.., awake] = Bench::new(true).run(100_000, [(20, 1), (18, 1), (15, 1)]);
    assert!(awake > 97_000, "{awake}");
}

#[test]
fn after_many_requests_in_flight_nobody_is_roused_for_some_waits() {
    let ways = [(20, 1), (15, 1), (60, 1)];
    let mut bench = Bench::new(true);
    bench.run(3 * ONCE, ways);
    assert_eq!(bench.judge.begin(), Way::Roused);
    bench.judge.interrupt();
    bench.judge.pause_rousing();
    assert_eq!(bench.run(2 * PAUSE, ways), [PAUSE, PAUSE, 0]);

    // If it happens often, that is not measured.
    let mut bench = Bench::new(true);
    bench.run(ONCE, ways);
    let rounds = (0..10 * ONCE).take_while(|_| {
        bench.judge.interrupt();
        bench.run(1, ways)[Way::Roused as usize] == 1
    });
    assert_eq!(rounds.count() as u32, MISSES);
}

#[test]
fn a_way_that_costs_about_as_much_does_not_take_the_place_of_another() {
    let mut bench = Bench::new(true);
    let [_, roused, _] = bench.run(100_000, [(200, 1), (196, 1), (600, 1)]);
    assert!(roused < 3000, "{roused}");
    let mut bench = Bench::new(true);
    bench.run(4 * ONCE, [(200, 1), (150, 1), (600, 1)]);
    let [asleep, ..] = bench.run(100_000, [(200, 1), (204, 1), (600, 1)]);
    assert!(asleep < 3000, "{asleep}");
}

#[test]
fn a_thread_that_cannot_be_roused_is_not_measured_so() {
    let mut bench = Bench::new(true);
    bench.judge.set_can_rouse(false);
    let [_, roused, _] = bench.run(10 * ONCE, [(20, 1), (10, 1), (60, 1)]);
    assert_eq!(roused, 0);
}

#[test]
fn where_waits_cannot_be_measured_the_clocks_are_left_alone() {
    let mut bench = Bench::new(true);
    let ways = [(20, 1), (10, 1), (10, 1)];
    for _ in 0..2 * SAMPLE {
        bench.run(1, ways);
        bench.judge.interrupt();
    }
    assert!(matches!(bench.judge.stage, Stage::Judged(_)));
    assert_eq!(bench.run(100, ways), [100, 0, 0]);
}

#[test]
fn what_costs_much_is_not_tried_for_long() {
    let mut bench = Bench::default();
    bench.wait(ONCE, (20, 1), (60, 1));
    let awake = bench.wait(FIRST, (20, 1), (60, 1));
    assert_eq!(awake, ONCE);
}

#[test]
fn misses_end_a_sample_and_shorten_what_follows() {
    let mut bench = Bench::default();
    bench.wait(ONCE, (20, 1), (10, 1));
    for _ in 0..LONG * MISSES {
        assert_eq!(bench.judge.begin(), Way::Awake);
        bench.judge.miss();
    }
    assert_eq!(bench.wait(FIRST, (20, 1), (10, 1)), 0, "lost");

    let mut bench = Bench::default();
    bench.wait(ONCE + LONG_ONCE, (20, 1), (10, 1));
    assert_eq!(bench.judge.begin(), Way::Awake);
    bench.judge.miss();
    assert_eq!(bench.wait(ONCE, (20, 1), (10, 1)), 0, "measured again");
}

#[test]
fn what_comes_in_pieces_is_measured_by_its_bytes() {
    let mut bench = Bench::default();
    let awake = bench.wait(100_000, (10, 50), (9, 50));
    assert!(awake > 98_000, "{awake}");
    let mut bench = Bench::default();
    let awake = bench.wait(100_000, (10, 50), (10, 40));
    assert!(awake < 6000, "{awake}");
}

#[test]
fn interruptions_are_not_measured_and_end_a_sample_awake() {
    let mut bench = Bench::default();
    bench.wait(ONCE - 1, (20, 1), (10, 1));
    bench.judge.interrupt();
    bench.spent += Duration::from_secs(3600);
    bench.wait(1 + STRIDE, (20, 1), (24, 1));
    let awake = bench.wait(LONG_ONCE + FIRST, (20, 1), (24, 1));
    assert!(awake < LONG_ONCE, "not measured as an hour");

    let mut bench = Bench::default();
    bench.wait(ONCE, (20, 1), (10, 1));
    let rounds = (0..10 * ONCE).take_while(|_| {
        bench.judge.interrupt();
        bench.wait(1, (20, 1), (10, 1)) == 1
    });
    assert_eq!(rounds.count() as u32, LONG * MISSES);
}

#[test]
fn time_in_which_others_poll_is_not_measured() {
    let mut judge = Judge::new(true);
    for at in 0..10 * u64::from(ONCE) {
        assert_eq!(judge.begin(), Way::Asleep);
        let time = Duration::from_micros(at);
        let mut moment = moment(time, Instant::now());
        moment.others = Some(moment.at);
        judge.hit(at, || Some(moment));
    }
}

/// Runs `hit` on another thread if `is_elsewhere`.
fn hit(judge: &mut Judge, progress: u64, moment: Moment, is_elsewhere: bool) {
    let mut hit = || judge.hit(progress, || Some(moment));
    if is_elsewhere {
        thread::scope(|scope| scope.spawn(hit).join().unwrap());
    } else {
        hit();
    }
}

#[test]
fn waits_that_end_on_another_thread_are_misses() {
    let mut bench = Bench::default();
    bench.wait(ONCE, (20, 1), (10, 1));
    for at in 0..u64::from(LONG * MISSES) {
        assert_eq!(bench.judge.begin(), Way::Awake);
        let moment = moment(bench.spent, bench.at);
        hit(&mut bench.judge, bench.progress + at, moment, at % 2 == 1);
    }
    // The next one begins elsewhere than the last one has ended.
    bench.wait(1, (20, 1), (10, 1));
    assert_eq!(bench.wait(FIRST, (20, 1), (10, 1)), 0, "lost");
}

#[test]
fn waits_that_begin_on_another_thread_are_misses() {
    let mut bench = Bench::default();
    bench.wait(ONCE, (20, 1), (10, 1));
    let (judge, moment) = (&mut bench.judge, moment(bench.spent, bench.at));
    let mut wait = |at| {
        assert_eq!(judge.begin(), Way::Awake);
        judge.hit(bench.progress + at, || Some(moment));
    };
    for at in 0..u64::from(LONG * MISSES) + 1 {
        if at % 2 == 1 {
            thread::scope(|scope| scope.spawn(|| wait(at)).join().unwrap());
        } else {
            wait(at);
        }
    }
    assert_eq!(bench.wait(FIRST, (20, 1), (10, 1)), 0, "lost");
}

#[test]
fn waits_asleep_that_end_on_another_thread_are_not_measured() {
    let mut judge = Judge::new(true);
    for at in 0..10 * u64::from(ONCE) {
        assert_eq!(judge.begin(), Way::Asleep, "nothing is known");
        let moment = moment(Duration::from_micros(at), Instant::now());
        hit(&mut judge, at, moment, at % 2 == 1);
    }
}

#[test]
fn the_clocks_are_read_once_in_some_waits() {
    let mut judge = Judge::new(true);
    let mut reads = 0;
    for at in 0..u64::from(ONCE) {
        judge.begin();
        judge.hit(at, || {
            reads += 1;
            Some(moment(Duration::from_micros(at), Instant::now()))
        });
    }
    assert_eq!(reads, ONCE / STRIDE);
}

#[test]
fn a_server_has_time_to_keep_pace() {
    let (asleep, slow, fast) = ((20, 1), (26, 1), (10, 1));
    let mut bench = Bench::default();
    bench.wait(ONCE, asleep, slow);
    let settling = STRIDE + LONG * SAMPLE;
    assert_eq!(bench.wait(settling, asleep, slow), settling);
    let all = LONG_ONCE - settling + FIRST;
    assert_eq!(bench.wait(all, asleep, fast), all);
}

#[test]
fn without_a_clock_every_wait_is_asleep() {
    let mut judge = Judge::new(true);
    for at in 0..10 * u64::from(ONCE) {
        assert_eq!(judge.begin(), Way::Asleep);
        judge.hit(at, || None);
    }
}

#[cfg(unix)]
#[test]
fn the_processor_time_of_this_thread_is_known() {
    let before = Moment::now(None).unwrap();
    while Moment::now(None).unwrap().spent == before.spent {
        std::hint::spin_loop();
    }
}
