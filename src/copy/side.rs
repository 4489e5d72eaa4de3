//! The two sides of a copy, read and written at positions.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use futures::future::try_join_all;

use super::file::LocalFile;
use super::nbd::Nbd;
use super::survey::{self, Survey};
use super::zeroes::Run;
use crate::context::BASE_ALLOCATION;
use crate::error::{CopyFault, Error, Result, Side};
use crate::export::Export;
use crate::wire::Errno;

/// How often a write whose outcome is unknown is repeated. A disk gives up before.
const REPEATS: u32 = 100;

/// How much is read at a time, in bytes, where longer reads were given up: the least that a server has
/// to answer in one piece.
const PART: u64 = 64 << 10;

/// What can be read anywhere.
#[derive(Debug)]
pub(super) enum Reader {
    Nbd(NbdReader),
    File(Arc<LocalFile>),
}

/// An export that is read.
#[derive(Debug)]
pub(super) struct NbdReader {
    nbd: Nbd,
    /// Whether the server has hung up on a read that it could not complete. All reads of the copy share
    /// it, and one that does not know yet only loses another connection.
    hangs_up: AtomicBool,
}

impl NbdReader {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let hangs_up = self.hangs_up.load(Ordering::Relaxed);
        match self.nbd.read(range.clone(), hangs_up).await {
            Err(error) if self.nbd.has_survived(&error) => self.read_parts(range).await,
            result => result,
        }
    }

    /// Reads what several connections were lost over, in parts that are short enough for a server that
    /// is never up for long. None may be answered in pieces: in the middle of such an answer, qemu-nbd
    /// has no other way than to hang up to say that it cannot read.
    async fn read_parts(&self, range: Range<u64>) -> Result<Bytes> {
        let is_whole = self.nbd.export()?.can_df();
        let mut data = BytesMut::new();
        let mut at = range.start;
        while at < range.end {
            let part = at..(at - at % PART + PART).min(range.end);
            let read = self
                .nbd
                .lasting(|| self.nbd.read(part.clone(), is_whole))
                .await;
            if matches!(read, Err(Error::Request(_))) {
                self.hangs_up.store(is_whole, Ordering::Relaxed);
            }
            data.extend_from_slice(&read?);
            at = part.end;
        }
        Ok(data.freeze())
    }
}

impl Reader {
    pub(super) const fn of(nbd: Nbd) -> Self {
        let hangs_up = AtomicBool::new(false);
        Self::Nbd(NbdReader { nbd, hangs_up })
    }

    pub(super) fn size(&self) -> Result<u64, CopyFault> {
        match self {
            Self::Nbd(reader) => Ok(facts(&reader.nbd, Side::Source)?.size()),
            Self::File(file) => Ok(file.size()),
        }
    }

    pub(super) async fn read(&self, range: Range<u64>) -> Result<Bytes, CopyFault> {
        match self {
            Self::Nbd(reader) => reader.read(range).await.map_err(of(Side::Source)),
            Self::File(file) => file.read(range).await,
        }
    }

    /// Returns where it has data, and where it is zero.
    pub(super) fn survey(&self, size: u64, asks: bool) -> Survey {
        match self {
            Self::Nbd(reader) if asks && reader.nbd.has_allocation() => {
                survey::allocation(reader.nbd.clone(), 0..size)
            }
            Self::File(file) if asks => survey::holes(file.clone(), size),
            _ => survey::whole(0..size),
        }
    }

    pub(super) const fn nbd(&self) -> Option<&Nbd> {
        match self {
            Self::Nbd(reader) => Some(&reader.nbd),
            Self::File(_) => None,
        }
    }

    pub(super) const fn file(&self) -> Option<&Arc<LocalFile>> {
        match self {
            Self::File(file) => Some(file),
            Self::Nbd(_) => None,
        }
    }
}

/// What can be written anywhere.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) place: Target,
    /// Up to where it is known to be zero, in bytes.
    pub(super) is_zero_up_to: u64,
    /// Whether its zeroes are to have room.
    pub(super) keeps_room: bool,
    /// Whether the server zeroes fast, as far as is known. Requests learn it side by side; one that
    /// asks in vain does no harm.
    is_fast: AtomicBool,
}

#[derive(Clone, Debug)]
pub(super) enum Target {
    Nbd(Nbd),
    File(Arc<LocalFile>),
    Nothing,
}

impl Writer {
    pub(super) fn new(place: Target, keeps_room: bool) -> Result<Self, CopyFault> {
        let is_fast = match &place {
            Target::Nbd(nbd) => facts(nbd, Side::Destination)?.can_fast_zero(),
            _ => false,
        };
        Ok(Self {
            place,
            is_zero_up_to: 0,
            keeps_room,
            is_fast: AtomicBool::new(is_fast),
        })
    }

    /// Returns the size in bytes, if it is fixed.
    pub(super) fn size(&self) -> Result<Option<u64>, CopyFault> {
        match &self.place {
            Target::Nbd(nbd) => Ok(Some(facts(nbd, Side::Destination)?.size())),
            Target::File(file) if !file.is_regular() => Ok(Some(file.size())),
            Target::File(_) | Target::Nothing => Ok(None),
        }
    }

    /// Writes data that is cut into runs, and returns how many bytes had to be written again.
    pub(super) async fn store(
        &self,
        offset: u64,
        data: Bytes,
        mut runs: Vec<Run>,
    ) -> Result<u64, CopyFault> {
        let zero_up_to = self.is_zero_up_to;
        runs.retain(|run| !run.is_zero || offset + run.range.end as u64 > zero_up_to);
        match &self.place {
            Target::Nothing => Ok(0),
            Target::File(file) => {
                let stored = file.store(offset, data, runs, self.keeps_room).await;
                stored.map(|()| 0)
            }
            Target::Nbd(nbd) => {
                let stores = runs.into_iter().map(|run| {
                    let at = offset + run.range.start as u64;
                    let part = data.slice(run.range);
                    let length = part.len() as u64;
                    async move {
                        match run.is_zero {
                            true => self.zero(at..at + length).await,
                            false => repeated(nbd, length, || nbd.write(at, part.clone())).await,
                        }
                    }
                });
                Ok(try_join_all(stores).await?.into_iter().sum())
            }
        }
    }

    /// Writes zeroes, unless they are there, and returns how many bytes had to be written again.
    pub(super) async fn zero(&self, range: Range<u64>) -> Result<u64, CopyFault> {
        if range.end <= self.is_zero_up_to {
            return Ok(0);
        }
        match &self.place {
            Target::Nbd(nbd) => {
                let length = range.end - range.start;
                repeated(nbd, length, || self.zero_export(nbd, range.clone())).await
            }
            Target::File(file) => file.zero(range, self.keeps_room).await.map(|()| 0),
            Target::Nothing => Ok(0),
        }
    }

    async fn zero_export(&self, nbd: &Nbd, range: Range<u64>) -> Result<()> {
        if self.is_fast.load(Ordering::Relaxed) {
            match nbd.write_zeroes(range.clone(), true, self.keeps_room).await {
                Err(Error::Request(error)) if error.errno() == Errno::ENOTSUP => {
                    self.is_fast.store(false, Ordering::Relaxed);
                }
                result => return result,
            }
        }
        nbd.write_zeroes(range, false, self.keeps_room).await
    }

    /// Makes durable what was written.
    pub(super) async fn flush(&self) -> Result<()> {
        match &self.place {
            Target::Nbd(nbd) if nbd.export()?.can_flush() => nbd.lasting(|| nbd.flush()).await,
            Target::File(file) => file.sync().await.map_err(Error::from),
            Target::Nbd(_) | Target::Nothing => Ok(()),
        }
    }

    /// Reads what was written.
    pub(super) async fn read(&self, range: Range<u64>) -> Result<Bytes, CopyFault> {
        match &self.place {
            Target::Nbd(nbd) => {
                let read = nbd.lasting(|| nbd.read(range.clone(), false));
                read.await.map_err(of(Side::Destination))
            }
            Target::File(file) => file.read(range).await,
            Target::Nothing => Err(CopyFault::Impossible("nothing was written to read again")),
        }
    }

    /// Returns up to where the destination says that it is zero, from its start.
    pub(super) async fn zeroes_at_start(&self, size: u64) -> u64 {
        use futures::StreamExt;

        let Target::Nbd(nbd) = &self.place else {
            return 0;
        };
        if !nbd.has_allocation() || size == 0 {
            return 0;
        }
        match nbd.extents(BASE_ALLOCATION, 0..size).next().await {
            Some(Ok(extent)) if extent.is_zero() => extent.end(),
            _ => 0,
        }
    }

    pub(super) const fn nbd(&self) -> Option<&Nbd> {
        match &self.place {
            Target::Nbd(nbd) => Some(nbd),
            Target::File(_) | Target::Nothing => None,
        }
    }

    pub(super) const fn file(&self) -> Option<&Arc<LocalFile>> {
        match &self.place {
            Target::File(file) => Some(file),
            Target::Nbd(_) | Target::Nothing => None,
        }
    }
}

/// Repeats a change of this length until its outcome is known, and returns how many bytes that were. It
/// is safe, since only these bytes are ever written there.
async fn repeated<F>(
    nbd: &Nbd,
    length: u64,
    mut change: impl FnMut() -> F,
) -> Result<u64, CopyFault>
where
    F: Future<Output = Result<()>>,
{
    let mut repeats = 0;
    loop {
        match change().await {
            Ok(()) => return Ok(length * u64::from(repeats)),
            Err(error) => {
                let may_repeat =
                    matches!(error, Error::OutcomeUnknown(_)) || nbd.has_survived(&error);
                if !may_repeat || repeats == REPEATS {
                    return Err(error.of_side(Side::Destination));
                }
                repeats += 1;
            }
        }
    }
}

/// What is known of an export.
pub(super) fn facts(nbd: &Nbd, side: Side) -> Result<Export, CopyFault> {
    nbd.export().map_err(of(side))
}

/// Says which side failed.
pub(super) fn of(side: Side) -> impl FnOnce(Error) -> CopyFault {
    move |error| error.of_side(side)
}
