//! When to connect again, and what becomes of changes meanwhile.

use std::time::Duration;

/// What a [`Disk`](crate::Disk) does with a change that was sent and not answered when its connection
/// was lost.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Changes {
    /// The caller gets [`Error::OutcomeUnknown`](crate::Error::OutcomeUnknown). His own repetition of
    /// the same bytes passes; other bytes are [held](crate::Error::Held) until a fence, and so is
    /// everything if it is not known what the change leaves: after a trim, and a change of a part of a
    /// block.
    #[default]
    Report,
    /// The disk sends it again, and the caller sees a delay. A trim is not repeated but reported,
    /// because its content is not defined, and so are zeroes for a part of a block. A write of a part of
    /// a block ([`unaligned`](crate::Request::unaligned)) reads the rest of the block first, over
    /// whatever connection, and is then one of whole blocks.
    ///
    /// A change that was on three connections that were lost, or refused by three servers that were
    /// shutting down, is not sent a fourth time: it may be what ends the server.
    Repeat,
    /// The disk takes no changes.
    Refuse,
}

/// When a [`Disk`](crate::Disk) connects again.
///
/// The delay before an attempt is a random part of a bound, which begins with [`first`](Self::first)
/// and grows by [`factor`](Self::factor) to at most [`most`](Self::most). A connection that lived
/// less than 5 s does not set the bound back.
///
/// ```
/// use std::time::Duration;
/// use nbd_client::Retry;
///
/// let patient = Retry::default().outage(Duration::from_secs(600)).most(Duration::from_secs(30));
/// assert_ne!(patient, Retry::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    pub(super) first: Duration,
    pub(super) factor: f64,
    pub(super) most: Duration,
    pub(super) outage: Duration,
    pub(super) attempts: u32,
    pub(super) export_may_appear: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            factor: 2.0,
            most: Duration::from_secs(10),
            outage: Duration::from_secs(60),
            attempts: u32::MAX,
            export_may_appear: false,
        }
    }
}

impl Retry {
    /// Never connects again: the disk ends with its last connection.
    #[must_use]
    pub fn never() -> Self {
        Self::default().attempts(0)
    }

    /// Sets the bound of the first delay. The default is 100 ms.
    #[must_use]
    pub const fn first(mut self, delay: Duration) -> Self {
        self.first = delay;
        self
    }

    /// Sets the factor by which the bound grows with each attempt. The default is 2; less than 1 is
    /// taken as 1.
    #[must_use]
    pub const fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Sets the largest bound. The default is 10 s.
    #[must_use]
    pub const fn most(mut self, delay: Duration) -> Self {
        self.most = delay;
        self
    }

    /// Sets how long the disk may be without a connection. After that it ends, and all requests fail
    /// with the cause of the last attempt; only changes that were sent, and may still be answered, are
    /// waited for, for the time of [`drain`](crate::DiskBuilder::drain). The last attempt is made when
    /// nine tenths of the time are over, or all but one second. The default is 60 s.
    #[must_use]
    pub const fn outage(mut self, longest: Duration) -> Self {
        self.outage = longest;
        self
    }

    /// Sets the number of attempts after a loss; a connection that was made, however short, ends the
    /// count. The default is unlimited.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets whether to try again, too, if the server does not know the export: it may be about to be
    /// added. By default that is final.
    #[must_use]
    pub const fn export_may_appear(mut self, may_appear: bool) -> Self {
        self.export_may_appear = may_appear;
        self
    }

    /// Returns the bound of the delay before an attempt, counted from 1.
    pub(super) fn bound(&self, attempt: u32) -> Duration {
        if self.first.is_zero() {
            return self.first;
        }
        let factor = if self.factor > 1.0 { self.factor } else { 1.0 };
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let bound = self.first.as_secs_f64() * factor.powi(exponent);
        Duration::try_from_secs_f64(bound).map_or(self.most, |bound| bound.min(self.most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_bound() {
        let bounds = [1, 2, 3, 7, 8, 1000, u32::MAX].map(|attempt| Retry::default().bound(attempt));
        let millis = [100, 200, 400, 6400, 10_000, 10_000, 10_000];
        assert_eq!(bounds, millis.map(Duration::from_millis));
        for factor in [0.5, f64::NAN, -1.0] {
            let steady = Retry::default().factor(factor);
            assert_eq!(steady.bound(9), Duration::from_millis(100), "{factor}");
        }
        let none = Retry::default().first(Duration::ZERO);
        assert_eq!(none.bound(5000), Duration::ZERO);
        let huge = Retry::default().factor(f64::INFINITY);
        assert_eq!(huge.bound(2), Duration::from_secs(10));
    }
}
