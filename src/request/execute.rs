//! The message of each command, and the result of its answer.

#![allow(
    private_interfaces,
    unnameable_types,
    reason = "how a command is executed is nobody else's business"
)]

use bytes::{BufMut, Bytes, BytesMut};

use super::check::Step;
use super::op::{Cache, Flush, Operation, Read, ReadInto, Status, Trim, Write, WriteZeroes};
use super::range::Range;
use super::split::{self, Parts};
use super::unaligned::{self, Unaligned};
use crate::connection::Connection;
use crate::driver::Transmission;
use crate::error::{InvalidRequest, Result};
use crate::export::Export;
use crate::extent::BlockStatus;
use crate::limits::Limits;
use crate::session::{Answer, Assembly, Sink, StatusAssembly, Submission, reserve};
use crate::wire::{Command, CommandFlags, ReplyStyle};

/// The longest block status in a compact header: some servers overflow close to 4 GiB.
const MAX_COMPACT_STATUS: u64 = (1 << 32) - (64 << 10);

/// A command: its message, and the result of its answer.
pub trait Execute: Operation {
    /// The command.
    const COMMAND: Command;

    /// Returns the command once more, to be sent again; a buffer to read into stays with the first.
    fn again(&self) -> Self;

    /// Returns what the command does to its range.
    fn effect(&self) -> Effect {
        match Self::COMMAND {
            Command::TRIM => Effect::Unknown,
            Command::WRITE_ZEROES => Effect::Zeroes,
            _ => Effect::None,
        }
    }

    /// Makes one message of the command, for a range and flags that passed the checks.
    fn submission(
        &mut self,
        transmission: &Transmission,
        range: Range,
        flags: CommandFlags,
    ) -> Submission;

    /// Makes the checks that are particular to the command, and returns flags to add.
    fn check(&mut self, _transmission: &Transmission) -> Result<CommandFlags, InvalidRequest> {
        Ok(CommandFlags::empty())
    }

    /// Checks the length of an answer for which this side allocates memory.
    fn check_memory(&self, _limits: &Limits, _length: u64) -> Result<(), InvalidRequest> {
        Ok(())
    }

    /// Divides the command into several messages, if it can be divided.
    fn split(
        &mut self,
        _connection: &Connection,
        _range: Range,
        _step: Step,
        _flags: CommandFlags,
    ) -> Result<Option<Parts<Self::Output>>, InvalidRequest> {
        Ok(None)
    }

    /// Returns whether writes replace the command, since the server does not offer it.
    fn is_written(&self, _export: &Export, _flags: CommandFlags) -> bool {
        false
    }

    /// Returns the command as writes, or as an attempt that writes may follow, if it needs either.
    fn or_write(
        &self,
        _connection: &Connection,
        _range: Range,
        _flags: CommandFlags,
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

    /// Returns the command with a flush after it, if the command is a change.
    fn flushed(
        &mut self,
        _connection: &Connection,
        _range: Range,
        _flags: CommandFlags,
    ) -> Option<Parts<Self::Output>> {
        None
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

impl Execute for Read {
    const COMMAND: Command = Command::READ;

    fn again(&self) -> Self {
        Self
    }

    fn check_memory(&self, limits: &Limits, length: u64) -> Result<(), InvalidRequest> {
        let (command, limit) = (Self::COMMAND, limits.read);
        if length <= limit {
            return Ok(());
        }
        Err(InvalidRequest::TooLong {
            command,
            length,
            limit,
        })
    }

    fn submission(
        &mut self,
        _transmission: &Transmission,
        range: Range,
        flags: CommandFlags,
    ) -> Submission {
        // The buffer is allocated when the first data comes.
        let sink = Sink::Read(Assembly::new(range.offset, range.length, BytesMut::new()));
        Submission {
            sink,
            ..bare::<Self>(range, flags)
        }
    }

    fn split(
        &mut self,
        connection: &Connection,
        range: Range,
        step: Step,
        flags: CommandFlags,
    ) -> Result<Option<Parts<Bytes>>, InvalidRequest> {
        let Range { length, .. } = range;
        let no_memory = |_| InvalidRequest::OutOfMemory { length };
        let buffer = reserve(usize::try_from(length).unwrap_or(usize::MAX)).map_err(no_memory)?;
        let parts = split::read(connection, buffer, range, step, flags);
        Ok(Some(parts.map(BytesMut::freeze)))
    }

    fn unaligned(&mut self, request: &Unaligned) -> Result<Option<Parts<Bytes>>, InvalidRequest> {
        Ok(Some(unaligned::read(request)))
    }

    fn output(&mut self, transmission: &Transmission, answer: Answer) -> Bytes {
        transmission.buffers().freeze(data(answer))
    }
}

impl Execute for ReadInto {
    const COMMAND: Command = Command::READ;

    fn again(&self) -> Self {
        Self(BytesMut::new())
    }

    fn submission(
        &mut self,
        _transmission: &Transmission,
        range: Range,
        flags: CommandFlags,
    ) -> Submission {
        let buffer = std::mem::take(&mut self.0);
        let sink = Sink::Read(Assembly::new(range.offset, range.length, buffer));
        Submission {
            sink,
            ..bare::<Self>(range, flags)
        }
    }

    fn split(
        &mut self,
        connection: &Connection,
        range: Range,
        step: Step,
        flags: CommandFlags,
    ) -> Result<Option<Parts<BytesMut>>, InvalidRequest> {
        let buffer = std::mem::take(&mut self.0);
        Ok(Some(split::read(connection, buffer, range, step, flags)))
    }

    fn unaligned(
        &mut self,
        request: &Unaligned,
    ) -> Result<Option<Parts<BytesMut>>, InvalidRequest> {
        let buffer = std::mem::take(&mut self.0);
        unaligned::read_into(request, buffer).map(Some)
    }

    fn output(&mut self, _transmission: &Transmission, answer: Answer) -> BytesMut {
        data(answer)
    }
}

impl Execute for Write {
    const COMMAND: Command = Command::WRITE;

    fn again(&self) -> Self {
        Self(self.0.clone())
    }

    fn effect(&self) -> Effect {
        Effect::Data(self.0.clone())
    }

    fn submission(
        &mut self,
        _transmission: &Transmission,
        range: Range,
        flags: CommandFlags,
    ) -> Submission {
        Submission {
            payload: std::mem::take(&mut self.0),
            ..bare::<Self>(range, flags)
        }
    }

    fn split(
        &mut self,
        connection: &Connection,
        range: Range,
        step: Step,
        flags: CommandFlags,
    ) -> Result<Option<Parts<()>>, InvalidRequest> {
        let data = std::mem::take(&mut self.0);
        Ok(Some(split::write(connection, data, range, step, flags)))
    }

    fn flushed(
        &mut self,
        connection: &Connection,
        range: Range,
        flags: CommandFlags,
    ) -> Option<Parts<()>> {
        let write = Self(std::mem::take(&mut self.0));
        Some(split::flushed(connection, write, range, flags))
    }

    fn unaligned(&mut self, request: &Unaligned) -> Result<Option<Parts<()>>, InvalidRequest> {
        let data = std::mem::take(&mut self.0);
        Ok(Some(unaligned::write(request, data)))
    }

    fn output(&mut self, _transmission: &Transmission, _answer: Answer) {}
}

/// Implements commands whose message is only a header.
macro_rules! bare_operation {
    ($name:ident = $command:ident { $($more:tt)* }) => {
        impl Execute for $name {
            const COMMAND: Command = Command::$command;

            fn again(&self) -> Self {
                self.clone()
            }

            fn submission(
                &mut self,
                _transmission: &Transmission,
                range: Range,
                flags: CommandFlags,
            ) -> Submission {
                bare::<Self>(range, flags)
            }

            fn output(&mut self, _transmission: &Transmission, _answer: Answer) {}

            $($more)*
        }
    };
    (divisible $name:ident = $command:ident { $($more:tt)* }) => {
        bare_operation!(divisible $name {} = $command { $($more)* });
    };
    (divisible $name:ident $value:tt = $command:ident { $($more:tt)* }) => {
        bare_operation!($name = $command {
            fn split(
                &mut self,
                connection: &Connection,
                range: Range,
                step: Step,
                flags: CommandFlags,
            ) -> Result<Option<Parts<()>>, InvalidRequest> {
                Ok(Some(split::several(connection, range, step, flags, |_| Self $value)))
            }

            $($more)*
        });
    };
    (change $name:ident $value:tt = $command:ident { $($more:tt)* }) => {
        bare_operation!(divisible $name $value = $command {
            fn flushed(
                &mut self,
                connection: &Connection,
                range: Range,
                flags: CommandFlags,
            ) -> Option<Parts<()>> {
                let change = std::mem::replace(self, Self $value);
                Some(split::flushed(connection, change, range, flags))
            }

            $($more)*
        });
    };
}

bare_operation!(Flush = FLUSH {});
bare_operation!(divisible Cache = CACHE {});
bare_operation!(change Trim {} = TRIM {});
bare_operation!(change WriteZeroes { or_write: false } = WRITE_ZEROES {
    fn is_written(&self, export: &Export, flags: CommandFlags) -> bool {
        Self::is_written(self, export, flags)
    }

    fn or_write(
        &self,
        connection: &Connection,
        range: Range,
        flags: CommandFlags,
    ) -> Result<Option<Parts<()>>> {
        Self::or_write(self, connection, range, flags)
    }

    fn unaligned(&mut self, request: &Unaligned) -> Result<Option<Parts<()>>, InvalidRequest> {
        Ok(Some(unaligned::write_zeroes(request, self.or_write)))
    }
});

impl Execute for Status {
    const COMMAND: Command = Command::BLOCK_STATUS;

    fn again(&self) -> Self {
        Self {
            filter: self.filter.clone(),
            contexts: self.contexts.clone(),
        }
    }

    fn check(&mut self, transmission: &Transmission) -> Result<CommandFlags, InvalidRequest> {
        let export = transmission.export();
        let Some(filter) = &self.filter else {
            self.contexts.clone_from(&export.contexts);
            return Ok(CommandFlags::empty());
        };
        // a choice of contexts is a payload, which only extended headers can announce.
        if transmission.style() != ReplyStyle::Extended {
            let why = "a choice of contexts needs extended headers";
            return Err(InvalidRequest::NotNegotiated(why));
        }
        let find = |name: &String| {
            export
                .find_context(name)
                .ok_or_else(|| InvalidRequest::unknown_context(name, export.contexts()))
        };
        self.contexts.clear();
        for name in filter {
            let context = find(name)?;
            // each id is sent once, since a server refuses repeated ids.
            if !self.contexts.contains(&context) {
                self.contexts.push(context);
            }
        }
        if self.contexts.is_empty() {
            let why = "a choice of contexts needs at least one".to_owned();
            return Err(InvalidRequest::Argument {
                what: "contexts",
                why,
            });
        }
        Ok(CommandFlags::PAYLOAD_LEN)
    }

    fn submission(
        &mut self,
        transmission: &Transmission,
        range: Range,
        flags: CommandFlags,
    ) -> Submission {
        let Range { offset, mut length } = range;
        if transmission.style() != ReplyStyle::Extended {
            length = length.min(MAX_COMPACT_STATUS);
        }
        let one = flags.contains(CommandFlags::REQ_ONE);
        let wanted = std::mem::take(&mut self.contexts);
        let mut payload = BytesMut::new();
        if flags.contains(CommandFlags::PAYLOAD_LEN) {
            payload.put_u64(length);
            wanted
                .iter()
                .for_each(|context| payload.put_u32(context.id));
        }
        // If the check of the range is off, the server may describe what lies beyond the export.
        let size = transmission
            .export()
            .size()
            .max(offset.saturating_add(length));
        let mut status = StatusAssembly::new(offset, length, size, one, wanted);
        if payload.is_empty() {
            // M03: the status of a context that nobody asked for is checked and left out.
            status = status.with_strays(&transmission.export().strays);
        }
        Submission {
            length: if payload.is_empty() {
                length
            } else {
                payload.len() as u64
            },
            payload: payload.freeze(),
            sink: Sink::Status(Box::new(status)),
            ..bare::<Self>(range, flags)
        }
    }

    fn output(&mut self, _transmission: &Transmission, answer: Answer) -> BlockStatus {
        match answer {
            Answer::Status(status) => status,
            Answer::Done | Answer::Data(_) | Answer::Block(_) => BlockStatus::default(),
        }
    }
}

/// Returns the data of the answer to a read. The session gives no other answer to it.
fn data(answer: Answer) -> BytesMut {
    match answer {
        Answer::Data(data) => data,
        Answer::Done | Answer::Status(_) | Answer::Block(_) => BytesMut::new(),
    }
}
