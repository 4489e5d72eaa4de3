//! Data and zeroes of a range as a stream.

use std::ops::RangeBounds;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;

use super::ahead::ReadAhead;
use super::settings;
use super::source::Source;
use crate::chunk::Chunk;
use crate::connection::Connection;
use crate::error::Result;
use crate::extent::Extent;
use crate::request::{Client, bounds};

/// Data and zeroes of a range, in order, see [`Connection::pieces`] and
/// [`Connection::read_extents`].
///
/// # Cancel safety
///
/// Between items, the stream can be dropped, or left unpolled for any time. The answers to requests
/// that were in flight when it was dropped are thrown away.
#[derive(Debug)]
#[must_use = "nothing is read until the stream is polled"]
pub struct Pieces<C: Client = Connection> {
    ahead: ReadAhead<C>,
}

settings!(Pieces);

impl<C: Client> Pieces<C> {
    /// Streams data and zeroes of a range of the export of any client, see [`Connection::pieces`].
    pub fn new(client: C, range: impl RangeBounds<u64>) -> Self {
        let ahead = ReadAhead::new(client, Source::Sparse(bounds(&range)));
        Self { ahead }
    }

    /// Streams the data of extents of the export of any client, see [`Connection::read_extents`].
    pub fn of_extents(
        client: C,
        extents: impl Stream<Item = Result<Extent>> + Send + 'static,
    ) -> Self {
        let ahead = ReadAhead::new(client, Source::Given(Box::pin(extents)));
        Self { ahead }
    }
}

impl<C: Client> Stream for Pieces<C> {
    type Item = Result<Chunk>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().ahead.poll_chunk(cx)
    }
}

impl Connection {
    /// Reads a range in order, as a stream of data and zeroes; `..` is the whole export.
    ///
    /// If the metadata context [`base:allocation`](crate::context::BASE_ALLOCATION) was negotiated,
    /// the stream asks where the export is zero, and reads only the rest: each run of zeroes is one
    /// [`Chunk::Hole`], whatever its length. Without the context, everything is read and returned as
    /// [`Chunk::Data`]. The pieces cover exactly the range. Otherwise this is like
    /// [`read_stream`](Self::read_stream).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # use nbd_client::testing;
    /// # let server = testing::Server::new(testing::Export::new(1 << 40));
    /// use futures::TryStreamExt;
    /// use nbd_client::{Chunk, Connection, context};
    ///
    /// let conn = Connection::builder().meta_context(context::BASE_ALLOCATION).build();
    /// # conn.connect_stream(server.connect()).await?;
    /// conn.write(65536, vec![1; 65536]).await?;
    /// let mut pieces = conn.pieces(..);
    /// while let Some(piece) = pieces.try_next().await? {
    ///     match piece {
    ///         Chunk::Data { offset, data } => println!("{} bytes at {offset}", data.len()),
    ///         Chunk::Hole { offset, length } => println!("{length} zeroes at {offset}"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The last item is an error if the range is not inside the export or ends before it starts, or a request fails. The
    /// pieces before come before it.
    pub fn pieces(&self, range: impl RangeBounds<u64>) -> Pieces {
        Pieces::new(self.clone(), range)
    }

    /// Reads the data of extents, in the order in which they are given, such as those that a dirty
    /// bitmap marks.
    ///
    /// The items are [`Chunk::Data`]. An extent becomes several of them if it is longer than
    /// a request. The status of the extents does not matter: leave out those that are not to be read.
    /// They are taken from the stream as reading goes on. Otherwise this is like
    /// [`read_stream`](Self::read_stream).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # use nbd_client::testing;
    /// # let disk = testing::Export::new(1 << 20).context("qemu:dirty-bitmap:b", [(65536, 0), (512, 1)]);
    /// # let server = testing::Server::new(disk);
    /// use std::future::ready;
    ///
    /// use futures::{TryStreamExt, stream};
    /// use nbd_client::{Connection, Extent};
    ///
    /// let bitmap = "qemu:dirty-bitmap:b";
    /// let conn = Connection::builder().meta_context(bitmap).build();
    /// # conn.connect_stream(server.connect()).await?;
    /// let dirty = conn.extents(bitmap, ..).try_filter(|extent| ready(extent.is_dirty()));
    /// let changed: Vec<_> = conn.read_extents(dirty).try_collect().await?;
    /// assert_eq!((changed[0].offset(), changed[0].length()), (65536, 512));
    ///
    /// // Ranges of your own:
    /// let ranges = [Extent::new(4096, 512, 0), Extent::new(0, 512, 0)].map(Ok);
    /// let blocks: Vec<_> = conn.read_extents(stream::iter(ranges)).try_collect().await?;
    /// assert_eq!(blocks[1].offset(), 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The last item is an error if an extent is not inside the export, the stream of extents fails,
    /// or a request fails. The data before comes before it.
    pub fn read_extents(
        &self,
        extents: impl Stream<Item = Result<Extent>> + Send + 'static,
    ) -> Pieces {
        Pieces::of_extents(self.clone(), extents)
    }
}
