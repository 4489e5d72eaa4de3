//! An export as a file of the standard library.

use std::fmt;
use std::io::{BufRead, Read, Result, Seek, SeekFrom, Write};
use std::mem;
use std::ops::RangeBounds;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::Disk;
use super::runtime::{Call, wait, was_forked};
use crate::cursor::Cursor as AsyncCursor;
use crate::disk::Disk as AsyncDisk;
use crate::error;
use crate::request::Client;

/// An export, or a part of it, as a file: it implements [`Read`], [`BufRead`], [`Write`] and [`Seek`].
///
/// [`Disk::cursor`] makes one. A disk can have any number of cursors, each with a position of its
/// own. It is the async [`Cursor`](AsyncCursor) on the background thread's connections, where is
/// said how it reads ahead, what happens at the end, and which errors stay; no buffer is needed
/// around it for reading. A write waits until the server has acknowledged it, so that many small ones
/// are slow: use [`write_behind`](Self::write_behind).
///
/// [`flush`](Write::flush) waits until all writes are acknowledged; [`sync_all`](Self::sync_all) makes
/// them durable. Dropping a cursor loses what write-behind has not sent, and never waits.
///
/// # Errors
/// The [`io::Error`](std::io::Error) holds the [`Error`](error::Error) of this crate;
/// [`get_ref`](std::io::Error::get_ref) returns it.
///
/// # Examples
/// ```
/// # use nbd_client::{Connector, testing};
/// # fn main() -> std::io::Result<()> {
/// use std::io::{BufRead, Seek, Write};
///
/// use nbd_client::blocking::Disk;
///
/// # let server = testing::Server::new(testing::Export::new(1 << 20));
/// # let server = Connector::stream(move || { let s = server.connect(); async move { Ok(s) } });
/// let disk = Disk::open(server)?;
/// let mut partition = disk.cursor().range(4096..65536);
/// writeln!(partition, "first line")?;
/// writeln!(partition, "second line")?;
/// partition.sync_all()?;
///
/// partition.rewind()?;
/// let second = partition.lines().nth(1).expect("two lines")?;
/// assert_eq!(second, "second line");
/// # Ok(())
/// # }
/// ```
pub struct Cursor<C: Client = AsyncDisk> {
    disk: Disk<C>,
    inner: AsyncCursor<C>,
}

impl<C: Client> Cursor<C> {
    pub(super) fn new(disk: Disk<C>) -> Self {
        let mut inner = AsyncCursor::new(disk.client().clone());
        if let Some(timeout) = disk.limit() {
            inner = inner.timeout(timeout);
        }
        Self { disk, inner }
    }

    /// Restricts the cursor to a part of what it covers, such as a partition, and sets its position
    /// to the start of it; see [`Cursor::range`](AsyncCursor::range).
    #[must_use]
    pub fn range(self, range: impl RangeBounds<u64>) -> Self {
        self.with(|inner| inner.range(range))
    }

    /// Sets the length of the requests that read ahead, by default 256 KiB.
    #[must_use]
    pub fn request_size(self, bytes: usize) -> Self {
        self.with(|inner| inner.request_size(bytes))
    }

    /// Sets how many bytes are read ahead at most, by default 8 MiB. If that is less than
    /// [`request_size`](Self::request_size), the cursor does not read ahead.
    #[must_use]
    pub fn max_read_ahead(self, bytes: usize) -> Self {
        self.with(|inner| inner.max_read_ahead(bytes))
    }

    /// Lets writes return before they are sent, as long as no more than so many bytes are in flight;
    /// see [`Cursor::write_behind`](AsyncCursor::write_behind). By default, each write waits for its
    /// answer.
    #[must_use]
    pub fn write_behind(self, bytes: usize) -> Self {
        self.with(|inner| inner.write_behind(bytes))
    }

    fn with(mut self, set: impl FnOnce(AsyncCursor<C>) -> AsyncCursor<C>) -> Self {
        let inner = self.take_inner();
        self.inner = set(inner);
        self
    }

    /// Takes the async cursor, and leaves an unused one.
    fn take_inner(&mut self) -> AsyncCursor<C> {
        let unused = AsyncCursor::new(self.disk.client().clone());
        mem::replace(&mut self.inner, unused)
    }

    /// Returns the position, in bytes from the start of what the cursor covers.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.inner.position()
    }

    /// Returns the disk.
    pub const fn disk(&self) -> &Disk<C> {
        &self.disk
    }

    /// Returns the length of what the cursor covers, in bytes.
    ///
    /// # Errors
    /// If the range of the cursor does not lie inside the export or ends before it starts.
    pub fn size(&self) -> error::Result<u64> {
        super::runtime::check_process()?;
        self.inner.size()
    }

    /// Waits until all writes of this cursor are acknowledged, and makes them durable, as
    /// [`Disk::flush`] does.
    ///
    /// # Errors
    /// If a write or the flush fails.
    pub fn sync_all(&mut self) -> Result<()> {
        const CALL: Call = Call {
            name: "Cursor::sync_all",
            twin: "AsyncWriteExt::shutdown",
        };
        wait(CALL, || self.inner.shutdown())
    }
}

impl<C: Client> Read for Cursor<C> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        const CALL: Call = Call {
            name: "Cursor::read",
            twin: "AsyncReadExt::read",
        };
        wait(CALL, || self.inner.read(buf))
    }
}

impl<C: Client> BufRead for Cursor<C> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        const CALL: Call = Call {
            name: "Cursor::fill_buf",
            twin: "AsyncBufReadExt::fill_buf",
        };
        let inner = &mut self.inner;
        wait(CALL, move || inner.fill_buf())
    }

    fn consume(&mut self, amount: usize) {
        self.inner.consume(amount);
    }
}

impl<C: Client> Write for Cursor<C> {
    fn write(&mut self, buf: &[u8]) -> Result<usize> {
        const CALL: Call = Call {
            name: "Cursor::write",
            twin: "AsyncWriteExt::write",
        };
        wait(CALL, || self.inner.write(buf))
    }

    fn flush(&mut self) -> Result<()> {
        const CALL: Call = Call {
            name: "Cursor::flush",
            twin: "AsyncWriteExt::flush",
        };
        wait(CALL, || self.inner.flush())
    }
}

impl<C: Client> Seek for Cursor<C> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        const CALL: Call = Call {
            name: "Cursor::seek",
            twin: "AsyncSeekExt::seek",
        };
        wait(CALL, || self.inner.seek(to))
    }

    fn stream_position(&mut self) -> Result<u64> {
        Ok(self.position())
    }
}

impl<C: Client> Drop for Cursor<C> {
    fn drop(&mut self) {
        if was_forked() {
            mem::forget(self.take_inner());
        }
    }
}

impl<C: Client> fmt::Debug for Cursor<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("disk", &self.disk)
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}
