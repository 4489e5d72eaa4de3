//! Changes.

use bytes::Bytes;

use super::{Effect, Execute, bare};
use crate::connection::Connection;
use crate::driver::Transmission;
use crate::error::{InvalidRequest, Result};
use crate::export::Export;
use crate::request::hold::Hold;
use crate::request::op::{Trim, Write, WriteZeroes};
use crate::request::range::Range;
use crate::request::split::{self, Cut, Parts};
use crate::request::unaligned::{self, Unaligned};
use crate::session::{Answer, Submission};
use crate::wire::{Command, CommandFlags};

impl Execute for Write {
    const COMMAND: Command = Command::WRITE;

    fn again(&self) -> Self {
        Self(self.0.clone())
    }

    fn effect(&self) -> Effect {
        Effect::Data(self.0.clone())
    }

    fn of_data(&self, data: Bytes) -> Option<Self> {
        Some(Self(data))
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

    fn split(&mut self, cut: Cut) -> Result<Option<Parts<()>>, InvalidRequest> {
        let data = std::mem::take(&mut self.0);
        Ok(Some(split::write(cut, data)))
    }

    fn unaligned(&mut self, request: &Unaligned) -> Result<Option<Parts<()>>, InvalidRequest> {
        let data = std::mem::take(&mut self.0);
        Ok(Some(unaligned::write(request, data)))
    }

    fn output(&mut self, _transmission: &Transmission, _answer: Answer) {}
}

impl Execute for Trim {
    const COMMAND: Command = Command::TRIM;

    fn again(&self) -> Self {
        Self
    }

    fn effect(&self) -> Effect {
        Effect::Unknown
    }

    fn split(&mut self, cut: Cut) -> Result<Option<Parts<()>>, InvalidRequest> {
        Ok(Some(split::several(cut, |_| Self)))
    }

    fn output(&mut self, _transmission: &Transmission, _answer: Answer) {}
}

impl Execute for WriteZeroes {
    const COMMAND: Command = Command::WRITE_ZEROES;

    fn again(&self) -> Self {
        self.clone()
    }

    fn effect(&self) -> Effect {
        Effect::Zeroes
    }

    fn split(&mut self, cut: Cut) -> Result<Option<Parts<()>>, InvalidRequest> {
        let zeroes = |_| Self { or_write: false };
        Ok(Some(split::several(cut, zeroes)))
    }

    fn is_written(&self, export: &Export, flags: CommandFlags) -> bool {
        Self::is_written(self, export, flags)
    }

    fn may_be_written(&self) -> bool {
        self.or_write
    }

    fn or_write(
        &self,
        connection: &Connection,
        range: Range,
        flags: CommandFlags,
        of: Option<&Hold>,
    ) -> Result<Option<Parts<()>>> {
        Self::or_write(self, connection, range, flags, of)
    }

    fn unaligned(&mut self, request: &Unaligned) -> Result<Option<Parts<()>>, InvalidRequest> {
        Ok(Some(unaligned::write_zeroes(request, self.or_write)))
    }

    fn output(&mut self, _transmission: &Transmission, _answer: Answer) {}
}
