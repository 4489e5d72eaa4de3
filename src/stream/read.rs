//! The bytes of a range as a stream.

use std::ops::RangeBounds;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;

use super::ahead::ReadAhead;
use super::settings;
use super::source::Source;
use crate::chunk::Chunk;
use crate::connection::Connection;
use crate::error::Result;
use crate::request::{Client, bounds};

/// The bytes of a range, in order, see [`Connection::read_stream`].
///
/// # Cancel safety
///
/// Between items, the stream can be dropped, or left unpolled for any time. The answers to requests
/// that were in flight when it was dropped are thrown away.
#[derive(Debug)]
#[must_use = "nothing is read until the stream is polled"]
pub struct ReadStream<C: Client = Connection> {
    ahead: ReadAhead<C>,
}

settings!(ReadStream);

impl<C: Client> ReadStream<C> {
    /// Streams the bytes of a range of the export of any client, see [`Connection::read_stream`].
    pub fn new(client: C, range: impl RangeBounds<u64>) -> Self {
        let ahead = ReadAhead::new(client, Source::Whole(bounds(&range)));
        Self { ahead }
    }
}

impl<C: Client> Stream for ReadStream<C> {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let ahead = &mut self.get_mut().ahead;
        loop {
            match ready!(ahead.poll_chunk(cx)?) {
                Some(Chunk::Data { data, .. }) => return Poll::Ready(Some(Ok(data))),
                // A range that is read as a whole has no holes.
                Some(Chunk::Hole { .. } | Chunk::Error { .. }) => {}
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Connection {
    /// Reads a range in order, as a stream of [`Bytes`]; `..` is the whole export.
    ///
    /// The stream reads ahead: by default four requests of 256 KiB are in flight or wait to be taken
    /// ([`request_size`](ReadStream::request_size), [`depth`](ReadStream::depth)). Items are never
    /// empty, and at most as long as a request. The range need not be aligned to the block size of
    /// the export: whole blocks are read, and cut.
    ///
    /// Nothing is requested before the stream is polled. Data that is written while the range is
    /// streamed may show in it or not.
    ///
    /// ```
    /// # use nbd_client::{Connection, testing};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// use futures::TryStreamExt;
    ///
    /// let mut bytes = conn.read_stream(512..).depth(8);
    /// let mut length = 0;
    /// while let Some(bytes) = bytes.try_next().await? {
    ///     length += bytes.len();
    /// }
    /// assert_eq!(length, (1 << 20) - 512);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Web frameworks take such a stream as a body.
    ///
    /// # Errors
    /// The last item is an error if the range is not inside the export or ends before it starts, or a request fails. The bytes
    /// before come before it.
    pub fn read_stream(&self, range: impl RangeBounds<u64>) -> ReadStream {
        ReadStream::new(self.clone(), range)
    }
}
