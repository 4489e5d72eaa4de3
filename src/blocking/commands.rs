//! The commands of a blocking disk.

use bytes::Bytes;

use super::Disk;
use super::runtime::Call;
use crate::error::{InvalidRequest, Result};
use crate::request::{Client, flush, read, trim, write, write_zeroes};
use crate::wire::Command;

/// The longest request, in bytes. Longer reads and writes are made of several, one after the other,
/// so that a buffer of any size needs only this much memory beside it.
const LONGEST: usize = 32 << 20;

impl<C: Client> Disk<C> {
    /// Reads at most `buf.len()` bytes at `offset`, and returns how many were read. As with a file,
    /// that is fewer at the end of the export, and zero beyond it; a long read may also be cut
    /// short, but never to nothing.
    ///
    /// # Errors
    /// If the request fails. Then `buf` is unchanged.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let call = Call {
            name: "Disk::read_at",
            twin: "Connection::read",
        };
        let (offset, length) = self.fitting(offset, buf.len());
        self.read_part(call, buf.split_at_mut(length).0, offset)?;
        Ok(length)
    }

    /// Fills `buf` with the bytes at `offset`.
    ///
    /// # Errors
    /// If the range is not inside the export, which is checked first, or a request fails. Then `buf`
    /// may have been filled in part.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let call = Call {
            name: "Disk::read_exact_at",
            twin: "Connection::read",
        };
        self.check_range(Command::READ, offset, buf.len())?;
        let mut offset = offset;
        for part in buf.chunks_mut(LONGEST) {
            self.read_part(call, part, offset)?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    /// Writes at most `buf.len()` bytes at `offset`, and returns how many were written: fewer at the
    /// end of the export, and zero beyond it. A long write may also be cut short, but never to
    /// nothing. The data is durable only after a [`flush`](Self::flush).
    ///
    /// # Errors
    /// If the request fails. Then any part of the range may have been written.
    pub fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        let call = Call {
            name: "Disk::write_at",
            twin: "Connection::write",
        };
        let (offset, length) = self.fitting(offset, buf.len());
        self.write_part(call, buf.split_at(length).0, offset)?;
        Ok(length)
    }

    /// Writes all of `buf` at `offset`. The data is durable only after a [`flush`](Self::flush).
    ///
    /// # Errors
    /// If the range is not inside the export, which is checked before anything is written, or a
    /// request fails. Then any part of the range may have been written.
    pub fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let call = Call {
            name: "Disk::write_all_at",
            twin: "Connection::write",
        };
        self.check_range(Command::WRITE, offset, buf.len())?;
        let mut offset = offset;
        for part in buf.chunks(LONGEST) {
            self.write_part(call, part, offset)?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    /// Makes the changes durable that were begun before, by any thread; see [`Connection::flush`](crate::Connection::flush).
    ///
    /// # Errors
    /// If the request fails, or the server [cannot flush](crate::Export::can_flush).
    pub fn flush(&self) -> Result<()> {
        let call = Call {
            name: "Disk::flush",
            twin: "Connection::flush",
        };
        self.wait(call, || flush(self.client()))
    }

    /// Discards `length` bytes at `offset`. Their content is undefined until they are written
    /// again. Offset and length must be multiples of the server's
    /// [minimum block size](crate::BlockSize::minimum); see [`Connection::trim`](crate::Connection::trim).
    ///
    /// # Errors
    /// If the request fails, or the server [cannot trim](crate::Export::can_trim).
    pub fn trim(&self, offset: u64, length: u64) -> Result<()> {
        let call = Call {
            name: "Disk::trim",
            twin: "Connection::trim",
        };
        self.wait(call, || trim(self.client(), offset, length))
    }

    /// Writes `length` zeroes at `offset` without sending them; see [`Connection::write_zeroes`](crate::Connection::write_zeroes).
    ///
    /// # Errors
    /// If the request fails, or the server [cannot do this](crate::Export::can_zero).
    pub fn write_zeroes(&self, offset: u64, length: u64) -> Result<()> {
        let call = Call {
            name: "Disk::write_zeroes",
            twin: "Connection::write_zeroes",
        };
        self.wait(call, || {
            write_zeroes(self.client(), offset, length).unaligned()
        })
    }

    fn read_part(&self, call: Call, buf: &mut [u8], offset: u64) -> Result<()> {
        let length = buf.len() as u64;
        let data = self.wait(call, || read(self.client(), offset, length).unaligned())?;
        buf.copy_from_slice(&data);
        Ok(())
    }

    fn write_part(&self, call: Call, buf: &[u8], offset: u64) -> Result<()> {
        self.wait(call, || {
            let data = Bytes::copy_from_slice(buf);
            write(self.client(), offset, data).unaligned()
        })
    }

    /// Returns the part of a range of any length that one request can be for. Beyond the end of the
    /// export, it is empty and at the end.
    fn fitting(&self, offset: u64, length: usize) -> (u64, usize) {
        let offset = offset.min(self.size());
        let rest = usize::try_from(self.size() - offset).unwrap_or(usize::MAX);
        (offset, length.min(LONGEST).min(rest))
    }

    /// Checks that a range of any length lies inside the export.
    fn check_range(&self, command: Command, offset: u64, length: usize) -> Result<()> {
        let (length, size) = (length as u64, self.size());
        if offset.checked_add(length).is_some_and(|end| end <= size) {
            return Ok(());
        }
        Err(InvalidRequest::OutOfBounds {
            command,
            offset,
            length,
            size,
        }
        .into())
    }
}
