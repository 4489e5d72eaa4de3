//! Both sides, read again and compared.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::FuturesUnordered;

use super::checkpoint::Checkpoint;
use super::feed::Feed;
use super::progress::Publisher;
use super::side::{Reader, Writer};
use super::work::{Task, Worker};
use crate::error::CopyFault;

/// How much of a sample is compared, in bytes.
const SAMPLE: u64 = 4096;

/// Reads all that the feed names on both sides, and compares it.
pub(super) async fn verify(
    worker: &Arc<Worker>,
    mut feed: Feed,
    progress: &Publisher,
) -> Result<(), CopyFault> {
    let mut comparing = FuturesUnordered::new();
    let (mut is_over, mut compared) = (false, 0);
    while !(is_over && comparing.is_empty()) {
        while !is_over && comparing.len() < feed.width.load().most {
            match feed.next().await? {
                Some(Task::Copy(unit)) => {
                    comparing.push(compare(worker.clone(), unit.range, unit.is_zero));
                }
                Some(Task::Again(_) | Task::Store(..)) => {}
                None => is_over = true,
            }
        }
        compared += comparing.try_next().await?.unwrap_or_default();
        progress.update(|progress| {
            progress.skipped = feed.skipped;
            progress.done = compared + feed.skipped;
        });
    }
    Ok(())
}

/// Compares a range on both sides, step by step, and returns its length.
async fn compare(worker: Arc<Worker>, range: Range<u64>, is_zero: bool) -> Result<u64, CopyFault> {
    let mut at = range.start;
    while at < range.end {
        let part = at..(at + worker.width.load().step).min(range.end);
        let (source, destination) = match is_zero {
            true => (None, worker.writer.read(part).await?),
            false => {
                let both = async {
                    tokio::try_join!(
                        read(&worker, part.clone()),
                        worker.writer.read(part.clone())
                    )
                };
                let both = worker.width.timed(both).await?;
                (Some(both.0), both.1)
            }
        };
        let difference = match source {
            Some(source) => first_difference(&source, &destination),
            None => destination.iter().position(|byte| *byte != 0),
        };
        if let Some(difference) = difference {
            let offset = at + difference as u64;
            return Err(CopyFault::Different { offset });
        }
        at += destination.len() as u64;
    }
    Ok(range.end - range.start)
}

async fn read(worker: &Worker, range: Range<u64>) -> Result<Bytes, CopyFault> {
    Ok(worker.read(range).await?.0)
}

fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    if one == other {
        return None;
    }
    let pairs = one.iter().zip(other);
    let first = pairs
        .clone()
        .take_while(|(one, other)| one == other)
        .count();
    Some(first)
}

/// Compares the places that a checkpoint names.
pub(super) async fn compare_samples(
    reader: Option<&Reader>,
    writer: &Writer,
    checkpoint: &Checkpoint,
) -> Result<(), CopyFault> {
    let Some(reader) = reader else { return Ok(()) };
    let spans = checkpoint.spans();
    for &start in &checkpoint.samples {
        for (range, ()) in spans.within(&(start..start.saturating_add(SAMPLE))) {
            // What could not be read before was salvaged.
            let Ok(source) = reader.read(range.clone()).await else {
                continue;
            };
            if source != writer.read(range.clone()).await? {
                let offset = range.start;
                return Err(CopyFault::OtherCopy {
                    why: format!("source and destination are different at offset {offset}"),
                });
            }
        }
    }
    Ok(())
}
