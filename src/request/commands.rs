//! The commands of a connection.

use bytes::{Bytes, BytesMut};

use super::op::{Cache, Flush, Read, ReadInto, Status, Trim, Write, WriteZeroes};
use super::{Chunks, Disconnect, Request, block_status};
use crate::connection::Connection;

/// Commands. Offsets and lengths are in bytes.
///
/// Each call makes a request, which is sent when it is awaited. Requests of one connection are
/// answered in any order: a request that must see the effect of another one must be made after the
/// answer to that one (section "Ordering of messages and writes" of the protocol; the commands are
/// described in "Request types"). At most [`max_in_flight`](crate::Builder::max_in_flight) requests
/// are sent at a time; further ones wait their turn. A request that is longer than one message can
/// be is sent as several messages, a few at a time. If one message fails, the request fails, and
/// the rest is not sent.
///
/// Each request is checked before anything is sent: the range must lie inside the export and be
/// aligned to its minimum block size, unless the request is [`unaligned`](Request::unaligned), and
/// the server must offer the command and its flags. A request for an empty range that passes the
/// checks succeeds at once, and nothing is sent; its offset is at most the size of the export, and
/// need not be aligned. Only a block status of an empty range is refused, since it would have no
/// answer. A request that fails a check fails with [`Error::Invalid`](crate::Error::Invalid). A
/// failure on the server is [`Error::Request`](crate::Error::Request). Both leave the connection
/// usable, and so does the error of a flush after
/// [an earlier one has failed](Self::clear_flush_error). Every other error ends the connection.
///
/// # Cancel safety
///
/// All requests are cancel safe: see [`Pending`](crate::Pending).
impl Connection {
    /// Reads `length` bytes at `offset` (`NBD_CMD_READ`).
    ///
    /// Reads longer than [`max_payload`](crate::Export::max_payload) are sent as several messages.
    /// Success means that the server supplied every byte of exactly this range. There are no short
    /// reads.
    ///
    /// The server decides how large an export is. A read of more than
    /// [`Limits::read`](crate::Limits::read), by default 1 GiB, is therefore refused, and so is a
    /// read for which there is no memory. Read in parts, or [into](Self::read_into) a buffer of your
    /// own.
    ///
    /// Some servers close the connection when they cannot read a disk: see
    /// [`dont_fragment_reads`](crate::Builder::dont_fragment_reads).
    ///
    /// ```
    /// # use nbd_client::{Connection, testing};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// let sector = conn.read(512, 512).await?;
    /// assert_eq!(&sector[..], [0; 512]);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "nbd_pread")]
    #[doc(alias = "nbd_aio_pread")]
    pub fn read(&self, offset: u64, length: usize) -> Request<Read> {
        Request::new(self, Read, offset, length as u64)
    }

    /// Reads into a buffer without another allocation, and returns the filled buffer.
    ///
    /// The number of bytes to read is the length of the buffer, or its capacity if it is empty. If
    /// the read fails, the buffer is dropped.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # use nbd_client::{Connection, testing};
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// let mut buffer = bytes::BytesMut::with_capacity(4096);
    /// for block in 0..4 {
    ///     buffer = conn.read_into(block * 4096, buffer).await?;
    ///     assert_eq!(buffer.len(), 4096);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "nbd_pread")]
    #[doc(alias = "nbd_aio_pread")]
    pub fn read_into(&self, offset: u64, buffer: BytesMut) -> Request<ReadInto> {
        Request::into_buffer(self, offset, buffer)
    }

    /// Reads `length` bytes at `offset`, and returns data and holes as they arrive.
    ///
    /// The length is at most [`max_payload`](crate::Export::max_payload): this read is never split.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # use nbd_client::{Chunk, Connection, testing};
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// use futures::TryStreamExt;
    ///
    /// let mut chunks = conn.read_structured(0, 65536);
    /// while let Some(chunk) = chunks.try_next().await? {
    ///     match chunk {
    ///         Chunk::Data { offset, data } => println!("{} bytes at {offset}", data.len()),
    ///         Chunk::Hole { offset, length } => println!("{length} zeroes at {offset}"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "nbd_pread_structured")]
    #[doc(alias = "nbd_aio_pread_structured")]
    pub fn read_structured(&self, offset: u64, length: usize) -> Chunks {
        Chunks::new(self.clone(), offset, length as u64)
    }

    /// Writes `data` at `offset` (`NBD_CMD_WRITE`).
    ///
    /// Writes longer than [`max_payload`](crate::Export::max_payload) are sent as several messages;
    /// if such a write fails, any part of it may have been written. Success does not mean that the
    /// data is durable: see [`flush`](Self::flush) and `fua`.
    ///
    /// `Bytes`, `Vec<u8>`, `&'static [u8]` and `&'static str` are not copied.
    #[doc(alias = "nbd_pwrite")]
    #[doc(alias = "nbd_aio_pwrite")]
    pub fn write(&self, offset: u64, data: impl Into<Bytes>) -> Request<Write> {
        let data = data.into();
        let length = data.len() as u64;
        Request::new(self, Write(data), offset, length)
    }

    /// Makes earlier writes, trims and zeroes durable (`NBD_CMD_FLUSH`).
    ///
    /// In the protocol, a flush covers only changes that were answered before it was sent. This
    /// request therefore first waits until all changes are answered that were begun on this
    /// connection before it was first polled: by any task, including changes that wait for room or
    /// were abandoned by their callers. Later changes do not wait for it, and it does not wait for
    /// them. A change that fails does not prevent the flush; its own caller gets the error. If a
    /// change is sent as several messages, the flush waits for the messages that were made before
    /// it; a flush that begins after the change has succeeded covers all of the change.
    ///
    /// If an earlier flush of this connection has failed, this one fails with
    /// [`Error::DurabilityUnknown`](crate::Error::DurabilityUnknown) even if the server reports
    /// success, until [`clear_flush_error`](Self::clear_flush_error) is called.
    ///
    /// Changes made over other connections are covered only if the server
    /// [says so](crate::Export::can_multi_conn) and they were answered before this call.
    #[doc(alias = "nbd_flush")]
    #[doc(alias = "nbd_aio_flush")]
    pub fn flush(&self) -> Request<Flush> {
        Request::new(self, Flush, 0, 0)
    }

    /// Discards `length` bytes at `offset` (`NBD_CMD_TRIM`). Their content is undefined until they
    /// are written again. Long requests are split as those of [`write_zeroes`](Self::write_zeroes)
    /// are.
    #[doc(alias = "discard")]
    #[doc(alias = "nbd_trim")]
    #[doc(alias = "nbd_aio_trim")]
    pub fn trim(&self, offset: u64, length: u64) -> Request<Trim> {
        Request::new(self, Trim, offset, length)
    }

    /// Writes `length` zeroes at `offset` without sending them (`NBD_CMD_WRITE_ZEROES`). The server
    /// may leave a hole, unless `no_hole` is set.
    ///
    /// Without [extended headers](crate::Protocol::extended_headers), a request of 4 GiB or more is
    /// sent as several messages; if such a request fails, any part of it may have been zeroed.
    #[doc(alias = "nbd_zero")]
    #[doc(alias = "nbd_aio_zero")]
    pub fn write_zeroes(&self, offset: u64, length: u64) -> Request<WriteZeroes> {
        let zeroes = WriteZeroes { or_write: false };
        Request::new(self, zeroes, offset, length)
    }

    /// Tells the server that `length` bytes at `offset` will be read soon (`NBD_CMD_CACHE`).
    ///
    /// A request longer than 32 MiB, or than the server's [maximum](crate::BlockSize::maximum) if
    /// that is less, is sent as several messages.
    #[doc(alias = "prefetch")]
    #[doc(alias = "nbd_cache")]
    #[doc(alias = "nbd_aio_cache")]
    pub fn cache(&self, offset: u64, length: u64) -> Request<Cache> {
        Request::new(self, Cache, offset, length)
    }

    /// Asks for the extents of `length` bytes at `offset` in each negotiated metadata context
    /// (`NBD_CMD_BLOCK_STATUS`).
    ///
    /// The answer may cover less than the range, and a different part of it in each context. The
    /// last extent may end after the range, but not after the end of the export. Extents that take
    /// more memory than their share of
    /// [`max_in_flight_bytes`](crate::Builder::max_in_flight_bytes) are cut off. To get all extents
    /// of a range, use [`extents`](Self::extents).
    #[doc(alias = "nbd_block_status")]
    #[doc(alias = "nbd_block_status_64")]
    #[doc(alias = "nbd_aio_block_status")]
    #[doc(alias = "nbd_aio_block_status_64")]
    pub fn block_status(&self, offset: u64, length: u64) -> Request<Status> {
        block_status(self, offset, length)
    }

    /// Ends the connection: waits until requests in flight are answered, sends `NBD_CMD_DISC`, and
    /// waits until the server has closed the connection, too, and has exited if this connection
    /// runs it. In option mode it aborts the negotiation.
    ///
    /// It does not flush: call [`flush`](Self::flush) before.
    /// [`has_unflushed_writes`](Self::has_unflushed_writes) says whether a flush is missing.
    ///
    /// From the first poll on, no further requests are taken. A request that is sent as several
    /// messages, and has begun, is sent to its end if its future is polled; once nothing else is in
    /// flight, it has the [`shutdown_timeout`](crate::Builder::shutdown_timeout) for each further
    /// message. Disconnecting twice is no error. If the server has gone before, that is an error, see
    /// [`Disconnect`].
    #[doc(alias = "nbd_shutdown")]
    #[doc(alias = "nbd_aio_disconnect")]
    pub fn disconnect(&self) -> Disconnect {
        Disconnect::new(self.clone())
    }
}
