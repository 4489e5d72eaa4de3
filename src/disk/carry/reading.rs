//! Structured reads.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{self, Iter, Stream, StreamExt as _};

use super::{Losses, Work, flush_early, is_lost};
use crate::chunk::Chunk;
use crate::disk::Disk;
use crate::driver::timer;
use crate::error::{FailedRequest, Result};
use crate::request::Client as _;
use crate::wire::{Command, CommandFlags};

/// A structured read of a disk: all its pieces come from one link.
#[allow(unnameable_types, reason = "Chunks is its name")]
#[derive(Debug)]
pub struct Reading(Pieces);

/// The pieces that came, and the error that ended them, if there was one.
type Items = Vec<Result<Chunk>>;

enum Pieces {
    Reading(Work<Items>),
    Giving(Iter<<Items as IntoIterator>::IntoIter>),
}

impl Reading {
    pub(super) fn new(
        disk: &Disk,
        range: Range<u64>,
        flags: CommandFlags,
        timeout: Option<Duration>,
    ) -> Self {
        // The disk does not end before this is over.
        let disk = disk.clone();
        let hub = disk.hub().clone();
        let timeout = hub.settings.deadline(timeout);
        let (offset, length) = (range.start, range.end - range.start);
        let work = async move {
            let hub = disk.hub();
            let mut losses = Losses::default();
            loop {
                if hub.is_scattered(&range) {
                    flush_early(hub).await;
                }
                let link = hub.link(Some(&range)).await?;
                let chunks = link.connection.read_chunks(offset, length, flags, None);
                let items = hub.unless_stalled(&link, chunks.collect::<Items>()).await;
                let Some(items) = items else {
                    continue;
                };
                match items.last() {
                    Some(Err(error)) if is_lost(error) => {
                        losses.add(hub, &link, error.clone())?;
                    }
                    _ => return Ok(items),
                }
            }
        };
        let Some(timeout) = timeout else {
            return Self(Pieces::Reading(Box::pin(work)));
        };
        let command = Command::READ;
        let request = FailedRequest {
            command,
            offset,
            length,
        };
        let work = async move {
            let done = timer::until(timer::after(timeout), work).await;
            done.unwrap_or_else(|| Err(hub.overdue(timeout, request)))
        };
        Self(Pieces::Reading(Box::pin(work)))
    }
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reading(_) => "Reading",
            Self::Giving(_) => "Giving",
        })
    }
}

impl Stream for Reading {
    type Item = Result<Chunk>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match &mut self.0 {
                Pieces::Reading(work) => {
                    let items = ready!(work.as_mut().poll(cx));
                    let items = items.unwrap_or_else(|error| vec![Err(error)]);
                    self.0 = Pieces::Giving(stream::iter(items));
                }
                Pieces::Giving(items) => return Pin::new(items).poll_next(cx),
            }
        }
    }
}
