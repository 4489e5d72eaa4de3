//! Zeroes that are written where the server has no command for them.

use bytes::Bytes;

use super::check::{check, step};
use super::op::{Write, WriteZeroes};
use super::pending::Pending;
use super::range::Range;
use super::split::{Part, Parts, Sent, several};
use crate::connection::Connection;
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
    ) -> Result<Option<Parts<()>>> {
        let transmission = connection.transmission()?;
        if self.is_written(transmission.export(), flags) {
            return written(connection, range, flags).map(Some);
        }
        if !self.or_write || !flags.contains(CommandFlags::FAST_ZERO) {
            return Ok(None);
        }
        let sent = Sent::default();
        let zeroes = Self { or_write: false };
        let attempt = Pending::part(connection.clone(), zeroes, range, flags);
        let attempt = Part::new(attempt, sent.clone());
        let connection = connection.clone();
        Ok(Some(Parts::new(sent, async move {
            match attempt.await {
                Err(Error::Request(error)) if error.errno() == Errno::ENOTSUP => {
                    written(&connection, range, flags)?.finish().await
                }
                result => result,
            }
        })))
    }
}

/// Writes zeroes at `range`.
fn written(connection: &Connection, range: Range, flags: CommandFlags) -> Result<Parts<()>> {
    let transmission = connection.transmission()?;
    let strict = connection.strict();
    let mut flags = flags & CommandFlags::FUA;
    // with extended headers, a write announces its payload.
    flags.set(
        CommandFlags::PAYLOAD_LEN,
        transmission.style() == ReplyStyle::Extended,
    );
    check(transmission, strict, Command::WRITE, flags, range)?;
    if let Some(error) = transmission.refusal() {
        return Err(error);
    }
    let step = step(transmission, strict, Command::WRITE, CommandFlags::empty()).at_most(LONGEST);
    let length = usize::try_from(step.most.min(range.length)).unwrap_or(usize::MAX);
    let zeroes = Bytes::from(vec![0; length]);
    Ok(several(connection, range, step, flags, move |range| {
        let length = usize::try_from(range.length).unwrap_or(usize::MAX);
        Write(zeroes.slice(..length.min(zeroes.len())))
    }))
}
