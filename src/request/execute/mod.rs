//! The message of each command, and the result of its answer.

#![allow(
    private_interfaces,
    unnameable_types,
    reason = "how a command is executed is nobody else's business"
)]

mod change;
mod read;
mod status;

use bytes::Bytes;

use super::hold::Hold;
use super::op::{Cache, Flush, Operation};
use super::range::Range;
use super::split::{self, Cut, Parts};
use super::unaligned::Unaligned;
use crate::connection::Connection;
use crate::driver::Transmission;
use crate::error::{InvalidRequest, Result};
use crate::export::Export;
use crate::limits::Limits;
use crate::session::{Answer, Sink, Submission};
use crate::wire::{Command, CommandFlags};

/// A command: its message, and the result of its answer.
pub trait Execute: Operation + Sized {
    /// The command.
    const COMMAND: Command;

    /// Returns the command once more, to be sent again; a buffer to read into stays with the first.
    fn again(&self) -> Self;

    /// Returns what the command does to its range.
    fn effect(&self) -> Effect {
        Effect::None
    }

    /// Returns the command with other data, if it is a write.
    fn of_data(&self, _data: Bytes) -> Option<Self> {
        None
    }

    /// Makes one message of the command, for a range and flags that passed the checks. By default it
    /// is only a header.
    fn submission(
        &mut self,
        _transmission: &Transmission,
        range: Range,
        flags: CommandFlags,
    ) -> Submission {
        bare::<Self>(range, flags)
    }

    /// Makes the checks that are particular to the command, and returns flags to add.
    fn check(&mut self, _transmission: &Transmission) -> Result<CommandFlags, InvalidRequest> {
        Ok(CommandFlags::empty())
    }

    /// Checks the length of an answer for which this side allocates memory.
    fn check_memory(&self, _limits: &Limits, _length: u64) -> Result<(), InvalidRequest> {
        Ok(())
    }

    /// Divides the command into several messages, if it can be divided.
    fn split(&mut self, _cut: Cut) -> Result<Option<Parts<Self::Output>>, InvalidRequest> {
        Ok(None)
    }

    /// Returns whether writes replace the command, since the server does not offer it.
    fn is_written(&self, _export: &Export, _flags: CommandFlags) -> bool {
        false
    }

    /// Returns whether writes, as many as it takes, may replace the command.
    fn may_be_written(&self) -> bool {
        false
    }

    /// Returns the command as writes, or as an attempt that writes may follow, if it needs either. `of`
    /// is held by the request that it is a part of, if it is one.
    fn or_write(
        &self,
        _connection: &Connection,
        _range: Range,
        _flags: CommandFlags,
        _of: Option<&Hold>,
    ) -> Result<Option<Parts<Self::Output>>> {
        Ok(None)
    }

    /// Divides the command at the ends of blocks, if it can be made for any range.
    fn unaligned(
        &mut self,
        _request: &Unaligned,
    ) -> Result<Option<Parts<Self::Output>>, InvalidRequest> {
        Ok(None)
    }

    /// Converts the answer to the result for the caller.
    fn output(&mut self, transmission: &Transmission, answer: Answer) -> Self::Output;
}

/// What a command does to the bytes of its range.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// It does not change them.
    None,
    /// It gives them this content.
    Data(Bytes),
    /// It makes zeroes of them.
    Zeroes,
    /// It leaves them undefined.
    Unknown,
}

/// Makes a message that is only a header.
fn bare<O: Execute>(range: Range, flags: CommandFlags) -> Submission {
    Submission {
        command: O::COMMAND,
        flags,
        offset: range.offset,
        length: range.length,
        payload: Bytes::new(),
        sink: Sink::None,
    }
}

impl Execute for Flush {
    const COMMAND: Command = Command::FLUSH;

    fn again(&self) -> Self {
        Self
    }

    fn output(&mut self, _transmission: &Transmission, _answer: Answer) {}
}

impl Execute for Cache {
    const COMMAND: Command = Command::CACHE;

    fn again(&self) -> Self {
        Self
    }

    fn split(&mut self, cut: Cut) -> Result<Option<Parts<()>>, InvalidRequest> {
        Ok(Some(split::several(cut, |_| Self)))
    }

    fn output(&mut self, _transmission: &Transmission, _answer: Answer) {}
}
