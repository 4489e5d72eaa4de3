//! Streams of the extents of several contexts side by side.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeBounds;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;

use super::merge::{Merge, Piece};
use super::survey::Survey;
use super::walk::Walk;
use crate::connection::Connection;
use crate::error::Result;
use crate::extent::Extent;
use crate::request::Client;

/// A range over which the status of no metadata context changes.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub struct JointExtent {
    /// The start, in bytes from the start of the export.
    pub offset: u64,
    /// The length in bytes; never zero.
    pub length: u64,
    names: Arc<[Arc<str>]>,
    flags: Vec<u64>,
}

impl JointExtent {
    /// Returns the flags in a context, or `None` if the context was not negotiated.
    #[must_use]
    pub fn flags(&self, context: &str) -> Option<u64> {
        self.iter()
            .find_map(|(name, flags)| (name == context).then_some(flags))
    }

    /// Returns the range with its flags in a context, or `None` if the context was not negotiated.
    #[must_use]
    pub fn get(&self, context: &str) -> Option<Extent> {
        let flags = self.flags(context)?;
        Some(Extent::new(self.offset, self.length, flags))
    }

    /// Returns every context with its flags, in the order in which the server selected them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        let names = self.names.iter().map(|name| &**name);
        names.zip(self.flags.iter().copied())
    }

    /// Returns the end, in bytes from the start of the export.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

impl fmt::Debug for JointExtent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags: BTreeMap<_, _> = self.iter().collect();
        f.debug_struct("JointExtent")
            .field("offset", &self.offset)
            .field("length", &self.length)
            .field("flags", &flags)
            .finish()
    }
}

/// The extents of a range in all metadata contexts, see
/// [`Connection::joint_extents`](crate::Connection::joint_extents).
///
/// # Cancel safety
///
/// Between items, the stream can be dropped, or left unpolled for any time. An answer that comes
/// after it was dropped is thrown away.
#[derive(Debug)]
#[must_use = "nothing is asked for until the stream is polled"]
pub struct JointExtents<C: Client = Connection> {
    walk: Walk<C>,
    merge: Merge<JointExtent>,
}

impl<C: Client> JointExtents<C> {
    pub(crate) fn new(client: C, range: impl RangeBounds<u64>) -> Self {
        Self {
            walk: Walk::new(Survey::new(client, range), None),
            merge: Merge::new(),
        }
    }

    /// Joins neighbours with the same flags in all contexts. An extent is then returned only when
    /// the next one is known.
    pub const fn merged(mut self) -> Self {
        self.merge.joins = |_| true;
        self
    }

    /// Sets the timeout of each request, see [`Request::timeout`](crate::Request::timeout).
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.walk.set_timeout(timeout);
        self
    }
}

impl Piece for JointExtent {
    fn is_like(&self, next: &Self) -> bool {
        self.flags == next.flags
    }

    fn grow(&mut self, next: &Self) {
        self.length = self.length.saturating_add(next.length);
    }
}

impl<C: Client> Stream for JointExtents<C> {
    type Item = Result<JointExtent>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let (merge, walk) = (&mut this.merge, &mut this.walk);
        merge.poll(|| {
            walk.poll_piece(cx).map_ok(|(offset, length)| JointExtent {
                offset,
                length,
                names: walk.names().clone(),
                flags: walk.flags().collect(),
            })
        })
    }
}
