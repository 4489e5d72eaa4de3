//! How long to wait before connecting again. It has no clock: whoever calls says what time it is.

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
    pub(super) const fn new(retry: Retry, now: Instant) -> Self {
        Self {
            retry,
            attempt: 0,
            tried: 0,
            since: None,
            connected: now,
        }
    }

    /// The last link was lost.
    pub(super) fn lost(&mut self, now: Instant) {
        if now.saturating_duration_since(self.connected) >= SHORT {
            self.attempt = 0;
        }
        self.since.get_or_insert(now);
    }

    /// A connection was made. Returns how long there was none.
    pub(super) fn recovered(&mut self, now: Instant) -> Option<Duration> {
        self.connected = now;
        self.tried = 0;
        let since = self.since.take()?;
        Some(now.saturating_duration_since(since))
    }

    /// When to give up.
    pub(super) fn end(&self, now: Instant) -> Instant {
        let since = self.since.unwrap_or(now);
        crate::driver::timer::since(since, self.retry.outage)
    }

    /// Returns the attempts that were made since the last link was lost.
    pub(super) fn attempts(&self, now: Instant) -> Attempts {
        let elapsed = self.since.map(|since| now.saturating_duration_since(since));
        Attempts {
            count: self.tried,
            elapsed: elapsed.unwrap_or_default(),
        }
    }

    /// Returns the number of the next attempt and the delay before it, unless it is time to give up:
    /// the last attempt leaves itself some time.
    pub(super) fn next(&mut self, now: Instant) -> Option<(u32, Duration)> {
        let last = self.end(now) - LAST.min(self.retry.outage / 10);
        let left = last.saturating_duration_since(now);
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

    /// Makes attempts that all fail, until it gives up. Returns their numbers, and when it gave up.
    fn attempts(backoff: &mut Backoff, begin: Instant) -> (Vec<u32>, Instant) {
        let mut now = begin;
        backoff.lost(now);
        let mut numbers = Vec::new();
        while let Some((number, delay)) = backoff.next(now) {
            numbers.push(number);
            now += delay;
        }
        (numbers, now)
    }

    #[test]
    fn the_last_attempt_is_made_shortly_before_the_end() {
        for (outage, last) in [(3_000, 2_700), (60_000, 59_000)].map(|(outage, last)| {
            let [outage, last] = [outage, last].map(Duration::from_millis);
            (outage, last)
        }) {
            let begin = Instant::now();
            let mut backoff = Backoff::new(Retry::default().outage(outage), begin);
            assert_eq!(attempts(&mut backoff, begin).1, begin + last);
        }
    }

    #[test]
    fn attempts_are_counted_from_each_loss() {
        let mut now = Instant::now();
        let mut backoff = Backoff::new(Retry::default().attempts(3), now);
        for _ in 0..3 {
            let numbers;
            (numbers, now) = attempts(&mut backoff, now);
            assert_eq!(numbers, [1, 2, 3]);
            backoff.recovered(now);
        }
        // A connection that lives for a short time does not make the next delay short.
        now += SHORT - Duration::from_millis(1);
        backoff.lost(now);
        assert_eq!(backoff.attempt, 9);
        backoff.recovered(now);
        backoff.lost(now + SHORT);
        assert_eq!(backoff.attempt, 0);
    }
}
