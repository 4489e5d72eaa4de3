//! Streams of the extents of a range of any length.

mod joint;
mod merge;
mod survey;
mod typed;
mod walk;

use std::ops::RangeBounds;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;

pub use joint::{JointExtent, JointExtents};
use merge::{Merge, Piece};
use survey::Survey;
pub use typed::{Allocations, DirtyExtents};
use walk::Walk;

use crate::connection::Connection;
use crate::error::Result;
use crate::extent::Extent;
use crate::request::Client;

impl Connection {
    /// Returns the extents of a range in one metadata context as a stream; `..` is the whole export.
    ///
    /// The extents come in order and cover exactly the range, whatever the server's answers and
    /// block sizes are. One answer is kept at a time, so memory is bounded. The number of requests
    /// depends on the number of extents: with extended headers, an export of many terabytes that is
    /// one hole takes one request, and without them one for every 4 GiB.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # use nbd_client::{Connection, context, testing};
    /// # let server = testing::Server::new(testing::Export::new(10 << 40));
    /// use futures::TryStreamExt;
    ///
    /// let conn = Connection::builder().meta_context(context::BASE_ALLOCATION).build();
    /// # conn.connect_stream(server.connect()).await?;
    /// conn.write(1 << 40, vec![1; 65536]).await?;
    /// let mut extents = conn.extents(context::BASE_ALLOCATION, ..).merged();
    /// let mut data = 0;
    /// while let Some(extent) = extents.try_next().await? {
    ///     if !extent.is_hole() {
    ///         data += extent.length;
    ///     }
    /// }
    /// assert_eq!(data, 65536);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The last item is an error if the range is not inside the export or ends before it starts, the context was not
    /// negotiated, or a request fails.
    #[doc(alias = "map")]
    #[doc(alias = "nbd_block_status")]
    #[doc(alias = "nbd_block_status_64")]
    pub fn extents(&self, context: impl Into<String>, range: impl RangeBounds<u64>) -> Extents {
        Extents::new(self.clone(), context, range)
    }

    /// Returns the extents of a range in all negotiated metadata contexts as a stream. Each item
    /// covers a range over which the status of no context changes. Otherwise this is like
    /// [`extents`](Self::extents).
    ///
    /// A server may describe more of one context than of another. The extents that are ahead are
    /// kept until the other contexts have caught up.
    ///
    /// # Errors
    /// The last item is an error if the range is not inside the export or ends before it starts, no context was
    /// negotiated, or a request fails.
    pub fn joint_extents(&self, range: impl RangeBounds<u64>) -> JointExtents {
        JointExtents::new(self.clone(), range)
    }
}

/// How long data is, in bytes, that is read before it is known what follows.
const READ_AT_ONCE: u64 = 64 << 20;

/// The extents of a range in one metadata context, see [`Connection::extents`].
///
/// # Cancel safety
///
/// Between items, the stream can be dropped, or left unpolled for any time. An answer that comes
/// after it was dropped is thrown away.
#[derive(Debug)]
#[must_use = "nothing is asked for until the stream is polled"]
pub struct Extents<C: Client = Connection> {
    walk: Walk<C>,
    merge: Merge<Extent>,
}

impl<C: Client> Extents<C> {
    pub(crate) fn new(client: C, context: impl Into<String>, range: impl RangeBounds<u64>) -> Self {
        Self {
            walk: Walk::new(Survey::new(client, range), Some(context.into())),
            merge: Merge::new(),
        }
    }

    /// Joins neighbours with the same flags, which servers may send separately. An extent is then
    /// returned only when the next one is known.
    pub const fn merged(mut self) -> Self {
        self.merge.joins = |_| true;
        self
    }

    /// Joins neighbours for somebody who reads what is not zero: data only up to a length, so that reading
    /// can begin before all of a large disk is known.
    pub(crate) const fn merged_for_reading(mut self) -> Self {
        self.merge.joins = |extent| extent.is_zero() || extent.length < READ_AT_ONCE;
        self
    }

    /// Sets the timeout of each request, see [`Request::timeout`](crate::Request::timeout).
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.walk.set_timeout(timeout);
        self
    }
}

impl Piece for Extent {
    fn is_like(&self, next: &Self) -> bool {
        self.flags == next.flags
    }

    fn grow(&mut self, next: &Self) {
        self.length = self.length.saturating_add(next.length);
    }
}

impl<C: Client> Stream for Extents<C> {
    type Item = Result<Extent>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let (merge, walk) = (&mut this.merge, &mut this.walk);
        merge.poll(|| {
            walk.poll_piece(cx).map_ok(|(offset, length)| {
                let flags = walk.flags().next().unwrap_or_default();
                Extent::new(offset, length, flags)
            })
        })
    }
}
