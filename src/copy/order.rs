//! The copy to a stream: many reads at a time, written in order.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::feed::Feed;
use super::hash::{Hashes, Root};
use super::plan::Unit;
use super::progress::Publisher;
use super::report::Copied;
use super::work::{Task, Worker};
use crate::error::{CopyFault, Side};

/// How many zeroes are written at a time, in bytes.
const ZEROES: usize = 256 << 10;

/// What was read, or is zero.
enum Part {
    Data(Bytes, Vec<Range<u64>>),
    Zeroes(u64),
}

type Reading = Pin<Box<dyn Future<Output = Result<(u64, Part), CopyFault>> + Send>>;

/// A copy to a stream under way.
pub(super) struct InOrder<'a> {
    pub(super) worker: Arc<Worker>,
    pub(super) feed: Feed,
    pub(super) stream: Box<dyn AsyncWrite + Send + Unpin>,
    pub(super) progress: &'a Publisher,
    pub(super) report: &'a mut Copied,
    pub(super) root: Option<Root>,
}

impl InOrder<'_> {
    pub(super) async fn run(mut self) -> Result<(), CopyFault> {
        let mut reading: FuturesOrdered<Reading> = FuturesOrdered::new();
        let mut is_over = false;
        while !(is_over && reading.is_empty()) {
            let has_room = !is_over && reading.len() < self.feed.width.load().most;
            tokio::select! {
                biased;
                Some(part) = reading.next(), if !reading.is_empty() => {
                    let (offset, part) = part?;
                    self.write(offset, part).await?;
                }
                task = self.feed.next(), if has_room => match task? {
                    Some(task) => reading.push_back(self.read(task)),
                    None => is_over = true,
                },
            }
        }
        self.report.hash = self.root.as_mut().map(Root::finish);
        let end = self.report.data + self.report.zeroes;
        // The standard output of Tokio, for one, keeps what it has when it is only shut down.
        let flushed = self.stream.flush().await;
        flushed.map_err(|error| failed(end..end, error))?;
        let ended = self.stream.shutdown().await;
        ended.map_err(|error| failed(end..end, error))
    }

    fn read(&self, task: Task) -> Reading {
        let worker = self.worker.clone();
        Box::pin(async move {
            match task {
                Task::Store(offset, data) => Ok((offset, Part::Data(data, Vec::new()))),
                Task::Copy(unit) if unit.is_zero => {
                    let length = unit.range.end - unit.range.start;
                    Ok((unit.range.start, Part::Zeroes(length)))
                }
                Task::Again(range) | Task::Copy(Unit { range, .. }) => {
                    let read = worker.read(range.clone());
                    let (data, salvaged) = worker.width.timed(read).await?;
                    Ok((range.start, Part::Data(data, salvaged)))
                }
            }
        })
    }

    async fn write(&mut self, offset: u64, part: Part) -> Result<(), CopyFault> {
        match part {
            Part::Data(data, salvaged) => {
                let hash = self.worker.hash.as_ref();
                if let (Some(root), Some(hash)) = (&mut self.root, hash) {
                    root.add(&(offset..offset + data.len() as u64), hash.hash(&data));
                }
                let range = offset..offset + data.len() as u64;
                let written = self.stream.write_all(&data).await;
                written.map_err(|error| failed(range, error))?;
                self.report.data += data.len() as u64;
                self.report.salvaged.extend(salvaged);
            }
            Part::Zeroes(length) => {
                if let Some(root) = &mut self.root {
                    root.add(&(offset..offset + length), Hashes::Zeroes);
                }
                let zeroes = vec![0; ZEROES];
                let mut left = length;
                while left > 0 {
                    let part = usize::try_from(left).unwrap_or(ZEROES).min(ZEROES);
                    let at = offset + length - left;
                    let written = self.stream.write_all(&zeroes[..part]).await;
                    written.map_err(|error| failed(at..at + part as u64, error))?;
                    left -= part as u64;
                }
                self.report.zeroes += length;
            }
        }
        self.report.status_failures = self.feed.failures;
        let report = &*self.report;
        self.progress.update(|progress| {
            progress.data = report.data;
            progress.zeroes = report.zeroes;
            progress.done = report.data + report.zeroes;
        });
        Ok(())
    }
}

fn failed(range: Range<u64>, error: io::Error) -> CopyFault {
    CopyFault::Io {
        side: Side::Destination,
        action: "write",
        range: Some(range).filter(|range| !range.is_empty()),
        cause: Arc::new(error),
    }
}
