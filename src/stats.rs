//! Counts of bytes and messages.

use std::sync::atomic::{AtomicU64, Ordering};

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
}

impl std::ops::Add for Stats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes_sent: self.bytes_sent.wrapping_add(other.bytes_sent),
            bytes_received: self.bytes_received.wrapping_add(other.bytes_received),
            messages_sent: self.messages_sent.wrapping_add(other.messages_sent),
            messages_received: self.messages_received.wrapping_add(other.messages_received),
        }
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
