//! Reads and writes longer than one message can be: several messages, side by side.

use std::future::Future;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures::future::try_join_all;

use super::execute::Range;
use super::op::{ReadInto, Write};
use super::pending::Pending;
use crate::connection::Connection;
use crate::error::{Delivery, Result};
use crate::wire::CommandFlags;

/// A request that is several messages.
pub(super) type Parts<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// The ranges of the messages that make up `range`, each of at most `step` bytes.
fn ranges(range: Range, step: u64) -> impl Iterator<Item = Range> {
    let Range {
        mut offset,
        mut length,
    } = range;
    std::iter::from_fn(move || {
        let now = Range {
            offset,
            length: length.min(step),
        };
        offset = offset.saturating_add(now.length);
        length -= now.length;
        (now.length > 0).then_some(now)
    })
}

/// Reads `range` into `buffer`, each message straight into its part of it.
pub(super) fn read(
    connection: &Connection,
    mut buffer: BytesMut,
    range: Range,
    step: u64,
    flags: CommandFlags,
) -> Parts<BytesMut> {
    buffer.clear();
    buffer.reserve(usize::try_from(range.length).unwrap_or(usize::MAX));
    let mut parts = Vec::new();
    for range in ranges(range, step) {
        let end = usize::try_from(range.length)
            .unwrap_or(usize::MAX)
            .min(buffer.capacity());
        let rest = buffer.split_off(end);
        let part = ReadInto(std::mem::replace(&mut buffer, rest));
        parts.push(Pending::new(connection.clone(), part, range, flags, None));
    }
    Box::pin(async move {
        let mut parts = all(parts).await?.into_iter();
        let mut whole = parts.next().unwrap_or_default();
        // Neighbours in memory: joining them moves nothing.
        parts.for_each(|part| whole.unsplit(part));
        Ok(whole)
    })
}

/// Writes `data` at `range`.
pub(super) fn write(
    connection: &Connection,
    mut data: Bytes,
    range: Range,
    step: u64,
    flags: CommandFlags,
) -> Parts<()> {
    let mut parts = Vec::new();
    for range in ranges(range, step) {
        let end = usize::try_from(range.length)
            .unwrap_or(usize::MAX)
            .min(data.len());
        let part = Write(data.split_to(end));
        parts.push(Pending::new(connection.clone(), part, range, flags, None));
    }
    Box::pin(async move { all(parts).await.map(drop) })
}

/// Waits for all messages. If one fails, others may have been sent, whatever is true of it.
async fn all<F: Future<Output = Result<T>>, T>(parts: Vec<F>) -> Result<Vec<T>> {
    try_join_all(parts)
        .await
        .map_err(|error| error.delivered(Delivery::MaybeSent))
}
