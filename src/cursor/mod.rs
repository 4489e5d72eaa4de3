//! An export as a file of Tokio: read, written and sought at a position.

mod reader;
mod seek;
mod window;
mod writer;

use std::fmt;
use std::io;
use std::ops::{Range, RangeBounds};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

use reader::Reader;
use seek::Part;
use writer::Writer;

use crate::connection::Connection;
use crate::error::{InvalidRequest, Result};
use crate::request::Client;
use crate::wire::Command;

/// An export, or a part of it, as a file: it implements Tokio's [`AsyncRead`], [`AsyncBufRead`],
/// [`AsyncSeek`] and [`AsyncWrite`].
///
/// Any range can be read and written, whatever the block size of the export is. A client can have
/// any number of cursors, each with a position of its own; they and other requests do not wait for each other.
///
/// # Reading
///
/// A cursor that is read in order reads ahead: at first four requests of 256 KiB, then twice as much
/// each time that this much was taken, up to 8 MiB ([`max_read_ahead`](Self::max_read_ahead)). After a
/// [seek](AsyncSeek) to elsewhere, only what the caller asks for is read, 64 KiB at least, until the
/// cursor is seen to be read in order again. A seek to what was read or requested keeps it.
///
/// What was read ahead is not read again: a change that something else than this cursor makes there
/// may not be seen until the cursor is sought elsewhere.
///
/// # Writing
///
/// By default, each write waits until the server has acknowledged it. With
/// [`write_behind`](Self::write_behind), writes return at once, and are joined and sent later.
/// Reads see what was written by the same cursor before, either way.
///
/// `flush` waits until all writes are acknowledged; `shutdown` also flushes the export
/// (`NBD_CMD_FLUSH`): then what was written is durable.
///
/// A write that reaches beyond the end of the cursor is cut off there, and a write at the end or beyond writes nothing,
/// which is [`WriteZero`](io::ErrorKind::WriteZero) in `write_all`.
///
/// # Errors
///
/// The [`io::Error`] holds the [`Error`](crate::Error) of this crate, which names the offset in the
/// export; [`get_ref`](io::Error::get_ref) returns it. A write that fails behind the caller's back
/// fails the next call other than a seek, and every later one: the cursor does not work any more.
///
/// Like a file, a cursor has one position, and does one thing at a time: let a read or a write end, or drop
/// its future, before the next. For both directions at once, as by `tokio::io::split` or
/// `copy_bidirectional`, use two cursors.
///
/// # Cancel safety
///
/// Reads and seeks can be dropped at any time. Without write-behind, a write that is dropped while
/// it waits may or may not be carried out, and the position stays; later writes and reads of this
/// cursor come after it. If the next write begins with the same bytes at the same position, it counts
/// as waiting for the first one. With write-behind, a write that was dropped has taken
/// nothing. A `shutdown` that is dropped has not flushed what is written after it.
///
/// Dropping a cursor loses what write-behind has not sent: call `flush` before.
///
/// # Examples
/// ```
/// # use nbd_client::{Connection, testing};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = testing::Server::new(testing::Export::new(1 << 20).block_sizes(512, 4096, 1 << 20));
/// # let conn = Connection::new();
/// # conn.connect_stream(server.connect()).await?;
/// use std::io::SeekFrom;
///
/// use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
///
/// // A partition of 64 KiB.
/// let mut partition = conn.cursor().range(1024..66_560);
/// partition.write_all(b"hello").await?;
/// partition.shutdown().await?; // durable
/// assert_eq!(&conn.read(1024, 512).await?[..5], b"hello");
///
/// partition.seek(SeekFrom::Start(1)).await?;
/// let mut text = [0; 4];
/// partition.read_exact(&mut text).await?;
/// assert_eq!(&text, b"ello");
///
/// // Anything that reads or writes files of Tokio can be given a cursor.
/// let copied = tokio::io::copy_buf(&mut conn.cursor(), &mut tokio::io::sink()).await?;
/// assert_eq!(copied, 1 << 20);
/// # Ok(())
/// # }
/// ```
pub struct Cursor<C: Client = Connection> {
    client: C,
    part: Part,
    facts: Option<Facts>,
    /// In bytes from the start of the part.
    position: u64,
    reader: Reader<C>,
    writer: Writer<C>,
}

/// What a cursor needs to know of the export.
#[derive(Clone, Copy)]
struct Facts {
    /// Start and end of the part, in bytes from the start of the export.
    start: u64,
    end: u64,
    /// The minimum block size.
    block: u64,
    /// The error of each write, if the export cannot be written.
    refusal: Option<fn(Command) -> InvalidRequest>,
}

impl Connection {
    /// Returns a [`Cursor`] over the export: a file that can be read, written and sought. Nothing is
    /// sent before it is used.
    pub fn cursor(&self) -> Cursor {
        Cursor::new(self.clone())
    }
}

impl<C: Client> Cursor<C> {
    /// Makes a cursor over the export of any client. Its position is 0.
    #[must_use]
    pub fn new(client: C) -> Self {
        Self {
            part: Part::whole(),
            facts: None,
            position: 0,
            reader: Reader::new(client.clone()),
            writer: Writer::new(client.clone()),
            client,
        }
    }

    /// Restricts the cursor to a part of what it covers, such as a partition, and sets its position
    /// to the start of it.
    ///
    /// The range is relative to what the cursor has covered before. From now on positions are
    /// relative to the start of the part, reads end at its end, and nothing beyond can be written. If
    /// the range ends before it starts, or is not inside the export and what the cursor has covered
    /// before, reads, writes and seeks from the end fail.
    #[must_use]
    pub fn range(mut self, range: impl RangeBounds<u64>) -> Self {
        self.part = self.part.narrow(&range);
        self.facts = None;
        self.position = 0;
        // What was read ahead may lie beyond the part.
        self.reader.clear();
        self
    }

    /// Sets the length of the requests that read ahead, by default 256 KiB; 0 changes
    /// nothing.
    #[must_use]
    pub fn request_size(mut self, bytes: usize) -> Self {
        if bytes > 0 {
            self.reader.window.request = bytes as u64;
        }
        self
    }

    /// Sets how many bytes are read ahead at most, by default 8 MiB. If that is less than
    /// [`request_size`](Self::request_size), the cursor does not read ahead.
    #[must_use]
    pub const fn max_read_ahead(mut self, bytes: usize) -> Self {
        self.reader.window.most = bytes as u64;
        self
    }

    /// Lets writes return before they are sent, as long as no more than so many bytes are in flight;
    /// 0, the default, makes each write wait for its answer.
    ///
    /// Writes that follow each other are joined to requests of up to 256 KiB. Twice as many bytes as
    /// the limit, and a request, can be kept in memory. A write that fails is reported by the next
    /// call, and by every later one. Nothing is sure until `flush` has succeeded, and nothing is
    /// durable until `shutdown` has.
    ///
    /// ```
    /// # use nbd_client::{Connection, testing};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// use tokio::io::AsyncWriteExt;
    ///
    /// let mut cursor = conn.cursor().write_behind(4 << 20);
    /// for line in 0..1000 {
    ///     cursor.write_all(format!("line {line}\n").as_bytes()).await?;
    /// }
    /// cursor.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn write_behind(mut self, bytes: usize) -> Self {
        self.writer.set_behind(bytes);
        self
    }

    /// Sets the timeout of each request, see [`Request::timeout`](crate::Request::timeout).
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.reader.timeout = Some(timeout);
        self.writer.writes.timeout = Some(timeout);
        self
    }

    /// Returns the position, in bytes from the start of what the cursor covers.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Returns what carries out the requests.
    #[must_use]
    pub const fn client(&self) -> &C {
        &self.client
    }

    /// Returns the length of what the cursor covers, in bytes.
    ///
    /// # Errors
    /// If the range of the cursor does not lie inside the export or ends before it starts, or the
    /// client is not ready.
    pub fn size(&self) -> Result<u64> {
        let facts = self.look_up(Command::READ)?;
        Ok(facts.end - facts.start)
    }

    /// Looks up what there is to know of the export, for a command.
    fn look_up(&self, command: Command) -> Result<Facts> {
        let export = self.client.exported()?;
        let Range { start, end } = self.part.resolve(export.size(), command)?;
        // The same error as that of a request.
        let refusal: fn(Command) -> InvalidRequest = match export.read_only {
            true => InvalidRequest::ReadOnlyConnection,
            false => InvalidRequest::ReadOnly,
        };
        Ok(Facts {
            start,
            end,
            block: export.alignment().into(),
            refusal: export.is_read_only().then_some(refusal),
        })
    }

    /// Returns what is known of the export, and the range of it from the position to the end of the
    /// cursor.
    fn rest(&mut self, command: Command) -> Result<(Facts, Range<u64>)> {
        let facts = match self.facts {
            Some(facts) => facts,
            None => *self.facts.insert(self.look_up(command)?),
        };
        let start = facts.start.saturating_add(self.position);
        Ok((facts, start.min(facts.end)..facts.end))
    }

    /// Returns what is there to read at the position. `wanted` is how many bytes the caller wants.
    fn poll_fill(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<&[u8]>> {
        if !self.writer.is_idle() {
            // Reads see what was written before.
            ready!(self.writer.poll_answered(cx))?;
        }
        let (_, rest) = self.rest(Command::READ)?;
        self.reader.poll_fill(cx, rest, wanted)
    }

    /// Writes some of `data` at the position, as much as fits. Returns how many bytes.
    fn poll_put(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        let (facts, rest) = self.rest(Command::WRITE)?;
        if let Some(refusal) = facts.refusal {
            return Poll::Ready(Err(refusal(Command::WRITE).into()));
        }
        let fits = usize::try_from(rest.end - rest.start).unwrap_or(usize::MAX);
        let data = data.get(..fits).unwrap_or(data);
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.reader.clear();
        let written = ready!(self.writer.poll_write(cx, rest.start, data, facts.block))?;
        self.position += written as u64;
        Poll::Ready(Ok(written))
    }
}

impl<C: Client> AsyncRead for Cursor<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let piece = ready!(this.poll_fill(cx, buf.remaining()))?;
        let piece = piece.get(..buf.remaining()).unwrap_or(piece);
        buf.put_slice(piece);
        this.position += piece.len() as u64;
        Poll::Ready(Ok(()))
    }
}

impl<C: Client> AsyncBufRead for Cursor<C> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let piece = ready!(self.get_mut().poll_fill(cx, 0))?;
        Poll::Ready(Ok(piece))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        self.get_mut().position += amount as u64;
    }
}

impl<C: Client> AsyncSeek for Cursor<C> {
    fn start_seek(self: Pin<&mut Self>, to: io::SeekFrom) -> io::Result<()> {
        let this = self.get_mut();
        this.position = seek::target(to, this.position, || Ok(this.size()?))?;
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position))
    }
}

impl<C: Client> AsyncWrite for Cursor<C> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(ready!(self.get_mut().poll_put(cx, buf))?))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(ready!(self.get_mut().writer.poll_answered(cx))?))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(ready!(self.get_mut().writer.poll_durable(cx))?))
    }
}

impl<C: Client> fmt::Debug for Cursor<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("part", &self.part)
            .field("position", &self.position)
            .field("writes", &self.writer.writes)
            .finish_non_exhaustive()
    }
}
