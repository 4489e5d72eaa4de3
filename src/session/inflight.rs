//! The table of requests in flight, and the cookies that name them.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::task::Waker;
use std::time::Duration;

use slab::Slab;

use super::ledger::Covered;
use super::{Answer, Sink};
use crate::error::{Error, FailedRequest, RequestError};
use crate::wire::{Command, Errno, ProtocolError, Text};

/// One request from the moment it is queued until its answer is taken.
#[derive(Debug)]
pub struct Entry {
    generation: u32,
    /// The generation of the first message of the request, which its caller has the cookie of.
    first_generation: u32,
    /// The command of the request.
    pub command: Command,
    /// The start of its range, in bytes from the start of the export.
    pub offset: u64,
    /// The length of its range, in bytes.
    pub length: u64,
    /// The epoch in which the request was queued.
    pub epoch: u32,
    /// When the request was queued, if latency is measured.
    pub begun: Duration,
    /// The range of its bytes in the stream to the server.
    pub sent: Range<u64>,
    /// The bytes that are counted for it at the gate.
    pub bytes: u64,
    /// What the answer means for the durability of changes.
    pub kind: Kind,
    /// Whether the request has the flag `FUA`: a change is durable once it is acknowledged.
    pub fua: bool,
    /// Whether the request changes a part of a block: no other change of the block is in flight.
    /// While the block is read, the command is `READ`.
    pub exclusive: bool,
    /// Whether the reply may have only one chunk of content.
    pub single_chunk: bool,
    /// The destination of the content of the reply.
    pub sink: Sink,
    /// The first error of the reply, boxed as in [`Kept`].
    pub error: Option<Box<RequestError>>,
    /// The number of error chunks in the reply.
    pub errors: u16,
    /// The bytes of the messages of errors that were queued for the caller of a structured read.
    pub texts: u16,
    /// How far the request has come.
    pub stage: Stage,
    /// Whether the request is abandoned: nobody waits for the answer.
    pub abandoned: bool,
    /// Whether there was no memory for the content, of which the rest is skipped.
    pub starved: bool,
    /// The waker of the caller.
    pub waker: Option<Waker>,
}

/// What the answer to a request means for the durability of changes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// The request is a change.
    Change {
        /// The span of the change, see [`Barrier`](super::barrier::Barrier).
        span: u64,
    },
    /// The request is a flush.
    Flush {
        /// The changes that the flush covers, see [`Ledger`](super::ledger::Ledger).
        covered: Covered,
    },
    /// The request is neither.
    Other,
}

/// An answer that is kept. Errors are boxed: few requests have one, and entries are moved often.
pub type Kept = Result<Answer, Box<Error>>;

/// How far a request has come.
#[derive(Debug)]
pub enum Stage {
    /// The reply has not ended.
    Waiting,
    /// The reply has ended, but the request is not fully written yet.
    Early(Kept),
    /// The answer waits to be taken.
    Done(Kept),
}

impl Entry {
    /// Creates the entry of a request for `range`, an offset and a length.
    pub fn new(command: Command, range: (u64, u64), sent: Range<u64>, sink: Sink) -> Self {
        Self {
            generation: 0,
            first_generation: 0,
            command,
            offset: range.0,
            length: range.1,
            epoch: 0,
            begun: Duration::ZERO,
            sent,
            bytes: 0,
            kind: Kind::Other,
            fua: false,
            exclusive: false,
            single_chunk: false,
            sink,
            error: None,
            errors: 0,
            texts: 0,
            stage: Stage::Waiting,
            abandoned: false,
            starved: false,
            waker: None,
        }
    }

    /// Returns whether the content of the reply is to be kept.
    pub const fn is_wanted(&self) -> bool {
        !self.abandoned && !self.starved
    }

    /// Returns how many bytes of data the server owes for the request.
    pub fn data(&self) -> u64 {
        if self.command == Command::READ {
            self.length
        } else {
            0
        }
    }

    /// Returns the error of the request with what the server reported.
    pub const fn failure(
        &self,
        errno: Errno,
        message: Text,
        failed_at: Option<u64>,
    ) -> RequestError {
        RequestError {
            site: None,
            request: FailedRequest {
                command: self.command,
                offset: self.offset,
                length: self.length,
            },
            errno,
            message,
            failed_at,
        }
    }

    /// Returns 1 for a block status, and 0 for other commands.
    fn statuses(&self) -> u64 {
        u64::from(self.command == Command::BLOCK_STATUS)
    }

    /// Returns 1 for a structured read, and 0 for other requests.
    fn structured(&self) -> u64 {
        u64::from(matches!(self.sink, Sink::Chunks(_)))
    }

    /// Returns the range of the export that the request changes, if any.
    pub fn changes(&self) -> Option<Range<u64>> {
        let end = self.offset.saturating_add(self.length);
        matches!(self.kind, Kind::Change { .. }).then_some(self.offset..end)
    }
}

/// Returns the payload of a command in either direction, in bytes.
pub const fn payload(command: Command, length: u64) -> u64 {
    if command.has_data() { length } else { 0 }
}

/// The table of requests in flight. The cookie of an entry is made of its slot and its generation,
/// so a late or repeated reply never meets another request in the same slot.
#[derive(Debug)]
pub struct Inflight {
    entries: Slab<Entry>,
    generation: u32,
    start: u64,
    /// The number of entries that are block statuses.
    statuses: u64,
    /// The number of entries that are structured reads.
    structured: u64,
}

impl Inflight {
    /// Creates an empty table whose cookies count from `start`.
    pub const fn new(start: u64) -> Self {
        Self {
            entries: Slab::new(),
            generation: 0,
            start,
            statuses: 0,
            structured: 0,
        }
    }

    /// Returns an unpredictable start for cookies.
    pub fn random_start() -> u64 {
        #[cfg(feature = "__internals")]
        if let Some(start) = super::FIXED_COOKIES.get() {
            return *start;
        }
        RandomState::new().build_hasher().finish()
    }

    /// Returns the cookie of the next entry.
    pub fn next_cookie(&mut self) -> u64 {
        self.cookie(self.entries.vacant_key() as u64)
    }

    /// Returns a new cookie for a slot.
    fn cookie(&mut self, index: u64) -> u64 {
        loop {
            let number = u64::from(self.generation) << 32 | (index & 0xffff_ffff);
            // P-130: the cookie differs from all pending ones, since the slot does.
            let cookie = self.start.wrapping_add(number);
            if cookie != 0 {
                return cookie;
            }
            self.generation = self.generation.wrapping_add(1);
        }
    }

    /// Adds an entry with the cookie that [`next_cookie`](Self::next_cookie) returned, and returns
    /// its slot.
    pub fn insert(&mut self, mut entry: Entry) -> usize {
        entry.generation = self.generation;
        entry.first_generation = self.generation;
        self.generation = self.generation.wrapping_add(1);
        self.statuses = self.statuses.saturating_add(entry.statuses());
        self.structured = self.structured.saturating_add(entry.structured());
        self.entries.insert(entry)
    }

    /// Gives the entry in a slot another cookie, for another message of its request, and returns it.
    pub fn renew(&mut self, slot: usize) -> u64 {
        let cookie = self.cookie(slot as u64);
        if let Some(entry) = self.entries.get_mut(slot) {
            entry.generation = self.generation;
            self.generation = self.generation.wrapping_add(1);
        }
        cookie
    }

    /// Returns the slot of the entry whose message has this cookie.
    pub fn find(&self, cookie: u64) -> Option<usize> {
        let (slot, generation) = self.parts(cookie)?;
        let entry = self.entries.get(slot)?;
        (u64::from(entry.generation) == generation).then_some(slot)
    }

    /// Returns the slot of the entry whose first message had this cookie.
    pub fn find_request(&self, cookie: u64) -> Option<usize> {
        let (slot, generation) = self.parts(cookie)?;
        let entry = self.entries.get(slot)?;
        (u64::from(entry.first_generation) == generation).then_some(slot)
    }

    /// Returns the slot and the generation of a cookie.
    fn parts(&self, cookie: u64) -> Option<(usize, u64)> {
        let number = cookie.wrapping_sub(self.start);
        let slot = usize::try_from(number & 0xffff_ffff).ok()?;
        Some((slot, number >> 32))
    }

    /// Returns the entry in a slot, to be changed.
    pub fn get_mut(&mut self, slot: usize) -> Option<&mut Entry> {
        self.entries.get_mut(slot)
    }

    /// Returns the entry of a reply that has begun. The entry stays until the reply has ended, so
    /// its absence is an error and never a success.
    #[inline]
    pub fn replied(&mut self, slot: usize) -> Result<&mut Entry, ProtocolError> {
        let entry = self.entries.get_mut(slot);
        debug_assert!(entry.is_some(), "a reply to no request");
        entry.ok_or(ProtocolError::UnknownCookie(slot as u64))
    }

    /// Removes the entry in a slot.
    pub fn remove(&mut self, slot: usize) -> Option<Entry> {
        let entry = self.entries.try_remove(slot)?;
        self.statuses = self.statuses.saturating_sub(entry.statuses());
        self.structured = self.structured.saturating_sub(entry.structured());
        Some(entry)
    }

    /// Returns the number of block statuses whose answers were not taken yet.
    pub const fn statuses(&self) -> u64 {
        self.statuses
    }

    /// Returns the number of structured reads whose ends were not taken yet.
    pub const fn structured(&self) -> u64 {
        self.structured
    }

    /// Returns all entries.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(|(_, entry)| entry)
    }

    /// Returns the slots and ranges of all unanswered changes.
    pub fn unanswered_changes(&self) -> impl Iterator<Item = (u64, Range<u64>)> {
        let waiting = |entry: &&Entry| !matches!(entry.stage, Stage::Done(_));
        let entries = self.entries.iter();
        entries.filter_map(move |(slot, entry)| {
            let entry = Some(entry).filter(waiting)?;
            Some((slot as u64, entry.changes()?))
        })
    }

    /// Returns the slots of all entries.
    pub fn slots(&self) -> Vec<usize> {
        self.entries.iter().map(|(slot, _)| slot).collect()
    }

    /// Frees memory of an idle connection.
    pub fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn entry() -> Entry {
        Entry::new(Command::FLUSH, (0, 0), 0..28, Sink::None)
    }

    // P-130: cookies of pending requests differ.
    #[test]
    fn cookies_wrap_and_are_never_zero_nor_reused() {
        let mut table = Inflight::new(u64::MAX - 5);
        let mut cookies = Vec::new();
        for _ in 0..20 {
            cookies.push(table.next_cookie());
            table.insert(entry());
        }
        assert!(cookies.iter().all(|&cookie| cookie != 0));
        for &cookie in &cookies {
            let slot = table.find(cookie).unwrap();
            table.remove(slot);
            let again = table.next_cookie();
            table.insert(entry());
            assert!(!cookies.contains(&again));
            assert_eq!(table.find(cookie), None, "a stale cookie finds nothing");
        }
    }

    // P-130: cookies of pending requests differ.
    proptest! {
        #![proptest_config(crate::tests::properties::config())]

        #[test]
        fn cookies_are_never_zero_and_never_those_of_others(
            start in prop_oneof![any::<u64>(), (0u64..9).prop_map(u64::wrapping_neg)],
            generation in prop_oneof![any::<u32>(), u32::MAX - 9..],
            steps in prop::collection::vec(any::<Option<u8>>(), 1..60),
        ) {
            let mut table = Inflight::new(start);
            table.generation = generation;
            let (mut pending, mut seen) = (Vec::new(), HashSet::new());
            for step in steps {
                let removed = step.and_then(|at| usize::from(at).checked_rem(pending.len()));
                if let Some(at) = removed {
                    let cookie = pending.swap_remove(at);
                    let slot = table.find(cookie).expect("it is pending");
                    table.remove(slot);
                    prop_assert_eq!(table.find(cookie), None);
                } else {
                    let cookie = table.next_cookie();
                    prop_assert_ne!(cookie, 0);
                    prop_assert!(seen.insert(cookie), "it was there before");
                    table.insert(entry());
                    pending.push(cookie);
                }
                let slots: HashSet<_> = pending.iter().map(|&cookie| table.find(cookie)).collect();
                prop_assert!(!slots.contains(&None) && slots.len() == pending.len());
            }
        }
    }
}
