//! Judges by the processor time that waits take how to wait.

use std::thread;

use super::sample::{Moment, Sample};

/// The number of waits asleep that are measured.
const SAMPLE: u32 = 64;
/// How many times as much progress as asleep is made awake before waits awake are measured, and how many
/// times as much is measured then. Threads of a server that have been waiting for one another need so long
/// to keep pace with a client that does not sleep.
const LONG: u32 = 8;
/// The number of misses that end a trial roused, and so many times more one that is longer: of waits that
/// could not be measured, and of those that began awake and went on asleep. A wait awake that begins or
/// ends on another thread is one, too: to wake that thread takes processor time that is not measured.
const MISSES: u32 = 8;
/// A verdict that differs from the last one holds for so many waits.
const FIRST: u32 = 512;
/// A verdict that confirms the last one holds for so many times as many waits.
const GROWTH: u32 = 8;
/// A verdict holds for so many waits at most.
const MOST: u32 = 32_768;
/// Settling is given up if its [cost](Sample::cost) is so many times that of the best way so far.
const HOPELESS: f64 = 2.0;
/// A way must cost so much less than the last one to take its place.
const BETTER: f64 = 0.9;
/// After more than a few requests in flight, so many waits are asleep before the thread is roused again.
const PAUSE: u32 = 64;

/// A way to wait for replies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Way {
    /// Asleep until data comes.
    Asleep,
    /// Asleep, but roused when the server takes a request.
    Roused,
    /// Polling.
    Awake,
}

/// Waits that are measured, one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trial {
    Asleep,
    Roused,
    /// Awake, until the server keeps pace.
    Settling,
    Awake,
}

impl Trial {
    /// Those that count for the verdict.
    const COUNTED: [Self; 3] = [Self::Asleep, Self::Roused, Self::Awake];

    const fn way(self) -> Way {
        match self {
            Self::Asleep => Way::Asleep,
            Self::Roused => Way::Roused,
            Self::Settling | Self::Awake => Way::Awake,
        }
    }

    /// How many times as much progress is measured as asleep.
    const fn size(self) -> u32 {
        match self {
            Self::Asleep | Self::Roused => 1,
            Self::Settling | Self::Awake => LONG,
        }
    }

    /// The number of misses that end it.
    const fn misses(self) -> u32 {
        match self {
            // Where not even waits asleep can be measured, nothing is known of other ways.
            Self::Asleep => SAMPLE,
            _ => MISSES * self.size(),
        }
    }
}

/// Measures some waits in each way, then has the connection wait in the way that pays most, and after a
/// while measures again. Ways that take more processor time than asleep, for the same progress, do not
/// pay, unless it is hardly more and they are faster.
///
/// The processor time is that of the thread on which the driver runs, from one wait to the next: for
/// waiting and reading, and for tasks of callers, which take as long either way.
#[derive(Debug)]
pub(super) struct Judge {
    can_rouse: bool,
    stage: Stage,
    /// The waits that are being measured, one for each [`Trial`].
    samples: [Sample; 4],
    /// The last verdict.
    way: Way,
    /// For how many waits it holds, or held.
    term: u32,
    /// So many waits more are asleep instead of roused.
    pause: u32,
}

#[derive(Debug)]
enum Stage {
    /// These waits are being measured.
    Measuring(Trial),
    /// The last verdict holds for so many more waits.
    Judged(u32),
}

impl Judge {
    /// Creates the judge of a connection whose thread can be roused, or not.
    pub(super) fn new(can_rouse: bool) -> Self {
        Self {
            can_rouse,
            stage: Stage::Measuring(Trial::Asleep),
            samples: Default::default(),
            way: Way::Asleep,
            term: FIRST / GROWTH,
            pause: 0,
        }
    }

    /// Notes that the thread cannot be roused any more.
    pub(super) const fn set_can_rouse(&mut self, can_rouse: bool) {
        self.can_rouse = can_rouse;
    }

    /// Returns how to wait now.
    pub(super) fn begin(&mut self) -> Way {
        match &mut self.stage {
            Stage::Measuring(trial) => {
                let sample = &mut self.samples[*trial as usize];
                sample.has_begun = true;
                if trial.way() == Way::Awake {
                    sample.be_on(thread::current().id());
                }
                trial.way()
            }
            Stage::Judged(0) => {
                self.samples = Default::default();
                self.stage = Stage::Measuring(Trial::Asleep);
                Way::Asleep
            }
            Stage::Judged(left) => {
                *left -= 1;
                if self.way == Way::Roused && self.pause > 0 {
                    self.pause -= 1;
                    return Way::Asleep;
                }
                self.way
            }
        }
    }

    /// Notes that data came at the end of a wait. `progress` is what had come before, since the
    /// connection began.
    pub(super) fn hit(&mut self, progress: u64, now: impl FnOnce() -> Option<Moment>) {
        let Stage::Measuring(trial) = self.stage else {
            return;
        };
        self.samples[trial as usize].add(progress, now);
        if self.is_over(trial) {
            self.go_on(trial);
        }
    }

    fn is_over(&self, trial: Trial) -> bool {
        let [asleep, ..] = &self.samples;
        let sample = &self.samples[trial as usize];
        let is_long = sample.measured >= SAMPLE;
        match trial {
            _ if sample.misses >= trial.misses() => true,
            Trial::Asleep => is_long && sample.progress > 0,
            _ if sample.is_done(asleep, trial.size()) => true,
            Trial::Settling => is_long && sample.cost() > HOPELESS * self.best().1,
            Trial::Roused | Trial::Awake => sample.exceeds(asleep, trial.size()),
        }
    }

    /// Notes that a wait that began awake goes on asleep.
    pub(super) fn miss(&mut self) {
        match self.stage {
            Stage::Measuring(trial) => self.count_miss(trial),
            // Enough of them, and it is time to measure again.
            Stage::Judged(left) => self.stage = Stage::Judged(left.saturating_sub(FIRST)),
        }
    }

    fn count_miss(&mut self, trial: Trial) {
        let sample = &mut self.samples[trial as usize];
        sample.misses += 1;
        if trial != Trial::Asleep && sample.misses >= trial.misses() {
            self.go_on(trial);
        }
    }

    /// Leaves what happens until the next wait out of what is measured.
    pub(super) fn interrupt(&mut self) {
        let Stage::Measuring(trial) = self.stage else {
            return;
        };
        let sample = &mut self.samples[trial as usize];
        sample.last = None;
        // If this happens often, the measurement would never end.
        if std::mem::take(&mut sample.has_begun) {
            self.count_miss(trial);
        }
    }

    /// Has the connection wait asleep instead of roused, for some waits.
    pub(super) const fn pause_rousing(&mut self) {
        self.pause = PAUSE;
    }

    /// Goes on to the next trial, or judges.
    fn go_on(&mut self, ended: Trial) {
        let [asleep, ..] = &self.samples;
        let next = match ended {
            Trial::Asleep if asleep.misses >= ended.misses() => return self.decide(),
            Trial::Asleep if self.can_rouse => Trial::Roused,
            Trial::Asleep | Trial::Roused => Trial::Settling,
            Trial::Settling if self.samples[ended as usize].is_done(asleep, LONG) => Trial::Awake,
            Trial::Settling | Trial::Awake => return self.decide(),
        };
        self.stage = Stage::Measuring(next);
    }

    /// Returns the way that has cost least of those that pay, and what it has cost.
    fn best(&self) -> (Way, f64) {
        let [asleep, ..] = &self.samples;
        Trial::COUNTED
            .into_iter()
            .map(|trial| (trial, &self.samples[trial as usize]))
            .filter(|(trial, sample)| sample.pays(asleep, trial.size()))
            .map(|(trial, sample)| {
                let way = trial.way();
                let factor = if way == self.way { BETTER } else { 1.0 };
                (way, sample.cost() * factor)
            })
            .min_by(|(_, one), (_, other)| one.total_cmp(other))
            .unwrap_or((Way::Asleep, f64::INFINITY))
    }

    fn decide(&mut self) {
        let (way, _) = self.best();
        self.term = if way == self.way {
            (self.term * GROWTH).min(MOST)
        } else {
            FIRST
        };
        self.way = way;
        self.stage = Stage::Judged(self.term);
    }
}

#[cfg(test)]
mod tests;
