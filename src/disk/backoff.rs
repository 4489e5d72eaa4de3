//! How long to wait before connecting again.

use std::time::Duration;

use tokio::time::Instant;

use super::policy::Retry;

/// A connection that lived less than this does not set the delay back.
const SHORT: Duration = Duration::from_secs(5);

/// The delays between attempts.
#[derive(Debug)]
pub(super) struct Backoff {
    retry: Retry,
    attempt: u32,
    /// When the last link was lost.
    since: Option<Instant>,
    /// When the last connection was made.
    connected: Instant,
}

impl Backoff {
    pub(super) fn new(retry: Retry) -> Self {
        Self {
            retry,
            attempt: 0,
            since: None,
            connected: Instant::now(),
        }
    }

    /// The last link was lost.
    pub(super) fn lost(&mut self) {
        if self.connected.elapsed() >= SHORT {
            self.attempt = 0;
        }
        self.since.get_or_insert_with(Instant::now);
    }

    /// A connection was made. Returns how long there was none.
    pub(super) fn recovered(&mut self) -> Option<Duration> {
        self.connected = Instant::now();
        self.since.take().map(|since| since.elapsed())
    }

    /// When to give up.
    pub(super) fn end(&self) -> Instant {
        let since = self.since.unwrap_or_else(Instant::now);
        crate::driver::timer::since(since, self.retry.outage)
    }

    /// Returns the number of the next attempt and the delay before it, unless it is time to give up.
    pub(super) fn next(&mut self) -> Option<(u32, Duration)> {
        if self.attempt >= self.retry.attempts {
            return None;
        }
        self.attempt += 1;
        let delay = self.retry.bound(self.attempt).mul_f64(random());
        (Instant::now() + delay < self.end()).then_some((self.attempt, delay))
    }
}

/// Returns a random number from 0 to 1, so that clients of one server do not come back all at once.
fn random() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(0_u8) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}
