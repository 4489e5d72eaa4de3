//! Streams, sinks and cursors of a disk.

use std::ops::RangeBounds;

use futures::Stream;

use super::Disk;
use crate::cursor::Cursor;
use crate::error::Result;
use crate::extent::Extent;
use crate::extents::{Allocations, DirtyExtents};
use crate::stream::{Pieces, ReadStream, WriteSink};

/// Streams and files. They are those of [`Connection`](crate::Connection), where they are documented;
/// what is different is said here.
///
/// Each request of a stream is carried out as one of its own: a stream goes on over other connections
/// when one is lost, and two of its items may have come over different ones.
///
/// ```
/// # use nbd_client::{Connector, testing};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nbd_client::Result<()> {
/// use futures::TryStreamExt;
/// use nbd_client::{Disk, context};
///
/// # let server = testing::Server::new(testing::Export::new(1 << 20));
/// # let other = server.clone();
/// # let connector = Connector::stream(move || { let s = server.connect(); async move { Ok(s) } });
/// let link = nbd_client::Connection::builder().meta_context(context::BASE_ALLOCATION);
/// let disk = Disk::builder().link(link).open(connector).await?; // "nbd://storage/vm-17"
/// disk.write(65536, "data").await?;
/// let mut pieces = disk.pieces(..).depth(1);
/// let mut bytes = 0;
/// while let Some(piece) = pieces.try_next().await? {
///     bytes += piece.length();
/// #   other.hang_up(); // the server is restarted here, and again
/// }
/// assert_eq!(bytes, 1 << 20);
/// # Ok(())
/// # }
/// ```
impl Disk {
    /// Returns which parts of a range are allocated, as
    /// [`Connection::allocation`](crate::Connection::allocation).
    pub fn allocation(&self, range: impl RangeBounds<u64>) -> Allocations<Self> {
        Allocations::new(self.clone(), range)
    }

    /// Returns which parts of a range a dirty bitmap of QEMU marks, as
    /// [`Connection::dirty_extents`](crate::Connection::dirty_extents).
    pub fn dirty_extents(&self, bitmap: &str, range: impl RangeBounds<u64>) -> DirtyExtents<Self> {
        DirtyExtents::new(self.clone(), bitmap, range)
    }

    /// Reads a range in order, as [`Connection::read_stream`](crate::Connection::read_stream).
    pub fn read_stream(&self, range: impl RangeBounds<u64>) -> ReadStream<Self> {
        ReadStream::new(self.clone(), range)
    }

    /// Reads data and zeroes of a range in order, as
    /// [`Connection::pieces`](crate::Connection::pieces).
    pub fn pieces(&self, range: impl RangeBounds<u64>) -> Pieces<Self> {
        Pieces::new(self.clone(), range)
    }

    /// Reads the data of extents, as
    /// [`Connection::read_extents`](crate::Connection::read_extents).
    pub fn read_extents(
        &self,
        extents: impl Stream<Item = Result<Extent>> + Send + 'static,
    ) -> Pieces<Self> {
        Pieces::of_extents(self.clone(), extents)
    }

    /// Returns a sink that writes data and zeroes, as
    /// [`Connection::write_sink`](crate::Connection::write_sink). A write whose outcome is unknown
    /// ends the sink, unless the disk [repeats](crate::Changes::Repeat) it.
    pub fn write_sink(&self) -> WriteSink<Self> {
        WriteSink::new(self.clone())
    }

    /// Returns a file over the export, as [`Connection::cursor`](crate::Connection::cursor).
    pub fn cursor(&self) -> Cursor<Self> {
        Cursor::new(self.clone())
    }
}
