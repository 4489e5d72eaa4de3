//! Judges by the processor time that waits take whether they should be awake.

use std::thread;

use super::sample::{Moment, Sample, WARM_UP};

/// The number of waits asleep that are measured. As much progress is then measured awake.
const SAMPLE: u32 = 64;
/// The number of misses that end the measurement of waits awake, the warm-up included. A wait that
/// ends on another thread is a miss, too: to wake that thread takes processor time that is not measured.
const MISSES: u32 = 8;
/// A verdict that differs from the last one holds for so many waits.
const FIRST: u32 = 512;
/// A verdict that confirms the last one holds for so many times as many waits.
const GROWTH: u32 = 4;
/// A verdict holds for so many waits at most.
const MOST: u32 = 8192;

/// Measures some waits asleep and some awake, then has waits begin awake if that takes hardly more
/// processor time for the same progress, and after a while measures again.
///
/// The processor time is that of the thread on which the driver runs, from one wait to the next: for
/// waiting and reading, and for tasks of callers, which take as long either way.
#[derive(Debug)]
pub(super) struct Judge {
    stage: Stage,
    /// The last verdict.
    is_awake: bool,
    /// For how many waits it holds, or held.
    term: u32,
}

#[derive(Debug)]
enum Stage {
    /// Waits asleep are being measured.
    Asleep(Sample),
    /// Waits awake are being measured, after waits asleep.
    Awake(Sample, Sample),
    /// The last verdict holds for so many more waits.
    Judged(u32),
}

impl Default for Judge {
    fn default() -> Self {
        Self {
            stage: Stage::Asleep(Sample::default()),
            is_awake: false,
            term: FIRST / GROWTH,
        }
    }
}

impl Judge {
    /// Returns whether the wait that begins now should be awake.
    pub(super) fn begin(&mut self) -> bool {
        match &mut self.stage {
            Stage::Asleep(_) => false,
            Stage::Awake(sample, _) => {
                sample.began_on = Some(thread::current().id());
                true
            }
            Stage::Judged(0) => {
                self.stage = Stage::Asleep(Sample::default());
                false
            }
            Stage::Judged(left) => {
                *left -= 1;
                self.is_awake
            }
        }
    }

    /// Notes that data came at the end of a wait. `progress` is what had come before, since the
    /// connection began.
    pub(super) fn hit(&mut self, progress: u64, now: impl FnOnce() -> Option<Moment>) {
        match &mut self.stage {
            Stage::Asleep(sample) => {
                sample.add(progress, now);
                if sample.waits >= WARM_UP + SAMPLE && sample.progress > 0 {
                    self.stage = Stage::Awake(Sample::default(), std::mem::take(sample));
                }
            }
            Stage::Awake(sample, asleep) => {
                sample.add(progress, now);
                if sample.misses >= MISSES || sample.exceeds(asleep) {
                    self.decide(false);
                } else if sample.progress >= asleep.progress {
                    self.decide(true);
                }
            }
            Stage::Judged(_) => {}
        }
    }

    /// Notes that a wait that began awake goes on asleep.
    pub(super) fn miss(&mut self) {
        match &mut self.stage {
            Stage::Asleep(_) => {}
            Stage::Awake(sample, _) => {
                sample.misses += 1;
                if sample.misses >= MISSES {
                    self.decide(false);
                }
            }
            // Enough of them, and it is time to measure again.
            Stage::Judged(left) => *left = left.saturating_sub(FIRST),
        }
    }

    /// Leaves what happens until the next wait out of what is measured.
    pub(super) fn interrupt(&mut self) {
        match &mut self.stage {
            Stage::Asleep(sample) => sample.last = None,
            // If this happens often, the waits awake would never be measured.
            Stage::Awake(sample, _) => {
                if sample.last.take().is_some() {
                    self.miss();
                }
            }
            Stage::Judged(_) => {}
        }
    }

    fn decide(&mut self, is_awake: bool) {
        self.term = if is_awake == self.is_awake {
            (self.term * GROWTH).min(MOST)
        } else {
            FIRST
        };
        self.is_awake = is_awake;
        self.stage = Stage::Judged(self.term);
    }
}

#[cfg(test)]
mod tests {
    use std::thread::ThreadId;
    use std::time::{Duration, Instant};

    use super::*;

    fn moment(thread: ThreadId, spent: Duration) -> Moment {
        Moment {
            thread,
            spent,
            at: Instant::now(),
            others: None,
        }
    }

    /// A server, and a client that waits for it as its judge says.
    #[derive(Default)]
    struct Bench {
        judge: Judge,
        progress: u64,
        spent: Duration,
    }

    impl Bench {
        /// Waits so many times. A wait takes some microseconds asleep and some awake, and brings so
        /// much progress. Returns how many of the waits were awake.
        fn wait(
            &mut self,
            times: u32,
            (asleep, one): (u64, u64),
            (awake, other): (u64, u64),
        ) -> u32 {
            let mut count = 0;
            for _ in 0..times {
                let is_awake = self.judge.begin();
                count += u32::from(is_awake);
                let (time, progress) = if is_awake {
                    (awake, other)
                } else {
                    (asleep, one)
                };
                self.spent += Duration::from_micros(time);
                self.progress += progress;
                let thread = thread::current().id();
                let moment = moment(thread, self.spent);
                self.judge.hit(self.progress, || Some(moment));
            }
            count
        }
    }

    /// The waits of one sample. The first that is measured begins at the end of another.
    const ONCE: u32 = WARM_UP + 1 + SAMPLE;

    #[test]
    fn the_cheaper_way_is_taken() {
        let mut bench = Bench::default();
        assert_eq!(bench.wait(ONCE, (20, 1), (10, 1)), 0, "first asleep");
        assert_eq!(bench.wait(ONCE + FIRST, (20, 1), (10, 1)), ONCE + FIRST);
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
    fn as_much_and_a_little_more_is_allowed() {
        let mut bench = Bench::default();
        let awake = bench.wait(100_000, (20, 1), (22, 1));
        assert!(awake > 98_000, "{awake}");
        let mut bench = Bench::default();
        let awake = bench.wait(100_000, (20, 1), (24, 1));
        assert!(awake < 1000, "{awake}");
    }

    #[test]
    fn what_costs_much_is_not_tried_for_long() {
        let mut bench = Bench::default();
        bench.wait(ONCE, (20, 1), (60, 1));
        let awake = bench.wait(FIRST, (20, 1), (60, 1));
        assert!(awake < WARM_UP + 10, "{awake}");
    }

    #[test]
    fn misses_end_a_sample_and_shorten_what_follows() {
        let mut bench = Bench::default();
        bench.wait(ONCE, (20, 1), (10, 1));
        for _ in 0..MISSES {
            assert!(bench.judge.begin());
            bench.judge.miss();
        }
        assert_eq!(bench.wait(FIRST, (20, 1), (10, 1)), 0, "lost");

        let mut bench = Bench::default();
        bench.wait(2 * ONCE, (20, 1), (10, 1));
        assert!(bench.judge.begin());
        bench.judge.miss();
        assert_eq!(bench.wait(ONCE, (20, 1), (10, 1)), 0, "measured again");
    }

    #[test]
    fn what_comes_in_pieces_is_measured_by_its_bytes() {
        let mut bench = Bench::default();
        let awake = bench.wait(100_000, (10, 50), (10, 50));
        assert!(awake > 98_000, "{awake}");
        let mut bench = Bench::default();
        let awake = bench.wait(100_000, (10, 50), (10, 40));
        assert!(awake < 1000, "{awake}");
    }

    #[test]
    fn interruptions_are_not_measured_and_end_a_sample_awake() {
        let mut bench = Bench::default();
        bench.wait(ONCE - 1, (20, 1), (10, 1));
        bench.judge.interrupt();
        bench.spent += Duration::from_secs(3600);
        bench.wait(2, (20, 1), (24, 1));
        assert!(
            bench.wait(ONCE, (20, 1), (24, 1)) < ONCE,
            "not measured as an hour"
        );

        let mut bench = Bench::default();
        bench.wait(ONCE, (20, 1), (10, 1));
        let rounds = (0..10 * ONCE).take_while(|_| {
            bench.judge.interrupt();
            bench.wait(1, (20, 1), (10, 1)) == 1
        });
        assert_eq!(rounds.count() as u32, WARM_UP + MISSES);
    }

    #[test]
    fn time_in_which_others_poll_is_not_measured() {
        let mut judge = Judge::default();
        for at in 0..10 * u64::from(ONCE) {
            assert!(!judge.begin());
            let mut moment = moment(thread::current().id(), Duration::from_micros(at));
            moment.others = Some(moment.at);
            judge.hit(at, || Some(moment));
        }
    }

    #[test]
    fn waits_that_end_on_another_thread_are_misses() {
        let mut bench = Bench::default();
        bench.wait(ONCE, (20, 1), (10, 1));
        let here = thread::current().id();
        let other = thread::spawn(|| thread::current().id()).join().unwrap();
        for at in 0..u64::from(WARM_UP + MISSES) + 1 {
            assert!(bench.judge.begin());
            let thread = if at % 2 == 0 { here } else { other };
            let moment = moment(thread, bench.spent);
            bench.judge.hit(bench.progress + at, || Some(moment));
        }
        assert_eq!(bench.wait(FIRST, (20, 1), (10, 1)), 0, "lost");
    }

    #[test]
    fn waits_asleep_that_end_on_another_thread_are_not_measured() {
        let mut judge = Judge::default();
        let here = thread::current().id();
        let other = thread::spawn(|| thread::current().id()).join().unwrap();
        for at in 0..10 * u64::from(ONCE) {
            assert!(!judge.begin(), "nothing is known");
            let thread = if at % 2 == 0 { here } else { other };
            judge.hit(at, || Some(moment(thread, Duration::from_micros(at))));
        }
    }

    #[test]
    fn without_a_clock_every_wait_is_asleep() {
        let mut judge = Judge::default();
        for at in 0..10 * u64::from(ONCE) {
            assert!(!judge.begin());
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
}
