//! How far a cursor reads ahead.

use std::time::Duration;

use crate::stream::{Reach, Settings};

/// The length of a request in bytes, unless it is set.
const REQUEST: u64 = 256 << 10;

/// How many requests are in flight at first when a cursor is read in order.
const FIRST: u64 = 4;

/// How many bytes are read ahead at most, unless it is set: twice the 16 requests of 256 KiB that
/// nbdkit and qemu-nbd carry out at a time, so that as many wait for the caller as for the server.
const MOST: u64 = 8 << 20;

/// How many bytes are read at a place that was sought, unless the caller asks for more. Whoever
/// reads here and there wants little of each.
const PROBE: u64 = 64 << 10;

/// The number of bytes that are read ahead: none after a seek, and more and more while the cursor is
/// read in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) request: u64,
    pub(super) most: u64,
    /// The number of bytes that are read ahead, zero after a seek.
    now: u64,
    /// How many bytes were taken since it was last changed.
    taken: u64,
}

impl Window {
    pub(super) const fn new() -> Self {
        Self {
            request: REQUEST,
            most: MOST,
            now: 0,
            taken: 0,
        }
    }

    /// Returns whether only what the caller asks for is read.
    pub(super) const fn is_closed(self) -> bool {
        self.now == 0
    }

    /// Reads ahead from now on.
    pub(super) fn open(&mut self) {
        self.close();
        if self.most >= self.request {
            self.now = self.request.saturating_mul(FIRST).min(self.most);
        }
    }

    /// Reads no longer ahead, until it is seen that the cursor is read in order.
    pub(super) const fn close(&mut self) {
        self.now = 0;
        self.taken = 0;
    }

    /// Records that so many bytes were taken in order. A window that was taken as a whole is doubled.
    pub(super) fn take(&mut self, bytes: u64) {
        self.taken = self.taken.saturating_add(bytes);
        if self.now > 0 && self.taken >= self.now {
            self.now = self.now.saturating_mul(2).min(self.most);
            self.taken = 0;
        }
    }

    /// Returns how many bytes are requested of which the caller wants so many, if it is not read
    /// ahead.
    pub(super) fn probe(wanted: usize) -> u64 {
        (wanted as u64).max(PROBE)
    }

    /// Returns how much is in flight or waits to be taken.
    pub(super) fn settings(self, timeout: Option<Duration>) -> Settings {
        let bytes = if self.is_closed() {
            self.most
        } else {
            self.now
        };
        Settings {
            request: self.request,
            reach: Reach::Bytes(bytes),
            timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_doubles_while_it_is_taken_and_has_a_limit() {
        let mut window = Window::new();
        assert!(window.is_closed());
        window.open();
        let mut reached = Vec::new();
        for _ in 0..200 {
            let reach = window.settings(None).reach;
            if reached.last() != Some(&reach) {
                reached.push(reach);
            }
            window.take(REQUEST);
        }
        assert_eq!(reached, [1, 2, 4, 8].map(|mib| Reach::Bytes(mib << 20)));
        window.close();
        assert!(window.is_closed());
        window.take(REQUEST);
        assert!(window.is_closed());
    }

    #[test]
    fn a_window_that_holds_no_request_stays_closed() {
        let mut window = Window::new();
        window.most = REQUEST - 1;
        window.open();
        assert!(window.is_closed());
    }
}
