//! Requests for ranges that do not begin or end where blocks do.
//!
//! A read is made for all blocks of the range, and its data is cut. A change is divided: a part of a
//! block is changed by reading, changing and writing the block, which the session does
//! ([`session::Modify`]), and the whole blocks in between as ever.

use std::future::Future;

use bytes::{Bytes, BytesMut};
use futures::future::try_join3;

use super::execute::Execute;
use super::hold::Hold;
use super::op::{Modify, Operation, Read, ReadInto, Write, WriteZeroes};
use super::range::{Range, bytes};
use super::split::{Part, Parts, Sent};
use crate::connection::Connection;
use crate::driver::Transmission;
use crate::error::{InvalidRequest, Result};
use crate::session::{self, Answer, Assembly, Sink, Submission, reserve};
use crate::wire::{Command, CommandFlags};

/// The blocks of an export. The last one may be shorter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    /// The minimum block size, in bytes.
    pub(super) length: u64,
    /// The size of the export, in bytes.
    pub(super) size: u64,
}

/// A range of whole blocks, and parts of blocks before and after it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Division {
    head: Range,
    whole: Range,
    tail: Range,
}

impl Blocks {
    /// Returns whether a range consists of whole blocks.
    pub(super) fn are_whole(self, range: Range) -> bool {
        let end = range.end();
        range.offset % self.length == 0 && (end % self.length == 0 || end == self.size)
    }

    /// Returns the range of all blocks that a range touches.
    fn around(self, range: Range) -> Range {
        let start = range.offset - range.offset % self.length;
        // The size has 63 bits, and a block 16.
        let end = range.end().next_multiple_of(self.length).min(self.size);
        Range::between(start, end)
    }

    /// Divides a range at the ends of blocks.
    fn divide(self, range: Range) -> Division {
        let (start, end) = (range.offset, range.end());
        let first = start.next_multiple_of(self.length).min(end);
        let last = if end == self.size {
            end
        } else {
            end - end % self.length
        };
        // A range inside one block is a head and nothing else.
        let last = last.max(first);
        Division {
            head: Range::between(start, first),
            whole: Range::between(first, last),
            tail: Range::between(last, end),
        }
    }
}

/// What the parts of an unaligned request have in common.
#[derive(Debug)]
pub(super) struct Unaligned {
    pub(super) connection: Connection,
    pub(super) blocks: Blocks,
    pub(super) range: Range,
    pub(super) flags: CommandFlags,
    /// The flags of reads.
    pub(super) read_flags: CommandFlags,
    pub(super) hold: Hold,
}

impl Unaligned {
    fn part<O: Execute>(&self, sent: &Sent, operation: O, range: Range) -> Part<O> {
        let hold = self.hold.clone();
        Part::new(&self.connection, sent, operation, range, self.flags, hold)
    }

    /// Returns the change of `part`, which lies in one block, or `None` if it is empty.
    fn modify(&self, sent: &Sent, part: Range, data: Bytes) -> Option<Part<Modify>> {
        if part.length == 0 {
            return None;
        }
        let block = self.blocks.around(part);
        let modify = Modify {
            position: bytes(part.offset - block.offset),
            data,
            read_flags: self.read_flags,
        };
        // The other flags are about the whole blocks.
        let flags = self.flags & (CommandFlags::FUA | CommandFlags::PAYLOAD_LEN);
        let hold = self.hold.clone();
        Some(Part::new(
            &self.connection,
            sent,
            modify,
            block,
            flags,
            hold,
        ))
    }
}

/// Reads the blocks around a range, and cuts them.
pub(super) fn read(request: &Unaligned) -> Parts<Bytes> {
    let sent = Sent::default();
    let around = request.blocks.around(request.range);
    let part = request.part(&sent, Read, around);
    let start = bytes(request.range.offset - around.offset);
    let end = start + bytes(request.range.length);
    Parts::new(sent, async move { Ok(part.await?.slice(start..end)) })
}

/// Reads the blocks around a range into a buffer, and cuts them. The buffer is allocated anew if it
/// has no room for the blocks.
pub(super) fn read_into(
    request: &Unaligned,
    mut buffer: BytesMut,
) -> Result<Parts<BytesMut>, InvalidRequest> {
    let sent = Sent::default();
    let around = request.blocks.around(request.range);
    if buffer.capacity() < bytes(around.length) {
        let length = around.length;
        buffer = reserve(bytes(length)).map_err(|_| InvalidRequest::OutOfMemory { length })?;
    }
    let part = request.part(&sent, ReadInto(buffer), around);
    let start = bytes(request.range.offset - around.offset);
    let length = bytes(request.range.length);
    Ok(Parts::new(sent, async move {
        let mut buffer = part.await?;
        // In contrast to `advance`, this keeps all of the buffer's memory in its reach.
        buffer.copy_within(start..start + length, 0);
        buffer.truncate(length);
        Ok(buffer)
    }))
}

/// Writes a range.
pub(super) fn write(request: &Unaligned, mut data: Bytes) -> Parts<()> {
    let sent = Sent::default();
    let Division { head, whole, tail } = request.blocks.divide(request.range);
    let first = data.split_to(bytes(head.length).min(data.len()));
    let last = data.split_off(bytes(whole.length).min(data.len()));
    let head = request.modify(&sent, head, first);
    let tail = request.modify(&sent, tail, last);
    let whole = (whole.length > 0).then(|| request.part(&sent, Write(data), whole));
    Parts::new(sent, all(head, whole, tail))
}

/// Zeroes a range. With `or_write`, zeroes are written where the server does not offer the command.
pub(super) fn write_zeroes(request: &Unaligned, or_write: bool) -> Parts<()> {
    let sent = Sent::default();
    let Division { head, whole, tail } = request.blocks.divide(request.range);
    let zeroes = |part: Range| Bytes::from(vec![0; bytes(part.length)]);
    let head = request.modify(&sent, head, zeroes(head));
    let tail = request.modify(&sent, tail, zeroes(tail));
    let zeroes_ahead = || request.part(&sent, WriteZeroes { or_write }, whole);
    let whole = (whole.length > 0).then(zeroes_ahead);
    if !request.flags.contains(CommandFlags::FAST_ZERO) {
        return Parts::new(sent, all(head, whole, tail));
    }
    Parts::new(sent, async {
        // If the server refuses, nothing has been changed.
        wait(whole).await?;
        all(head, None::<Part<WriteZeroes>>, tail).await
    })
}

/// Waits for all parts of a change that there are.
async fn all(
    head: Option<impl Future<Output = Result<()>>>,
    whole: Option<impl Future<Output = Result<()>>>,
    tail: Option<impl Future<Output = Result<()>>>,
) -> Result<()> {
    try_join3(wait(head), wait(whole), wait(tail)).await?;
    Ok(())
}

async fn wait(part: Option<impl Future<Output = Result<()>>>) -> Result<()> {
    match part {
        Some(part) => part.await,
        None => Ok(()),
    }
}

impl Execute for Modify {
    const COMMAND: Command = Command::WRITE;

    fn again(&self) -> Self {
        let (position, data, read_flags) = (self.position, self.data.clone(), self.read_flags);
        Self {
            position,
            data,
            read_flags,
        }
    }

    fn submission(
        &mut self,
        _transmission: &Transmission,
        range: Range,
        flags: CommandFlags,
    ) -> Submission {
        let Range { offset, length } = range;
        Submission {
            command: Command::READ,
            flags: self.read_flags,
            offset,
            length,
            payload: Bytes::new(),
            sink: Sink::Modify(Box::new(session::Modify {
                read: Assembly::new(offset, length, BytesMut::new()),
                position: self.position,
                data: std::mem::take(&mut self.data),
                flags,
            })),
        }
    }

    fn output(
        &mut self,
        _transmission: &Transmission,
        _answer: Answer,
    ) -> <Self as Operation>::Output {
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_divided_at_the_ends_of_blocks() {
        let blocks = Blocks {
            length: 512,
            size: 5000,
        };
        for (range, head, whole, tail) in [
            (0..512, 0..0, 0..512, 512..512),
            (100..200, 100..200, 200..200, 200..200),
            (0..100, 0..0, 0..0, 0..100),
            (100..512, 100..512, 512..512, 512..512),
            (100..700, 100..512, 512..512, 512..700),
            (100..1100, 100..512, 512..1024, 1024..1100),
            // The last block is shorter.
            (4608..5000, 4608..4608, 4608..5000, 5000..5000),
            (4700..5000, 4700..5000, 5000..5000, 5000..5000),
            (4608..4700, 4608..4608, 4608..4608, 4608..4700),
            (4000..4900, 4000..4096, 4096..4608, 4608..4900),
        ] {
            let [range, head, whole, tail] =
                [range, head, whole, tail].map(|range| Range::between(range.start, range.end));
            let division = Division { head, whole, tail };
            assert_eq!(blocks.divide(range), division, "{range:?}");
        }
    }

    proptest! {
        #![proptest_config(crate::tests::properties::config())]

        #[test]
        fn parts_cover_the_range_and_lie_in_blocks(
            length in (0u32..17).prop_map(|log| 1u64 << log),
            size in 1u64..1 << 20,
            a in any::<u64>(),
            b in any::<u64>(),
        ) {
            let (a, b) = (a % (size + 1), b % (size + 1));
            let range = Range::between(a.min(b), a.max(b));
            let blocks = Blocks { length, size };
            let Division { head, whole, tail } = blocks.divide(range);
            prop_assert_eq!(head.offset, range.offset);
            prop_assert_eq!(head.end(), whole.offset);
            prop_assert_eq!(whole.end(), tail.offset);
            prop_assert_eq!(tail.end(), range.end());
            prop_assert!(whole.length == 0 || blocks.are_whole(whole));
            for part in [head, tail] {
                prop_assert!(part.length == 0 || blocks.around(part).length <= length);
            }
            if range.length > 0 {
                let around = blocks.around(range);
                prop_assert!(blocks.are_whole(around));
                prop_assert!(around.offset <= range.offset && around.end() >= range.end());
                prop_assert!(around.length < range.length + 2 * length);
            }
            if range.length > 0 && blocks.are_whole(range) {
                prop_assert_eq!(whole, range);
            }
        }
    }
}
