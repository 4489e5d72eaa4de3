//! The extents of a range as an iterator.

use std::iter::FusedIterator;
use std::ops::{Bound, RangeBounds};

use futures::StreamExt;

use super::Disk;
use super::runtime::{Call, wait, was_forked};
use crate::connection::Connection;
use crate::error::Result;
use crate::extent::Extent;
use crate::extents;
use crate::request::Client;

/// The extents of a range in one metadata context, see [`Disk::extents`].
///
/// Each item that is not known yet is one request. After an error there are no more.
#[derive(Debug)]
#[must_use = "nothing is asked for until the iterator is used"]
pub struct Extents<C: Client = Connection> {
    disk: Disk<C>,
    stream: extents::Extents<C>,
    is_over: bool,
}

impl<C: Client> Extents<C> {
    pub(super) fn new(disk: Disk<C>, context: String, range: impl RangeBounds<u64>) -> Self {
        let mut stream = extents::Extents::new(disk.client().clone(), context, range);
        if let Some(timeout) = disk.limit() {
            stream = stream.timeout(timeout);
        }
        Self {
            disk,
            stream,
            is_over: false,
        }
    }
}

impl<C: Client> Iterator for Extents<C> {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Self::Item> {
        const CALL: Call = Call {
            name: "Extents::next",
            twin: "Connection::extents",
        };
        if self.is_over {
            return None;
        }
        let stream = &mut self.stream;
        let item = wait(CALL, || async { stream.next().await.transpose() }).transpose();
        self.is_over = !matches!(item, Some(Ok(_)));
        item
    }
}

impl<C: Client> FusedIterator for Extents<C> {}

impl<C: Client> Drop for Extents<C> {
    fn drop(&mut self) {
        if was_forked() {
            let nothing = (Bound::Included(0), Bound::Excluded(0));
            let empty = extents::Extents::new(self.disk.client().clone(), "", nothing);
            std::mem::forget(std::mem::replace(&mut self.stream, empty));
        }
    }
}
