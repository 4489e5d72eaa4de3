//! A limit on how fast data is read.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep_until};

/// How many bytes a second a copy may read. It can be changed while the copy runs, and given to
/// several copies, each of which may then read that much.
///
/// ```
/// use nbd_client::RateLimit;
///
/// let limit = RateLimit::new(100 << 20); // 100 MiB a second
/// limit.set(None); // at night
/// assert_eq!(limit.get(), None);
/// ```
#[derive(Clone)]
pub struct RateLimit(Arc<watch::Sender<Option<NonZeroU64>>>);

impl RateLimit {
    /// Makes a limit in bytes a second; `None` and 0 are no limit.
    #[must_use]
    pub fn new(bytes: impl Into<Option<u64>>) -> Self {
        let bytes = bytes.into().and_then(NonZeroU64::new);
        Self(Arc::new(watch::Sender::new(bytes)))
    }

    /// Changes the limit; `None` and 0 are no limit.
    pub fn set(&self, bytes: impl Into<Option<u64>>) {
        self.0.send_replace(bytes.into().and_then(NonZeroU64::new));
    }

    /// Returns the limit in bytes a second.
    #[must_use]
    pub fn get(&self) -> Option<u64> {
        self.0.borrow().map(NonZeroU64::get)
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RateLimit").field(&self.get()).finish()
    }
}

/// Keeps one copy within a limit.
pub(super) struct Pace {
    limit: Option<watch::Receiver<Option<NonZeroU64>>>,
    /// What was read and not paid for by time yet, in bytes.
    debt: u64,
    since: Instant,
}

impl Pace {
    pub(super) fn new(limit: Option<&RateLimit>) -> Self {
        Self {
            limit: limit.map(|limit| limit.0.subscribe()),
            debt: 0,
            since: Instant::now(),
        }
    }

    /// Says that this many bytes are about to be read.
    pub(super) fn spend(&mut self, bytes: u64) {
        if self.limit.is_some() {
            self.debt += bytes;
        }
    }

    /// Waits until more may be read. Can be dropped and called again.
    pub(super) async fn ready(&mut self) {
        let Some(limit) = &mut self.limit else {
            return;
        };
        loop {
            let rate = *limit.borrow_and_update();
            let now = Instant::now();
            let Some(rate) = rate else {
                (self.debt, self.since) = (0, now);
                return;
            };
            let due = Duration::from_secs_f64(self.debt as f64 / rate.get() as f64);
            let until = self.since + due;
            if until <= now {
                (self.debt, self.since) = (0, now);
                return;
            }
            tokio::select! {
                () = sleep_until(until) => {}
                changed = limit.changed() => {
                    // What is owed is so at the old rate for the time that has passed.
                    let paid = self.since.elapsed().as_nanos() * u128::from(rate.get());
                    let paid = u64::try_from(paid / 1_000_000_000).unwrap_or(u64::MAX);
                    self.debt = self.debt.saturating_sub(paid);
                    self.since = Instant::now();
                    if changed.is_err() {
                        self.limit = None;
                        return;
                    }
                }
            }
        }
    }
}
