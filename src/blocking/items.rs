//! Streams as iterators.

use std::iter::FusedIterator;
use std::mem;

use futures::{Stream, StreamExt};

use super::runtime::{Call, wait, was_forked};
use crate::error::Result;

/// The items of an async stream, see [`Disk::items`](super::Disk::items).
///
/// Each item that is not known yet is waited for. After an error there are no more.
#[derive(Debug)]
#[must_use = "nothing is asked for until the iterator is used"]
pub struct Items<S> {
    /// The stream, until it has ended.
    stream: Option<S>,
}

impl<S> Items<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self {
            stream: Some(stream),
        }
    }

    /// Drops the stream, which must not be done in a forked process.
    fn end(&mut self) {
        let stream = self.stream.take();
        if was_forked() {
            mem::forget(stream);
        }
    }
}

impl<T, S: Stream<Item = Result<T>> + Unpin> Iterator for Items<S> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        const CALL: Call = Call {
            name: "Items::next",
            twin: "StreamExt::next",
        };
        let stream = self.stream.as_mut()?;
        let item = wait(CALL, || async { stream.next().await.transpose() }).transpose();
        if !matches!(item, Some(Ok(_))) {
            self.end();
        }
        item
    }
}

impl<T, S: Stream<Item = Result<T>> + Unpin> FusedIterator for Items<S> {}

impl<S> Drop for Items<S> {
    fn drop(&mut self) {
        self.end();
    }
}
