//! Counts of bytes, messages and requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::wire::Command;

/// The number of bytes and messages that a connection has sent and received, see
/// [`Connection::stats`](crate::Connection::stats).
///
/// Bytes are counted before encryption. A message is a unit with a magic of its own: a request with
/// its payload, a simple reply, a chunk, an option, an option reply, the greeting.
///
/// With the feature `serde` it is written as a map of its fields.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// The bytes that were written to the network.
    #[doc(alias = "nbd_stats_bytes_sent")]
    pub bytes_sent: u64,
    /// The bytes that were read from the network.
    #[doc(alias = "nbd_stats_bytes_received")]
    pub bytes_received: u64,
    /// The messages that were queued to be sent.
    #[doc(alias = "nbd_stats_chunks_sent")]
    pub messages_sent: u64,
    /// The messages that were received, at least in part.
    #[doc(alias = "nbd_stats_chunks_received")]
    pub messages_received: u64,
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) commands: Commands,
}

impl Stats {
    /// Returns the counts of one command.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # use nbd_client::{Connection, testing, wire::Command};
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// let conn = Connection::builder().measure_latency(true).build();
    /// # conn.connect_stream(server.connect()).await?;
    /// conn.read(0, 4096).await?;
    /// conn.read(4096, 512).await?;
    /// let reads = conn.stats().command(Command::READ);
    /// assert_eq!((reads.requests, reads.errors, reads.bytes), (2, 0, 4608));
    /// let mean = reads.latency.sum / reads.requests as u32;
    /// println!("{mean:?}, {:?}", reads.latency.counts);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn command(&self, command: Command) -> CommandStats {
        let row = self.commands.0.get(usize::from(command.0));
        row.copied().unwrap_or_default()
    }
}

/// The counts of one command, see [`Stats::command`].
///
/// A request that is sent as several messages counts as that many, and the change of a part of a
/// block as one write. Requests whose callers have given them up count as well.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[non_exhaustive]
pub struct CommandStats {
    /// The requests that were queued and are over: answered, or lost with the connection.
    pub requests: u64,
    /// How many of them failed.
    pub errors: u64,
    /// The lengths of the ranges of those that succeeded, in bytes.
    pub bytes: u64,
    /// How long they took; all zero unless
    /// [`measure_latency`](crate::Builder::measure_latency) is on.
    pub latency: Latency,
}

/// How long requests took, from the moment at which they were queued to be sent until their answer
/// was there; the time for which they waited for room does not count.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[non_exhaustive]
pub struct Latency {
    /// The sum of all.
    pub sum: Duration,
    /// The number of requests that took less than the bound at the same index of
    /// [`BOUNDS`](Self::BOUNDS), and not less than the one before it; the last one counts all that
    /// took longer.
    pub counts: [u64; 12],
}

impl Latency {
    /// The bounds of [`counts`](Self::counts): 16 µs, and then four times as long each.
    pub const BOUNDS: [Duration; 11] = {
        let mut bounds = [Duration::ZERO; 11];
        let mut index = 0;
        while index < bounds.len() {
            bounds[index] = Duration::from_micros(16 << (2 * index));
            index += 1;
        }
        bounds
    };

    fn record(&mut self, took: Duration) {
        self.sum = self.sum.saturating_add(took);
        let index = Self::BOUNDS.partition_point(|bound| *bound <= took);
        if let Some(count) = self.counts.get_mut(index) {
            *count = count.wrapping_add(1);
        }
    }
}

/// The counts of all commands, by number.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Commands([CommandStats; 8]);

impl Commands {
    /// Counts a request that is over. `bytes` is the length of its range if it has succeeded, and
    /// `took` how long it took, if that is measured.
    #[inline]
    pub(crate) fn record(&mut self, command: Command, bytes: Option<u64>, took: Option<Duration>) {
        let Some(row) = self.0.get_mut(usize::from(command.0)) else {
            return;
        };
        row.requests = row.requests.wrapping_add(1);
        match bytes {
            Some(bytes) => row.bytes = row.bytes.wrapping_add(bytes),
            None => row.errors = row.errors.wrapping_add(1),
        }
        if let Some(took) = took {
            row.latency.record(took);
        }
    }
}

impl std::ops::Add for Stats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes_sent: self.bytes_sent.wrapping_add(other.bytes_sent),
            bytes_received: self.bytes_received.wrapping_add(other.bytes_received),
            messages_sent: self.messages_sent.wrapping_add(other.messages_sent),
            messages_received: self.messages_received.wrapping_add(other.messages_received),
            commands: self.commands + other.commands,
        }
    }
}

impl std::ops::Add for Commands {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        for (row, more) in self.0.iter_mut().zip(&other.0) {
            row.requests = row.requests.wrapping_add(more.requests);
            row.errors = row.errors.wrapping_add(more.errors);
            row.bytes = row.bytes.wrapping_add(more.bytes);
            row.latency.sum = row.latency.sum.saturating_add(more.latency.sum);
            for (count, more) in row.latency.counts.iter_mut().zip(&more.latency.counts) {
                *count = count.wrapping_add(*more);
            }
        }
        self
    }
}

/// Counts the messages of one direction.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    bytes: AtomicU64,
    messages: AtomicU64,
}

impl Tally {
    /// Counts one message of `bytes` bytes.
    pub(crate) fn count(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.messages.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the bytes and messages so far.
    pub(crate) fn get(&self) -> (u64, u64) {
        (
            self.bytes.load(Ordering::Relaxed),
            self.messages.load(Ordering::Relaxed),
        )
    }
}
