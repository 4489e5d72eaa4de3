//! Changes of a part of a block: the block is read, changed, and written.

use bytes::{Bytes, BytesMut};

use super::inflight::Kind;
use super::{Answer, Assembly, Error, Session, Sink};
use crate::error::Delivery;
use crate::wire::request::RequestHead;
use crate::wire::{Command, CommandFlags, ProtocolError};

/// A change of a part of a block, while the block is read.
///
/// No other change of the block is in flight from the read until the write is answered, see
/// `Blocked`: otherwise the write would undo it.
#[derive(Debug)]
pub struct Modify {
    /// The read of the block.
    pub read: Assembly,
    /// The position of the new bytes in the block.
    pub position: usize,
    /// The new bytes.
    pub data: Bytes,
    /// The flags of the write.
    pub flags: CommandFlags,
}

/// A block that was read and changed, and is to be written.
#[derive(Debug)]
pub struct Block {
    data: BytesMut,
    flags: CommandFlags,
}

impl Modify {
    /// Changes the block after it was read.
    ///
    /// # Errors
    /// If a part of the block is missing.
    pub(super) fn finish(&mut self) -> Result<Box<Block>, ProtocolError> {
        let mut block = self.read.finish()?;
        let end = self.position.saturating_add(self.data.len());
        // The part lies in the block, unless there was no memory for the block.
        if let Some(part) = block.get_mut(self.position..end) {
            part.copy_from_slice(&self.data);
        }
        Ok(Box::new(Block {
            data: block,
            flags: self.flags,
        }))
    }
}

impl Session {
    /// Goes on after a block was read: writes it, in the slot of the read and with a new cookie.
    /// Returns the result if that is the end of the request instead.
    pub(super) fn write_back(
        &mut self,
        slot: usize,
        block: Block,
    ) -> Result<(), Result<Answer, Error>> {
        let refusal = self.refuses_writing_back();
        let Some(entry) = self.inflight.get_mut(slot) else {
            return Ok(());
        };
        if entry.abandoned {
            return Err(Ok(Answer::Done));
        }
        if let Some(error) = refusal {
            return Err(Err(error.delivered(Delivery::NotSent)));
        }
        self.expected = self.expected.saturating_sub(entry.data());
        entry.command = Command::WRITE;
        entry.sink = Sink::None;
        entry.fua = block.flags.contains(CommandFlags::FUA);
        entry.single_chunk = false;
        entry.errors = 0;
        entry.epoch = self.epoch;
        let (offset, length) = (entry.offset, entry.length);
        let head = RequestHead {
            flags: block.flags,
            command: Command::WRITE,
            cookie: self.inflight.renew(slot),
            offset,
            length,
        };
        let begin = self.queued;
        let data = self.buffers.freeze(block.data);
        self.push(&head, data);
        self.unprompted = true;
        if let Some(entry) = self.inflight.get_mut(slot) {
            entry.sent = begin..self.queued;
        }
        Ok(())
    }

    /// Returns the reason why a block that was read is not to be written, if there is one.
    fn refuses_writing_back(&self) -> Option<Error> {
        match &self.closing {
            // A request in flight is finished before this side disconnects.
            Some(Error::Closed(_)) if !self.disconnecting => None,
            // P-146: after ESHUTDOWN nothing new is sent. P-144: nothing follows DISC.
            closing => closing.clone(),
        }
    }

    /// Ends the change of a block whose caller gives it up before anything is written. What is left
    /// is a read, for the answer to which nobody waits.
    pub(super) fn unlock(&mut self, slot: usize) {
        let Some(entry) = self.inflight.get_mut(slot) else {
            return;
        };
        let Kind::Change { span } = entry.kind else {
            return;
        };
        let changes = entry.changes();
        entry.kind = Kind::Other;
        entry.exclusive = false;
        if let Some(changes) = &changes {
            self.gate.answered(changes, slot as u64);
        }
        self.end_change(span);
    }
}
