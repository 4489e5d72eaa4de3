//! The bytes to send: headers and small payloads in one run, and large payloads by reference
//! between them.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

use crate::wire::codec::ReplyCodec;
use crate::wire::request::RequestHead;

/// Payloads up to this many bytes are copied behind their header, which is cheaper than one more
/// slice.
const INLINE: usize = 2 << 10;
/// The number of slices in one system call.
pub const SLICES: usize = 128;

/// A queue of bytes that is filled by requests and emptied by vectored writes.
#[derive(Debug, Default)]
pub struct Outbox {
    run: Vec<u8>,
    /// The number of bytes of the run that are written.
    run_written: usize,
    bulk: VecDeque<Bulk>,
    /// The number of bytes of the first large payload that are written.
    bulk_written: usize,
}

/// A large payload that follows the first `position` bytes of the run.
#[derive(Debug)]
struct Bulk {
    position: usize,
    payload: Bytes,
}

impl Outbox {
    /// Appends a request, and returns its number of bytes.
    pub fn push(&mut self, codec: ReplyCodec, head: &RequestHead, payload: Bytes) -> u64 {
        let before = self.run.len();
        codec.put(head, &mut self.run);
        let length = payload.len();
        let header = self.run.len().saturating_sub(before);
        if length > INLINE {
            self.bulk.push_back(Bulk {
                position: self.run.len(),
                payload,
            });
        } else {
            self.run.extend_from_slice(&payload);
        }
        (header as u64).saturating_add(length as u64)
    }

    /// Returns whether everything is written.
    pub fn is_empty(&self) -> bool {
        self.bulk.is_empty() && self.run_written == self.run.len()
    }

    /// Returns the unwritten bytes if they are one run, as they usually are.
    pub fn run(&self) -> Option<&[u8]> {
        if self.bulk.is_empty() {
            self.run.get(self.run_written..)
        } else {
            None
        }
    }

    /// Returns the number of large payloads that are not written to their end.
    pub fn payloads(&self) -> usize {
        self.bulk.len()
    }

    /// Fills `slices` with the unwritten bytes, as far as they fit. Returns the number of slices
    /// used.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let most = slices.len() / 2;
        let mut used = 0;
        let mut add = |bytes: &'a [u8]| {
            if !bytes.is_empty() {
                if let Some(slice) = slices.get_mut(used) {
                    *slice = IoSlice::new(bytes);
                    used = used.saturating_add(1);
                }
            }
        };
        let mut start = self.run_written;
        let mut skip = self.bulk_written;
        // Each payload takes at most two slices.
        for bulk in self.bulk.iter().take(most) {
            add(self.run.get(start..bulk.position).unwrap_or_default());
            add(bulk.payload.get(skip..).unwrap_or_default());
            start = bulk.position;
            skip = 0;
        }
        if self.bulk.len() < most {
            add(self.run.get(start..).unwrap_or_default());
        }
        used
    }

    /// Removes the first `count` unwritten bytes, which are written now.
    pub fn advance(&mut self, mut count: usize) {
        loop {
            let end = self
                .bulk
                .front()
                .map_or(self.run.len(), |bulk| bulk.position);
            let step = count.min(end.saturating_sub(self.run_written));
            self.run_written = self.run_written.saturating_add(step);
            count = count.saturating_sub(step);
            let Some(bulk) = self.bulk.front() else { break };
            let left = bulk.payload.len().saturating_sub(self.bulk_written);
            // A count of zero ends here, too: every payload has at least one byte left.
            if count < left {
                self.bulk_written = self.bulk_written.saturating_add(count);
                return;
            }
            count = count.saturating_sub(left);
            self.bulk_written = 0;
            self.bulk.pop_front();
        }
        if self.run_written == self.run.len() {
            self.run.clear();
            self.run_written = 0;
        }
    }

    /// Returns the number of unwritten bytes.
    pub fn remaining(&self) -> u64 {
        let run = self.run.len().saturating_sub(self.run_written) as u64;
        let bulk: u64 = self.bulk.iter().map(|bulk| bulk.payload.len() as u64).sum();
        (run + bulk).saturating_sub(self.bulk_written as u64)
    }

    /// Keeps the first `keep` unwritten bytes, which must end with a message, and drops the others.
    pub fn truncate(&mut self, keep: u64) {
        let mut excess = self.remaining().saturating_sub(keep);
        // From the end: a run, a payload, the run before it, and so on.
        while excess > 0 {
            let start = self
                .bulk
                .back()
                .map_or(self.run_written, |bulk| bulk.position.max(self.run_written));
            let run = self.run.len().saturating_sub(start);
            let cut = usize::try_from(excess).unwrap_or(usize::MAX).min(run);
            self.run.truncate(self.run.len().saturating_sub(cut));
            excess = excess.saturating_sub(cut as u64);
            if excess > 0 {
                let Some(bulk) = self.bulk.pop_back() else {
                    break;
                };
                excess = excess.saturating_sub(bulk.payload.len() as u64);
            }
        }
    }

    /// Frees memory of an idle connection.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Command, CommandFlags, ReplyStyle};

    const COMPACT: ReplyCodec = ReplyCodec::new(ReplyStyle::Structured);

    fn head(command: Command, length: usize) -> RequestHead {
        RequestHead {
            flags: CommandFlags::empty(),
            command,
            cookie: 1,
            offset: 0,
            length: length as u64,
        }
    }

    #[test]
    fn messages_at_the_end_can_be_dropped_again() {
        let large = Bytes::from(vec![5; 20_000]);
        let mut outbox = Outbox::default();
        let mut ends = vec![0];
        for payload in [&b"ab"[..], &large, &large, b"c", b"d"] {
            let head = head(Command::WRITE, payload.len());
            let sent = outbox.push(COMPACT, &head, Bytes::copy_from_slice(payload));
            ends.push(ends.last().unwrap() + sent);
        }
        let whole = collect(&outbox);
        // Part of the first large payload is written: it must go on.
        outbox.advance(100);
        for end in ends.into_iter().skip(2).rev() {
            outbox.truncate(end - 100);
            let end = usize::try_from(end).unwrap();
            assert_eq!(outbox.remaining(), end as u64 - 100);
            assert_eq!(collect(&outbox), &whole[100..end]);
        }
        outbox.advance(usize::try_from(outbox.remaining()).unwrap());
        assert!(outbox.is_empty());
        outbox.push(COMPACT, &head(Command::WRITE, 1), Bytes::from_static(b"x"));
        outbox.truncate(0);
        assert!(outbox.is_empty());
        assert_eq!(outbox.run(), Some(&[][..]));
    }

    /// What one write is offered.
    fn collect(outbox: &Outbox) -> Vec<u8> {
        take(outbox, usize::MAX)
    }

    /// What one write takes of that if it takes no more than so many bytes.
    fn take(outbox: &Outbox, most: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let used = outbox.slices(&mut slices);
        let bytes = slices[..used].iter().flat_map(|slice| slice.iter());
        bytes.take(most).copied().collect()
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow there")]
    fn requests_leave_in_order_whatever_each_write_takes() {
        let large: Bytes = (0..20_000).map(|i| i as u8).collect();
        let mut expected = Vec::new();
        for step in [1, 7, 28, 29, 5_000, 100_000] {
            let mut outbox = Outbox::default();
            expected.clear();
            let mut total = 0;
            for payload in [
                Bytes::new(),
                Bytes::from_static(b"small"),
                large.clone(),
                large.slice(..9_000),
                Bytes::new(),
            ] {
                let command = if payload.is_empty() {
                    Command::READ
                } else {
                    Command::WRITE
                };
                let head = head(command, payload.len());
                total += outbox.push(COMPACT, &head, payload.clone());
                head.encode(false, &mut expected);
                expected.extend_from_slice(&payload);
            }
            assert_eq!(total, expected.len() as u64);
            let mut written = Vec::new();
            while !outbox.is_empty() {
                let taken = take(&outbox, step);
                outbox.advance(taken.len());
                written.extend(taken);
            }
            assert!(written == expected, "step {step}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow there")]
    fn more_payloads_than_slices_leave_in_several_writes() {
        // The second takes parts of payloads, so that a write may begin with any.
        for step in [usize::MAX, INLINE - 1] {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for i in 0..SLICES {
                let payload = Bytes::from(vec![i as u8; INLINE + 1]);
                let head = head(Command::WRITE, payload.len());
                head.encode(false, &mut expected);
                expected.extend_from_slice(&payload);
                outbox.push(COMPACT, &head, payload);
            }
            let mut left = &expected[..];
            while !outbox.is_empty() {
                assert!(left.starts_with(&collect(&outbox)), "step {step}");
                let count = take(&outbox, step).len();
                assert!(count > 0);
                outbox.advance(count);
                left = &left[count..];
            }
            assert!(left.is_empty());
        }
    }

    #[test]
    fn memory_is_given_back_when_idle() {
        let mut outbox = Outbox::default();
        for _ in 0..1000 {
            outbox.push(COMPACT, &head(Command::READ, 512), Bytes::new());
        }
        outbox.shrink();
        assert!(!outbox.is_empty(), "what is not written stays");
        outbox.advance(28_000);
        outbox.shrink();
        assert_eq!(outbox.run.capacity(), 0);
    }

    /// How many bytes leave next, which must be the first of the model.
    fn next(outbox: &Outbox, model: &[u8]) -> usize {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let used = outbox.slices(&mut slices);
        let mut rest = model;
        for slice in &slices[..used] {
            rest = rest.strip_prefix(&slice[..]).expect("other bytes leave");
        }
        model.len() - rest.len()
    }

    proptest! {
        #![proptest_config(crate::tests::properties::config())]

        /// Each step queues a message of some length, writes some bytes, or drops some messages.
        #[test]
        fn what_leaves_is_what_came_less_what_was_dropped(
            steps in prop::collection::vec((0u8..5, 0usize..3 * INLINE, any::<u8>()), 1..20),
            extended: bool,
        ) {
            let mut outbox = Outbox::default();
            // What is queued and not written, and where in it messages end.
            let (mut model, mut ends) = (Vec::new(), Vec::new());
            for (step, size, fill) in steps {
                match step {
                    0 | 1 => {
                        let size = if step == 0 { size } else { size % 40 };
                        let payload = vec![fill; size];
                        let head = head(Command::WRITE, size);
                        head.encode(extended, &mut model);
                        model.extend_from_slice(&payload);
                        ends.push(model.len());
                        let style = match extended {
                            true => ReplyStyle::Extended,
                            false => ReplyStyle::Structured,
                        };
                        outbox.push(ReplyCodec::new(style), &head, payload.into());
                    }
                    2 => {
                        let keep = usize::from(fill).checked_rem(ends.len()).unwrap_or(0);
                        ends.truncate(keep + 1);
                        model.truncate(ends.last().copied().unwrap_or(0));
                        outbox.truncate(model.len() as u64);
                    }
                    3 => outbox.shrink(),
                    _ => {
                        let count = size.min(next(&outbox, &model));
                        model.drain(..count);
                        ends.retain(|&end| end > count);
                        ends.iter_mut().for_each(|end| *end -= count);
                        outbox.advance(count);
                    }
                }
                prop_assert_eq!(outbox.remaining(), model.len() as u64);
                prop_assert_eq!(outbox.is_empty(), model.is_empty());
                prop_assert!(next(&outbox, &model) > 0 || model.is_empty(), "nothing leaves");
                if let Some(run) = outbox.run() {
                    prop_assert_eq!(run, &model[..]);
                }
            }
        }
    }
}
