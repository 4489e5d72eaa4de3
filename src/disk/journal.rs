//! Writing again what may be lost with a server.

use std::ops::Range;
use std::sync::Arc;

use futures::stream::StreamExt as _;

use super::carry::is_shutdown;
use super::hub::{Hub, Link};
use super::state::Content;
use crate::error::{Delivery, Error, Result};

/// Writes the content of the journal before anything else is sent.
pub(super) async fn write_again(
    hub: &Hub,
    link: &Arc<Link>,
    again: Vec<(Range<u64>, Content)>,
) -> Result<()> {
    /// How many writes are in flight at a time.
    const AHEAD: usize = 8;
    let connection = &link.connection;
    // It may be carried out later, at least in part.
    let lose = |range: &Range<u64>, content: &Content| {
        let covers = hub.reach(range, true);
        match covers == *range {
            true => hub.lose(&covers, content, link),
            false => hub.lose(&covers, &Content::Unknown, link),
        }
    };
    let write = async |(range, content): (Range<u64>, Content)| {
        let result = match &content {
            Content::Data(data) => {
                connection
                    .write(range.start, data.clone())
                    .unaligned()
                    .await
            }
            Content::Zeroes => {
                let length = range.end - range.start;
                let zeroes = connection.write_zeroes(range.start, length);
                zeroes.or_write().unaligned().await
            }
            Content::Unknown => Ok(()),
        };
        match &result {
            Ok(()) => hub.acknowledge(&range, &content, link.generation, false),
            // The server is there, and cannot take it: the next flush says so.
            Err(error @ Error::Request(_)) if !is_shutdown(error) => {
                // Of several messages, others may still be on their way.
                if let Err(lost) = connection.settled().await {
                    lose(&range, &content);
                    return Err(lost);
                }
                hub.give_up_content(&range);
                return Ok(());
            }
            Err(error) if error.delivery() == Delivery::MaybeSent => lose(&range, &content),
            Err(_) => {}
        }
        result
    };
    let mut writes = futures::stream::iter(again)
        .map(write)
        .buffer_unordered(AHEAD);
    let mut first = Ok(());
    // All of them end, so that each that was sent and not answered is known.
    while let Some(result) = writes.next().await {
        first = first.and(result);
    }
    first
}
