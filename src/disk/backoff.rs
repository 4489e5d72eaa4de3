//! How long to wait before connecting again.

use std::time::Duration;

use tokio::time::Instant;

use super::policy::Retry;
use crate::error::Attempts;

/// A connection that lived less than this does not set the delay back.
const SHORT: Duration = Duration::from_secs(5);

/// The most time that is left for the last attempt.
const LAST: Duration = Duration::from_secs(1);

/// The delays between attempts.
#[derive(Debug)]
pub(super) struct Backoff {
    retry: Retry,
    /// How many attempts made the bound of the delay grow.
    attempt: u32,
    /// How many attempts were made since the last link was lost.
    tried: u32,
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
            tried: 0,
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
        self.tried = 0;
        self.since.take().map(|since| since.elapsed())
    }

    /// When to give up.
    pub(super) fn end(&self) -> Instant {
        let since = self.since.unwrap_or_else(Instant::now);
        crate::driver::timer::since(since, self.retry.outage)
    }

    /// Returns the attempts that were made since the last link was lost.
    pub(super) fn attempts(&self) -> Attempts {
        Attempts {
            count: self.tried,
            elapsed: self.since.map(|since| since.elapsed()).unwrap_or_default(),
        }
    }

    /// Returns the number of the next attempt and the delay before it, unless it is time to give up:
    /// the last attempt leaves itself some time.
    pub(super) fn next(&mut self) -> Option<(u32, Duration)> {
        let last = self.end() - LAST.min(self.retry.outage / 10);
        let left = last.saturating_duration_since(Instant::now());
        if self.tried >= self.retry.attempts || left.is_zero() {
            return None;
        }
        self.attempt = self.attempt.saturating_add(1);
        self.tried += 1;
        let delay = self.retry.bound(self.attempt).mul_f64(random());
        Some((self.tried, delay.min(left)))
    }
}

/// Returns a random number from 0 to 1, so that clients of one server do not come back all at once.
fn random() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(0_u8) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes attempts that all fail, until it gives up. Returns their numbers and how long it took.
    async fn attempts(backoff: &mut Backoff) -> (Vec<u32>, Duration) {
        let begun = Instant::now();
        backoff.lost();
        let mut numbers = Vec::new();
        while let Some((number, delay)) = backoff.next() {
            numbers.push(number);
            tokio::time::sleep(delay).await;
        }
        (numbers, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_attempt_is_made_shortly_before_the_end() {
        for (outage, last) in [(3_000, 2_700), (60_000, 59_000)].map(|(outage, last)| {
            let [outage, last] = [outage, last].map(Duration::from_millis);
            (outage, last)
        }) {
            let mut backoff = Backoff::new(Retry::default().outage(outage));
            let (_, took) = attempts(&mut backoff).await;
            // Timers have a resolution of a millisecond.
            let late = took.checked_sub(last).expect("it gives up early");
            assert!(late <= Duration::from_millis(1), "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_counted_from_each_loss() {
        let mut backoff = Backoff::new(Retry::default().attempts(3));
        for _ in 0..3 {
            assert_eq!(attempts(&mut backoff).await.0, [1, 2, 3]);
            backoff.recovered();
        }
        // A connection that lives for a short time does not make the next delay short.
        assert_eq!(backoff.attempt, 9);
    }
}
