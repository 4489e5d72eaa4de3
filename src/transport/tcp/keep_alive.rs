//! How TCP finds out that a silent peer is gone.

use std::time::Duration;

use socket2::TcpKeepalive;

/// How the system asks a server that has been silent for a while whether it is still there
/// (`SO_KEEPALIVE`), see [`Builder::tcp_keep_alive`](crate::Builder::tcp_keep_alive).
///
/// By default it asks after 60 seconds of silence, and then every 10 seconds. After 6 questions
/// without an answer, two minutes after the last sign of life, the connection is lost.
///
/// Durations are in whole seconds, rounded up, from one second to 32767 seconds, about 9 hours.
///
/// ```
/// use std::time::Duration;
/// use nbd_client::{Connection, KeepAlive};
///
/// // Lost after 20 seconds.
/// let keep_alive = KeepAlive::default()
///     .idle(Duration::from_secs(10))
///     .interval(Duration::from_secs(5))
///     .retries(2);
/// let builder = Connection::builder().tcp_keep_alive(keep_alive);
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[must_use]
pub struct KeepAlive {
    idle: Duration,
    interval: Duration,
    retries: u8,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            retries: 6,
        }
    }
}

impl KeepAlive {
    /// Sets how long the server may be silent before it is asked. Default: 60 seconds.
    pub const fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Sets the time between two questions without an answer. Default: 10 seconds.
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets how many questions may stay without an answer, from 1 to 127. Default: 6.
    pub const fn retries(mut self, retries: u8) -> Self {
        self.retries = retries;
        self
    }

    /// Returns what the system takes.
    pub(super) fn for_socket(self) -> TcpKeepalive {
        TcpKeepalive::new()
            .with_time(seconds(self.idle))
            .with_interval(seconds(self.interval))
            .with_retries(u32::from(self.retries).clamp(1, 127))
    }
}

/// Rounds up to seconds, within what systems take.
fn seconds(duration: Duration) -> Duration {
    /// The limit of Linux.
    const MOST: u64 = 32767;
    let rest = u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(duration.as_secs().saturating_add(rest).clamp(1, MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_up_within_what_systems_take() {
        for (given, wanted) in [
            (Duration::ZERO, 1),
            (Duration::from_millis(1), 1),
            (Duration::from_millis(1001), 2),
            (Duration::from_secs(60), 60),
            (Duration::MAX, 32767),
        ] {
            assert_eq!(seconds(given), Duration::from_secs(wanted), "{given:?}");
        }
    }
}
