//! Zeroes that are written where the server has no command for them.

use bytes::Bytes;

use super::check::{check, step};
use super::hold::Hold;
use super::op::{Write, WriteZeroes};
use super::range::{Range, bytes};
use super::split::{Cut, Part, Parts, Sent, several};
use crate::connection::Connection;
use crate::driver::Transmission;
use crate::error::{Error, Result};
use crate::export::Export;
use crate::wire::{Command, CommandFlags, Errno, ReplyStyle};

/// The longest message of zeroes, in bytes. All messages of a request share this memory.
const LONGEST: u64 = 256 << 10;

impl WriteZeroes {
    /// Returns whether zeroes are written, since the server does not offer what is asked for.
    pub(super) fn is_written(&self, export: &Export, flags: CommandFlags) -> bool {
        let fast = flags.contains(CommandFlags::FAST_ZERO);
        self.or_write && (!export.can_zero() || fast && !export.can_fast_zero())
    }

    /// Returns the request as writes, or as an attempt that writes may follow, if it needs either.
    pub(super) fn or_write(
        &self,
        connection: &Connection,
        range: Range,
        flags: CommandFlags,
        of: Option<&Hold>,
    ) -> Result<Option<Parts<()>>> {
        let transmission = connection.transmission()?;
        if self.is_written(transmission.export(), flags) {
            let hold = Hold::begin(of, transmission);
            return written(connection, range, flags, hold).map(Some);
        }
        if !self.or_write || !flags.contains(CommandFlags::FAST_ZERO) {
            return Ok(None);
        }
        let sent = Sent::default();
        let zeroes = Self { or_write: false };
        let hold = Hold::begin(of, transmission);
        let attempt = Part::new(connection, &sent, zeroes, range, flags, hold.clone());
        let connection = connection.clone();
        Ok(Some(Parts::new(sent, async move {
            match attempt.await {
                Err(Error::Request(error)) if error.errno() == Errno::ENOTSUP => {
                    written(&connection, range, flags, hold)?.finish().await
                }
                result => result,
            }
        })))
    }
}

/// Writes zeroes at `range`.
fn written(
    connection: &Connection,
    range: Range,
    flags: CommandFlags,
    hold: Hold,
) -> Result<Parts<()>> {
    let transmission = connection.transmission()?;
    let strict = connection.strict();
    let flags = write_flags(transmission, flags);
    check(transmission, strict, Command::WRITE, flags, range)?;
    if let Some(error) = transmission.refusal(hold.is_held()) {
        return Err(error);
    }
    let step = step(transmission, strict, Command::WRITE, CommandFlags::empty()).at_most(LONGEST);
    let zeroes = Bytes::from(vec![0; bytes(step.most.min(range.length))]);
    let cut = Cut::new(connection, range, step, flags, hold);
    Ok(several(cut, move |range| {
        Write(zeroes.slice(..bytes(range.length).min(zeroes.len())))
    }))
}

/// Returns the flags of the writes that replace a request with these flags.
pub(super) fn write_flags(transmission: &Transmission, flags: CommandFlags) -> CommandFlags {
    let mut flags = flags & CommandFlags::FUA;
    // with extended headers, a write announces its payload.
    let announces = transmission.style() == ReplyStyle::Extended;
    flags.set(CommandFlags::PAYLOAD_LEN, announces);
    flags
}
