//! How often an export was asked for what.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::wire::request::RequestHead;
use crate::wire::{Command, CommandFlags};

/// What was asked of an export: requests as they arrived, refused ones included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Counters {
    /// `READ` requests.
    pub reads: u64,
    /// `WRITE` requests.
    pub writes: u64,
    /// `FLUSH` requests.
    pub flushes: u64,
    /// `TRIM` requests.
    pub trims: u64,
    /// `CACHE` requests.
    pub caches: u64,
    /// `WRITE_ZEROES` requests.
    pub zeroes: u64,
    /// `BLOCK_STATUS` requests.
    pub statuses: u64,
    /// `DISC` requests.
    pub disconnects: u64,
    /// Requests of any other command.
    pub others: u64,
    /// Requests with the `FUA` flag.
    pub fua: u64,
    /// Bytes that reads asked for.
    pub bytes_read: u64,
    /// Bytes that writes brought.
    pub bytes_written: u64,
}

impl Counters {
    /// All requests but `DISC`.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.reads
            + self.writes
            + self.flushes
            + self.trims
            + self.caches
            + self.zeroes
            + self.statuses
            + self.others
    }
}

/// The counters, counting.
#[derive(Debug, Default)]
pub(super) struct Counts {
    commands: [AtomicU64; 9],
    fua: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
}

impl Counts {
    pub(super) fn record(&self, head: &RequestHead) {
        let add = |counter: &AtomicU64, n| {
            counter.fetch_add(n, Ordering::Relaxed);
        };
        // The last counter is for all unknown commands.
        let index = usize::from(head.command.0).min(self.commands.len() - 1);
        add(&self.commands[index], 1);
        match head.command {
            Command::READ => add(&self.bytes_read, head.length),
            Command::WRITE => add(&self.bytes_written, head.length),
            _ => {}
        }
        if head.flags.contains(CommandFlags::FUA) {
            add(&self.fua, 1);
        }
    }

    pub(super) fn counters(&self) -> Counters {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let of = |command: Command| load(&self.commands[usize::from(command.0)]);
        Counters {
            reads: of(Command::READ),
            writes: of(Command::WRITE),
            flushes: of(Command::FLUSH),
            trims: of(Command::TRIM),
            caches: of(Command::CACHE),
            zeroes: of(Command::WRITE_ZEROES),
            statuses: of(Command::BLOCK_STATUS),
            disconnects: of(Command::DISC),
            others: load(&self.commands[8]),
            fua: load(&self.fua),
            bytes_read: load(&self.bytes_read),
            bytes_written: load(&self.bytes_written),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_counter() {
        let counts = Counts::default();
        for command in [0, 1, 2, 3, 4, 5, 6, 7, 8, 900] {
            counts.record(&RequestHead {
                flags: CommandFlags::FUA,
                command: Command(command),
                cookie: 0,
                offset: 0,
                length: 10 + u64::from(command),
            });
        }
        let expected = Counters {
            reads: 1,
            writes: 1,
            flushes: 1,
            trims: 1,
            caches: 1,
            zeroes: 1,
            statuses: 1,
            disconnects: 1,
            others: 2,
            fua: 10,
            bytes_read: 10,
            bytes_written: 11,
        };
        assert_eq!(counts.counters(), expected);
        assert_eq!(expected.requests(), 9);
    }
}
