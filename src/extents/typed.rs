//! Streams of extents of contexts whose meaning is known.

use std::ops::RangeBounds;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;

use super::Extents;
use super::merge::{Merge, Piece};
use crate::connection::Connection;
use crate::context::{BASE_ALLOCATION, qemu_dirty_bitmap};
use crate::error::Result;
use crate::extent::{Allocation, AllocationExtent, DirtyExtent, Extent};
use crate::request::Client;

impl Connection {
    /// Returns a stream of which parts of a range are allocated and which read as zeroes, from the
    /// metadata context [`base:allocation`](crate::context::BASE_ALLOCATION); `..` is the whole
    /// export. Otherwise this is like [`extents`](Self::extents).
    ///
    /// Neighbours of the same kind are joined, so an extent is returned only when the next one is
    /// known.
    ///
    /// ```
    /// # use nbd_client::testing;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// use futures::TryStreamExt;
    /// use nbd_client::{Allocation, Connection, context};
    ///
    /// # let disk = testing::Export::new(1 << 30);
    /// # disk.write(1 << 20, vec![1; 65536]);
    /// # let server = testing::Server::new(disk);
    /// let conn = Connection::builder().require_meta_context(context::BASE_ALLOCATION).build();
    /// # conn.connect_stream(server.connect()).await?;
    /// let mut extents = conn.allocation(..);
    /// while let Some(extent) = extents.try_next().await? {
    ///     if !extent.kind.is_zero() {
    ///         // Only this need be read.
    ///         assert_eq!((extent.offset, extent.length), (1 << 20, 65536));
    ///         assert_eq!(extent.kind, Allocation::Data);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The last item is an error if the range is not inside the export or ends before it starts, or a request fails. If the
    /// context was not negotiated, the only item is
    /// [`InvalidRequest::UnknownContext`](crate::InvalidRequest::UnknownContext), which lists those that were.
    #[doc(alias = "nbd_block_status")]
    #[doc(alias = "nbd_block_status_64")]
    pub fn allocation(&self, range: impl RangeBounds<u64>) -> Allocations {
        Allocations::new(self.clone(), range)
    }

    /// Returns a stream of which parts of a range have been written since a dirty bitmap of QEMU was
    /// started, and which have not; `..` is the whole export. `bitmap` is the name of the bitmap,
    /// without the [prefix](crate::context::QEMU_DIRTY_BITMAP) of its metadata context. Otherwise
    /// this is like [`extents`](Self::extents).
    ///
    /// Neighbours of the same kind are joined, so an extent is returned only when the next one is
    /// known.
    ///
    /// ```
    /// # use nbd_client::testing;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// use futures::TryStreamExt;
    /// use nbd_client::{Connection, context};
    ///
    /// # let disk = testing::Export::new(1 << 20).context(
    /// #     context::qemu_dirty_bitmap("monday"),
    /// #     [(65536, 0), (4096, 1), ((1 << 20) - 65536 - 4096, 0)],
    /// # );
    /// # let server = testing::Server::new(disk);
    /// let conn = Connection::builder()
    ///     .require_meta_context(context::qemu_dirty_bitmap("monday"))
    ///     .build();
    /// # conn.connect_stream(server.connect()).await?;
    /// let mut extents = conn.dirty_extents("monday", ..);
    /// while let Some(extent) = extents.try_next().await? {
    ///     if extent.is_dirty {
    ///         let data = conn.read(extent.offset, extent.length as usize).await?;
    ///         assert_eq!(data.len(), 4096); // to be backed up
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The last item is an error if the range is not inside the export or ends before it starts, or a request fails. If the
    /// context of the bitmap was not negotiated, as when its name is mistyped, the only item is
    /// [`InvalidRequest::UnknownContext`](crate::InvalidRequest::UnknownContext), which lists those that were. With
    /// [`require_meta_context`](crate::Builder::require_meta_context), such a connection is not made
    /// in the first place.
    #[doc(alias = "LIBNBD_CONTEXT_QEMU_DIRTY_BITMAP")]
    pub fn dirty_extents(&self, bitmap: &str, range: impl RangeBounds<u64>) -> DirtyExtents {
        DirtyExtents::new(self.clone(), bitmap, range)
    }
}

/// Extents of one context, with the meaning of their flags.
#[derive(Debug)]
struct Typed<T, C: Client> {
    extents: Extents<C>,
    merge: Merge<T>,
}

impl<T: Piece, C: Client> Typed<T, C> {
    fn new(client: C, context: impl Into<String>, range: impl RangeBounds<u64>) -> Self {
        let mut merge = Merge::new();
        merge.joins = |_| true;
        Self {
            extents: Extents::new(client, context, range),
            merge,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        convert: impl Fn(Extent) -> T,
    ) -> Poll<Option<Result<T>>> {
        let extents = &mut self.extents;
        self.merge
            .poll(|| Pin::new(&mut *extents).poll_next(cx).map_ok(&convert))
    }
}

/// Defines a stream of extents of one type.
macro_rules! typed {
    ($(#[$doc:meta])* $name:ident of $item:ident) => {
        $(#[$doc])*
        ///
        /// # Cancel safety
        ///
        /// Between items, the stream can be dropped, or left unpolled for any time. An answer that
        /// comes after it was dropped is thrown away.
        #[derive(Debug)]
        #[must_use = "nothing is asked for until the stream is polled"]
        pub struct $name<C: Client = Connection>(Typed<$item, C>);

        impl<C: Client> $name<C> {
            /// Sets the timeout of each request, see [`Request::timeout`](crate::Request::timeout).
            pub fn timeout(mut self, timeout: Duration) -> Self {
                self.0.extents = self.0.extents.timeout(timeout);
                self
            }
        }

        impl<C: Client> Stream for $name<C> {
            type Item = Result<$item>;

            fn poll_next(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<Option<Self::Item>> {
                self.get_mut().0.poll(cx, $item::from)
            }
        }
    };
}

typed! {
    /// Which parts of a range are allocated, see [`Connection::allocation`].
    Allocations of AllocationExtent
}

typed! {
    /// Which parts of a range have been written since a bitmap was started, see
    /// [`Connection::dirty_extents`].
    DirtyExtents of DirtyExtent
}

impl<C: Client> Allocations<C> {
    /// Streams which parts of a range of the export of any client are allocated, see
    /// [`Connection::allocation`].
    pub fn new(client: C, range: impl RangeBounds<u64>) -> Self {
        Self(Typed::new(client, BASE_ALLOCATION, range))
    }
}

impl<C: Client> DirtyExtents<C> {
    /// Streams which parts of a range of the export of any client a bitmap marks, see
    /// [`Connection::dirty_extents`].
    pub fn new(client: C, bitmap: &str, range: impl RangeBounds<u64>) -> Self {
        Self(Typed::new(client, qemu_dirty_bitmap(bitmap), range))
    }
}

impl From<Extent> for AllocationExtent {
    fn from(extent: Extent) -> Self {
        Self {
            offset: extent.offset,
            length: extent.length,
            kind: match (extent.is_hole(), extent.is_zero()) {
                (false, false) => Allocation::Data,
                (false, true) => Allocation::Zero,
                (true, true) => Allocation::Hole,
                (true, false) => Allocation::Undefined,
            },
        }
    }
}

impl From<Extent> for DirtyExtent {
    fn from(extent: Extent) -> Self {
        Self {
            offset: extent.offset,
            length: extent.length,
            is_dirty: extent.is_dirty(),
        }
    }
}

impl Piece for AllocationExtent {
    fn is_like(&self, next: &Self) -> bool {
        self.kind == next.kind
    }

    fn grow(&mut self, next: &Self) {
        self.length = self.length.saturating_add(next.length);
    }
}

impl Piece for DirtyExtent {
    fn is_like(&self, next: &Self) -> bool {
        self.is_dirty == next.is_dirty
    }

    fn grow(&mut self, next: &Self) {
        self.length = self.length.saturating_add(next.length);
    }
}
