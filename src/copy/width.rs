//! How much is copied at a time: little where answers come at once, and much where they take long.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// The length of a request in bytes, unless the caller has set it: what is in flight between two
/// programs on one machine is then still in a cache of the processor when it is written.
pub(super) const SHORT: u64 = 256 << 10;

/// The same where answers take long: then the number of requests limits the rate.
pub(super) const LONG: u64 = 1 << 20;

/// Answers take long if none has come this long after the first request. Nothing waits before that
/// one, and then 8 MiB in flight allow less than 540 MiB a second.
const FIRST: Duration = Duration::from_millis(15);

/// Later ones, which wait for what was asked for before, take long if this many take longer than
/// `LATER`: then 8 MiB in flight allow less than 160 MiB a second, for which no processor is busy.
const UNITS: u32 = 16;
const LATER: Duration = Duration::from_millis(50);

/// What is asked for at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// The longest unit of data, in bytes.
    pub(super) step: u64,
    /// How many units are copied at a time.
    pub(super) most: usize,
}

/// The load of a copy, which grows once if answers take long.
#[derive(Debug)]
pub(super) struct Width {
    narrow: Load,
    wide: Load,
    is_wide: AtomicBool,
    widened: Notify,
    has_answers: AtomicBool,
    /// How many units took long, one after the other.
    slow: AtomicU32,
}

impl Width {
    pub(super) const fn new(narrow: Load, wide: Load) -> Self {
        Self {
            narrow,
            wide,
            is_wide: AtomicBool::new(false),
            widened: Notify::const_new(),
            has_answers: AtomicBool::new(false),
            slow: AtomicU32::new(0),
        }
    }

    /// Returns what is to be asked for now.
    pub(super) fn load(&self) -> Load {
        match self.is_wide.load(Ordering::Relaxed) {
            true => self.wide,
            false => self.narrow,
        }
    }

    /// Waits until the load has grown.
    pub(super) async fn widened(&self) {
        self.widened.notified().await;
    }

    /// Copies a unit of data, and looks how long that takes.
    pub(super) async fn timed<T>(&self, work: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let mut work = pin!(work);
        if !self.has_answers.load(Ordering::Relaxed) {
            tokio::select! {
                biased;
                done = work.as_mut() => {
                    self.note(begun.elapsed());
                    return done;
                }
                () = sleep(FIRST) => {}
            }
            if !self.has_answers.load(Ordering::Relaxed) {
                self.widen();
            }
        }
        let done = work.await;
        self.note(begun.elapsed());
        done
    }

    fn note(&self, time: Duration) {
        self.has_answers.store(true, Ordering::Relaxed);
        if time < LATER {
            self.slow.store(0, Ordering::Relaxed);
        } else if self.slow.fetch_add(1, Ordering::Relaxed) + 1 >= UNITS {
            self.widen();
        }
    }

    fn widen(&self) {
        if !self.is_wide.swap(true, Ordering::Relaxed) {
            self.widened.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use tokio::time::timeout;

    use super::*;

    fn width() -> Width {
        let narrow = Load { step: 1, most: 2 };
        Width::new(narrow, Load { step: 3, most: 4 })
    }

    async fn take(width: &Width, millis: u64) -> u64 {
        width.timed(sleep(Duration::from_millis(millis))).await;
        width.load().step
    }

    #[tokio::test(start_paused = true)]
    async fn more_is_asked_for_while_the_first_answer_takes_long() {
        let far = width();
        let unit = far.timed(sleep(Duration::from_millis(16)));
        tokio::join!(unit, async {
            timeout(2 * FIRST, far.widened()).await.unwrap();
            assert!(!far.has_answers.load(Ordering::Relaxed));
        });
        assert_eq!(take(&far, 0).await, 3, "once and for all");
    }

    #[tokio::test(start_paused = true)]
    async fn one_fast_answer_is_enough() {
        let near = width();
        let first = near.timed(sleep(Duration::from_millis(14)));
        tokio::join!(first, near.timed(sleep(Duration::from_millis(40))));
        assert_eq!(near.load().step, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_become_slow_is_noticed() {
        let disk = width();
        disk.timed(ready(())).await;
        for _ in 1..UNITS {
            assert_eq!(take(&disk, 50).await, 1);
        }
        assert_eq!(take(&disk, 49).await, 1, "they wait for each other");
        for _ in 1..UNITS {
            assert_eq!(take(&disk, 50).await, 1);
        }
        assert_eq!(take(&disk, 50).await, 3);
    }
}
