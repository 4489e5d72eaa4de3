//! Judges by the processor time that waits take whether they should be awake.

use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::platform;

/// The number of waits that are measured each way.
const SAMPLE: u32 = 64;
/// The number of waits before them that are not: a server that has slept between the requests of a
/// client that sleeps needs some to keep pace with one that does not.
const WARM_UP: u32 = 16;
/// Waits awake may take as much more processor time than waits asleep as so many messages take. More
/// ends their sample.
const ALLOWANCE: u64 = 8;
/// The number of misses that end a sample of waits awake. One that ended on another thread is a miss,
/// too: to wake that thread takes processor time that is not measured.
const MISSES: u32 = 8;
/// The number of waits that follow the first verdict, and every verdict that differs from the last.
const FIRST: u32 = 512;
/// How many times as many follow a verdict that confirms the last one, and the most that follow any.
const GROWTH: u32 = 4;
const LONGEST: u32 = 8192;

/// Measures some waits asleep and some awake, then has waits begin the way that takes less processor
/// time per message, and after a while measures again.
///
/// The processor time is that of the thread on which the driver runs: for waiting and reading, and
/// for tasks of callers, which take as long either way.
#[derive(Debug)]
pub(super) struct Judge {
    stage: Stage,
    /// The last verdict.
    is_awake: bool,
    /// How many waits were to follow it.
    followed: u32,
}

#[derive(Debug)]
enum Stage {
    /// Waits asleep are being measured.
    Asleep(Sample),
    /// Waits awake are being measured. Those asleep took this time per message.
    Awake(Sample, Duration),
    /// So many waits are left that follow the last verdict.
    Judged(u32),
}

impl Default for Judge {
    fn default() -> Self {
        Self {
            stage: Stage::Asleep(Sample::default()),
            is_awake: false,
            followed: FIRST / GROWTH,
        }
    }
}

impl Judge {
    /// Returns whether the wait that begins now should be awake.
    pub(super) fn begin(&mut self) -> bool {
        match &mut self.stage {
            Stage::Asleep(_) => false,
            Stage::Awake(..) => true,
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

    /// Notes that data came at the end of a wait, after `messages` messages since the connection
    /// began.
    pub(super) fn hit(&mut self, messages: u64, now: impl FnOnce() -> Option<Moment>) {
        match &mut self.stage {
            Stage::Asleep(sample) => {
                sample.add(messages, now);
                if sample.is_complete() {
                    self.stage = Stage::Awake(Sample::default(), sample.per_message());
                }
            }
            Stage::Awake(sample, asleep) => {
                sample.add(messages, now);
                if sample.has_failed() || sample.exceeds(*asleep) {
                    self.decide(false);
                } else if sample.is_complete() {
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
                if sample.has_failed() {
                    self.decide(false);
                }
            }
            // Enough of them, and it is time to measure again.
            Stage::Judged(left) => *left = left.saturating_sub(FIRST),
        }
    }

    fn decide(&mut self, is_awake: bool) {
        self.followed = if is_awake == self.is_awake {
            (self.followed * GROWTH).min(LONGEST)
        } else {
            FIRST
        };
        self.is_awake = is_awake;
        self.stage = Stage::Judged(self.followed);
    }
}

/// The processor time that a thread has taken so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    thread: ThreadId,
    time: Duration,
}

impl Moment {
    /// Returns that of this thread, if the system knows it.
    pub(super) fn now() -> Option<Self> {
        Some(Self {
            thread: thread::current().id(),
            time: platform::thread_time()?,
        })
    }
}

/// The processor time and the messages of some waits.
#[derive(Debug, Default)]
struct Sample {
    /// The waits of the warm-up and those that were measured.
    waits: u32,
    /// Waits awake that went on asleep, and waits that ended on another thread than the one before.
    misses: u32,
    /// The end of the last wait, and the number of messages before it.
    last: Option<(Moment, u64)>,
    time: Duration,
    messages: u64,
}

impl Sample {
    /// Measures a wait, unless it belongs to the warm-up or the driver has moved to another thread.
    fn add(&mut self, messages: u64, now: impl FnOnce() -> Option<Moment>) {
        if self.waits < WARM_UP {
            self.waits += 1;
            return;
        }
        let Some(now) = now() else { return };
        match self.last.replace((now, messages)) {
            Some((last, before)) if last.thread == now.thread => {
                self.waits += 1;
                self.time += now.time.saturating_sub(last.time);
                self.messages += messages - before;
            }
            Some(_) => self.misses += 1,
            None => {}
        }
    }

    fn is_complete(&self) -> bool {
        self.waits >= WARM_UP + SAMPLE && self.messages > 0
    }

    fn has_failed(&self) -> bool {
        self.misses >= MISSES
    }

    fn per_message(&self) -> Duration {
        self.time / u32::try_from(self.messages).unwrap_or(u32::MAX)
    }

    /// Returns whether the messages have taken too much more than `asleep` each.
    fn exceeds(&self, asleep: Duration) -> bool {
        let allowed = u32::try_from(self.messages + ALLOWANCE).unwrap_or(u32::MAX);
        self.time > asleep.saturating_mul(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server, and a client that waits for it as its judge says.
    #[derive(Default)]
    struct Bench {
        judge: Judge,
        messages: u64,
        spent: Duration,
    }

    impl Bench {
        /// Waits so many times. A wait takes some microseconds asleep and some awake, and brings so
        /// many messages. Returns how many of the waits were awake.
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
                let (time, messages) = if is_awake {
                    (awake, other)
                } else {
                    (asleep, one)
                };
                self.spent += Duration::from_micros(time);
                self.messages += messages;
                self.judge.hit(self.messages, || {
                    Some(Moment {
                        thread: thread::current().id(),
                        time: self.spent,
                    })
                });
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
        bench.wait(LONGEST + 2 * ONCE, (20, 1), (10, 1));
        assert_eq!(bench.wait(FIRST / 2, (20, 1), (10, 1)), FIRST / 2);
    }

    #[test]
    fn to_sleep_for_several_messages_at_once_is_cheaper() {
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
    fn waits_that_end_on_another_thread_are_misses() {
        let mut bench = Bench::default();
        bench.wait(ONCE, (20, 1), (10, 1));
        let here = thread::current().id();
        let other = thread::spawn(|| thread::current().id()).join().unwrap();
        for at in 0..u64::from(WARM_UP + MISSES) + 1 {
            assert!(bench.judge.begin());
            let thread = if at % 2 == 0 { here } else { other };
            let time = bench.spent;
            bench
                .judge
                .hit(bench.messages + at, || Some(Moment { thread, time }));
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
            let time = Duration::from_micros(at);
            judge.hit(at, || Some(Moment { thread, time }));
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
        let before = Moment::now().unwrap();
        while Moment::now().unwrap().time == before.time {
            std::hint::spin_loop();
        }
    }
}
