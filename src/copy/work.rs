//! The copy of one unit.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::hash::{BlockHash, Hashes};
use super::plan::Unit;
use super::side::{Reader, Writer};
use super::width::Width;
use super::zeroes::{Run, runs};
use crate::error::{CopyFault, Error, raw_os_error};
use crate::wire::Errno;

/// What is to be done for one part of the disk.
#[derive(Debug)]
pub(super) enum Task {
    /// To be read and written.
    Copy(Unit),
    /// To be read and written once more: it is in the report already.
    Again(Range<u64>),
    /// To be written: it was read already.
    Store(u64, Bytes),
}

impl Task {
    /// Returns what is to be written, in bytes from the start.
    pub(super) fn range(&self) -> Range<u64> {
        match self {
            Self::Copy(unit) => unit.range.clone(),
            Self::Again(range) => range.clone(),
            Self::Store(offset, data) => *offset..offset + data.len() as u64,
        }
    }
}

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) range: Range<u64>,
    pub(super) data: u64,
    pub(super) zeroes: u64,
    pub(super) repeated: u64,
    pub(super) salvaged: Vec<Range<u64>>,
    /// If they were asked for.
    pub(super) hashes: Option<Hashes>,
}

/// Does tasks.
#[derive(Debug)]
pub(super) struct Worker {
    /// `None` if the source is a stream.
    pub(super) reader: Option<Reader>,
    pub(super) writer: Writer,
    /// The length of the blocks that are looked at whether they are zero, if they are.
    pub(super) sparse: Option<u64>,
    /// The length of the blocks that are read one by one around those that cannot be read, if that is
    /// to be done.
    pub(super) salvage: Option<u64>,
    pub(super) hash: Option<BlockHash>,
    pub(super) width: Arc<Width>,
}

impl Worker {
    pub(super) async fn work(self: Arc<Self>, task: Task) -> Result<Done, CopyFault> {
        match task {
            Task::Copy(unit) if unit.is_zero => self.zero(unit.range).await,
            task => self.width.timed(self.copy(task)).await,
        }
    }

    async fn copy(&self, task: Task) -> Result<Done, CopyFault> {
        match task {
            Task::Copy(unit) => {
                let (data, salvaged) = self.read(unit.range.clone()).await?;
                let mut done = self.store(unit.range.start, data).await?;
                done.salvaged = salvaged;
                Ok(done)
            }
            Task::Again(range) => {
                let (data, salvaged) = self.read(range.clone()).await?;
                let done = self.store(range.start, data).await?;
                Ok(Done {
                    repeated: done.repeated + (range.end - range.start),
                    range,
                    salvaged,
                    ..Done::default()
                })
            }
            Task::Store(offset, data) => self.store(offset, data).await,
        }
    }

    /// Reads, with zeroes for what cannot be read if that is to be salvaged.
    pub(super) async fn read(
        &self,
        range: Range<u64>,
    ) -> Result<(Bytes, Vec<Range<u64>>), CopyFault> {
        let Some(reader) = &self.reader else {
            return Err(CopyFault::Impossible("a stream is not read at positions"));
        };
        match (reader.read(range.clone()).await, self.salvage) {
            (Ok(data), _) => Ok((data, Vec::new())),
            (Err(fault), Some(block)) if is_bad_sector(&fault) => {
                salvage(reader, range, block).await
            }
            (Err(fault), _) => Err(fault),
        }
    }

    async fn zero(&self, range: Range<u64>) -> Result<Done, CopyFault> {
        let repeated = self.writer.zero(range.clone()).await?;
        Ok(Done {
            zeroes: range.end - range.start,
            hashes: self.hash.as_ref().map(|_| Hashes::Zeroes),
            range,
            repeated,
            ..Done::default()
        })
    }

    async fn store(&self, offset: u64, data: Bytes) -> Result<Done, CopyFault> {
        let mut done = Done {
            range: offset..offset + data.len() as u64,
            hashes: self.hash.as_ref().map(|hash| hash.hash(&data)),
            ..Done::default()
        };
        let runs = match self.sparse {
            Some(block) => runs(&data, offset, block),
            None => vec![Run {
                range: 0..data.len(),
                is_zero: false,
            }],
        };
        for run in &runs {
            let sum = match run.is_zero {
                true => &mut done.zeroes,
                false => &mut done.data,
            };
            *sum += run.range.len() as u64;
        }
        done.repeated = self.writer.store(offset, data, runs).await?;
        Ok(done)
    }
}

/// Whether it is the disk of the source that failed, and not the way to it, or a right to it. Servers
/// answer `EINVAL` to what the system calls otherwise than the protocol.
fn is_bad_sector(fault: &CopyFault) -> bool {
    match fault {
        CopyFault::Nbd {
            cause: Error::Request(refused),
            ..
        } => !matches!(
            refused.errno(),
            Errno::ESHUTDOWN | Errno::EPERM | Errno::ENOMEM
        ),
        // A file that has become shorter is another one.
        CopyFault::Io { cause, .. } => {
            raw_os_error(cause).is_some() && cause.kind() != io::ErrorKind::PermissionDenied
        }
        _ => false,
    }
}

/// Reads block by block, and takes for zero what cannot be read.
async fn salvage(
    reader: &Reader,
    range: Range<u64>,
    block: u64,
) -> Result<(Bytes, Vec<Range<u64>>), CopyFault> {
    let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let mut data = vec![0; length];
    let mut salvaged: Vec<Range<u64>> = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let end = (at - at % block + block).min(range.end);
        match reader.read(at..end).await {
            Ok(part) => {
                let start = usize::try_from(at - range.start).unwrap_or(usize::MAX);
                data[start..start + part.len()].copy_from_slice(&part);
            }
            Err(fault) if is_bad_sector(&fault) => match salvaged.last_mut() {
                Some(last) if last.end == at => last.end = end,
                _ => salvaged.push(at..end),
            },
            Err(fault) => return Err(fault),
        }
        at = end;
    }
    Ok((data.into(), salvaged))
}
