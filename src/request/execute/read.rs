//! Reads.

use bytes::{Bytes, BytesMut};

use super::{Execute, bare};
use crate::driver::Transmission;
use crate::error::{InvalidRequest, Result};
use crate::limits::Limits;
use crate::request::op::{Read, ReadInto};
use crate::request::range::{Range, bytes};
use crate::request::split::{self, Cut, Parts};
use crate::request::unaligned::{self, Unaligned};
use crate::session::{Answer, Assembly, Sink, Submission, reserve};
use crate::wire::{Command, CommandFlags};

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

    fn split(&mut self, cut: Cut) -> Result<Option<Parts<Bytes>>, InvalidRequest> {
        let length = cut.length();
        let no_memory = |_| InvalidRequest::OutOfMemory { length };
        let buffer = reserve(bytes(length)).map_err(no_memory)?;
        let parts = split::read(cut, buffer);
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

    fn split(&mut self, cut: Cut) -> Result<Option<Parts<BytesMut>>, InvalidRequest> {
        let buffer = std::mem::take(&mut self.0);
        Ok(Some(split::read(cut, buffer)))
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

/// Returns the data of the answer to a read. The session gives no other answer to it.
fn data(answer: Answer) -> BytesMut {
    match answer {
        Answer::Data(data) => data,
        Answer::Done | Answer::Status(_) | Answer::Block(_) => BytesMut::new(),
    }
}
