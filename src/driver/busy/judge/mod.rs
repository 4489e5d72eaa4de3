//! Judges by the processor time that waits take how to wait.

use std::thread;

use super::sample::{Moment, Sample, WARM_UP};

/// The number of waits asleep that are measured. As much progress is then measured in other ways.
const SAMPLE: u32 = 64;
/// The number of misses that end the measurement of another way, the warm-up included: of waits that
/// could not be measured, and of those that began awake and went on asleep. A wait awake that ends on
/// another thread is one, too: to wake that thread takes processor time that is not measured.
const MISSES: u32 = 8;
/// A verdict that differs from the last one holds for so many waits.
const FIRST: u32 = 512;
/// A verdict that confirms the last one holds for so many times as many waits.
const GROWTH: u32 = 4;
/// A verdict holds for so many waits at most.
const MOST: u32 = 8192;
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

impl Way {
    const ALL: [Self; 3] = [Self::Asleep, Self::Roused, Self::Awake];
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
    /// The waits that are being measured, in the order of [`Way::ALL`].
    samples: [Sample; 3],
    /// The last verdict.
    way: Way,
    /// So many waits more are asleep instead of roused.
    pause: u32,
    /// For how many waits it holds, or held.
    term: u32,
}

#[derive(Debug)]
enum Stage {
    /// Waits in this way are being measured.
    Measuring(Way),
    /// The last verdict holds for so many more waits.
    Judged(u32),
}

impl Judge {
    /// Creates the judge of a connection whose thread can be roused, or not.
    pub(super) fn new(can_rouse: bool) -> Self {
        Self {
            can_rouse,
            stage: Stage::Measuring(Way::Asleep),
            samples: Default::default(),
            way: Way::Asleep,
            pause: 0,
            term: FIRST / GROWTH,
        }
    }

    /// Notes that the thread cannot be roused any more.
    pub(super) const fn set_can_rouse(&mut self, can_rouse: bool) {
        self.can_rouse = can_rouse;
    }

    /// Returns how to wait now.
    pub(super) fn begin(&mut self) -> Way {
        match &mut self.stage {
            Stage::Measuring(way) => {
                let sample = &mut self.samples[*way as usize];
                sample.has_begun = true;
                if *way == Way::Awake {
                    sample.began_on = Some(thread::current().id());
                }
                *way
            }
            Stage::Judged(0) => {
                self.samples = Default::default();
                self.stage = Stage::Measuring(Way::Asleep);
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
        let Stage::Measuring(way) = self.stage else {
            return;
        };
        let [asleep, rest @ ..] = &mut self.samples;
        let is_over = match way {
            Way::Asleep => {
                asleep.add(progress, now);
                // Where not even waits asleep can be measured, nothing is known of other ways.
                if asleep.misses >= SAMPLE {
                    return self.decide();
                }
                asleep.waits >= WARM_UP + SAMPLE && asleep.progress > 0
            }
            _ => {
                let sample = &mut rest[way as usize - 1];
                sample.add(progress, now);
                sample.misses >= MISSES
                    || sample.exceeds(asleep)
                    || sample.progress >= asleep.progress
            }
        };
        if is_over {
            self.go_on(way);
        }
    }

    /// Notes that a wait that began awake goes on asleep.
    pub(super) fn miss(&mut self) {
        match self.stage {
            Stage::Measuring(way) => self.count_miss(way),
            // Enough of them, and it is time to measure again.
            Stage::Judged(left) => self.stage = Stage::Judged(left.saturating_sub(FIRST)),
        }
    }

    fn count_miss(&mut self, way: Way) {
        let sample = &mut self.samples[way as usize];
        sample.misses += 1;
        if way != Way::Asleep && sample.misses >= MISSES {
            self.go_on(way);
        }
    }

    /// Leaves what happens until the next wait out of what is measured.
    pub(super) fn interrupt(&mut self) {
        let Stage::Measuring(way) = self.stage else {
            return;
        };
        let sample = &mut self.samples[way as usize];
        sample.last = None;
        // If this happens often, the measurement would never end.
        if std::mem::take(&mut sample.has_begun) {
            self.count_miss(way);
        }
    }

    /// Has the connection wait asleep instead of roused, for some waits.
    pub(super) const fn pause_rousing(&mut self) {
        self.pause = PAUSE;
    }

    /// Measures the next way, or judges.
    fn go_on(&mut self, measured: Way) {
        let next = match measured {
            Way::Asleep if self.can_rouse => Way::Roused,
            Way::Asleep | Way::Roused => Way::Awake,
            Way::Awake => return self.decide(),
        };
        self.stage = Stage::Measuring(next);
    }

    fn decide(&mut self) {
        let [asleep, ..] = &self.samples;
        let measured = Way::ALL.into_iter().zip(&self.samples);
        let costs = measured
            .filter(|(_, sample)| sample.pays(asleep))
            .map(|(way, sample)| {
                let factor = if way == self.way { BETTER } else { 1.0 };
                (way, sample.cost() * factor)
            });
        let way = costs
            .min_by(|(_, one), (_, other)| one.total_cmp(other))
            .map_or(Way::Asleep, |(way, _)| way);
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
