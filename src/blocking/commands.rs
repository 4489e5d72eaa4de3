//! The commands of a blocking disk.

use bytes::Bytes;

use super::Disk;
use super::runtime::Call;
use crate::error::{InvalidRequest, Result};
use crate::request::{
    Client, Execute, Request, cache, flush, ping, read, trim, write, write_zeroes,
};
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
            twin: "Disk::read",
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
            twin: "Disk::read",
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
            twin: "Disk::write",
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
            twin: "Disk::write",
        };
        self.check_range(Command::WRITE, offset, buf.len())?;
        let mut offset = offset;
        for part in buf.chunks(LONGEST) {
            self.write_part(call, part, offset)?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    /// Makes the changes durable that were begun before, by any thread; see [`Disk::flush`](crate::Disk::flush).
    ///
    /// # Errors
    /// If the request fails, or the server [cannot flush](crate::Export::can_flush).
    pub fn flush(&self) -> Result<()> {
        let call = Call {
            name: "Disk::flush",
            twin: "Disk::flush",
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
            twin: "Disk::trim",
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
            twin: "Disk::write_zeroes",
        };
        self.wait(call, || {
            write_zeroes(self.client(), offset, length).unaligned()
        })
    }

    /// Tells the server that `length` bytes at `offset` will be read soon; see
    /// [`Connection::cache`](crate::Connection::cache).
    ///
    /// # Errors
    /// If the request fails, or the server [cannot do this](crate::Export::can_cache).
    pub fn cache(&self, offset: u64, length: u64) -> Result<()> {
        let call = Call {
            name: "Disk::cache",
            twin: "Disk::cache",
        };
        self.wait(call, || cache(self.client(), offset, length))
    }

    /// Carries out a request of the [client](Self::client), with any of its flags. The timeout is
    /// that of this handle, unless the request has one.
    ///
    /// ```
    /// # use nbd_client::{Connector, testing};
    /// # fn main() -> nbd_client::Result<()> {
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let server = Connector::stream(move || { let s = server.connect(); async move { Ok(s) } });
    /// use nbd_client::blocking::Disk;
    ///
    /// let disk = Disk::open(server)?;
    /// disk.request(disk.client().write(4096, "durable at once").fua())?;
    /// disk.request(disk.client().write_zeroes(8192, 4096).no_hole().or_write())?;
    /// let data = disk.request(disk.client().read(4096, 7).dont_fragment())?;
    /// assert_eq!(&data[..], b"durable");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the request fails.
    #[allow(
        private_bounds,
        reason = "all requests that can be made can be carried out"
    )]
    pub fn request<O: Execute>(&self, request: Request<O, C>) -> Result<O::Output> {
        let call = Call {
            name: "Disk::request",
            twin: "Request",
        };
        self.wait(call, || request)
    }

    /// Waits until all changes are answered that were begun before, by any thread, without a flush;
    /// see [`Disk::settled`](crate::Disk::settled).
    ///
    /// # Errors
    /// If the connection ends before, and [`Error::Timeout`](crate::Error::Timeout).
    pub fn settled(&self) -> Result<()> {
        let call = Call {
            name: "Disk::settled",
            twin: "Disk::settled",
        };
        self.within(call, || self.client().settle())
    }

    /// Proves that the server answers, see [`Disk::ping`](crate::Disk::ping).
    ///
    /// # Errors
    /// If the disk has ended, and [`Error::Timeout`](crate::Error::Timeout).
    pub fn ping(&self) -> Result<()> {
        let call = Call {
            name: "Disk::ping",
            twin: "Disk::ping",
        };
        self.within(call, || ping(self.client()))
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
