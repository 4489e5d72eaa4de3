//! Files and block devices.

mod buffers;
mod threads;

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::zeroes::Run;
use crate::error::{CopyFault, Reason, Side, described};
use crate::platform::{self, Zeroed};
use buffers::Buffers;
use threads::Threads;

/// How many zeroes are written at a time where there is no other way, in bytes.
const ZEROES: usize = 1 << 20;

/// What is done to make a range zero, as errors name it.
const ZERO: &str = "write zeroes to";

/// An open file or block device.
#[derive(Debug)]
pub(super) struct LocalFile {
    side: Side,
    path: PathBuf,
    threads: Threads,
    buffers: Buffers,
    size: u64,
    is_regular: bool,
    /// What tells one file from another, where the system has that.
    id: Option<(u64, u64)>,
}

impl LocalFile {
    /// Opens what is to be read.
    pub(super) async fn source(path: PathBuf) -> Result<Self, CopyFault> {
        Self::open(Side::Source, path, OpenOptions::new().read(true)).await
    }

    /// Opens what is to be written, and creates it if there is nothing. If a copy `goes_on`, it is
    /// there, as large as the source.
    pub(super) async fn destination(path: PathBuf, goes_on: bool) -> Result<Self, CopyFault> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(!goes_on);
        let opened = Self::open(Side::Destination, path, &options).await;
        let is_missing = |fault: &CopyFault| match fault {
            CopyFault::Io { cause, .. } => cause.kind() == io::ErrorKind::NotFound,
            _ => false,
        };
        match opened {
            Err(fault) if goes_on && is_missing(&fault) => Err(CopyFault::OtherCopy {
                why: "the file of the destination is gone".into(),
            }),
            opened => opened,
        }
    }

    /// Its size when it was opened, in bytes, if it is a regular file.
    pub(super) fn regular_size(&self) -> Option<u64> {
        self.is_regular.then_some(self.size)
    }

    async fn open(side: Side, path: PathBuf, options: &OpenOptions) -> Result<Self, CopyFault> {
        let options = options.clone();
        let opened = spawn_blocking(move || {
            let result = open(&path, &options);
            (result, path)
        });
        let (result, path) = match opened.await {
            Ok(opened) => opened,
            Err(error) => return Err(fault(side, "open", None)(io::Error::other(error))),
        };
        let named = |error: io::Error| fault(side, "open", None)(named(side, &path, &error));
        let (file, size, is_regular, id) = result.map_err(named)?;
        let threads = Threads::new(file).map_err(named)?;
        Ok(Self {
            side,
            path,
            threads,
            buffers: Buffers::default(),
            size,
            is_regular,
            id,
        })
    }

    /// The size when it was opened, in bytes.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Whether it is a regular file, whose size can be changed.
    pub(super) const fn is_regular(&self) -> bool {
        self.is_regular
    }

    /// Whether both are the same file.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.id.is_some() && self.id == other.id
    }

    pub(super) async fn read(&self, range: Range<u64>) -> Result<Bytes, CopyFault> {
        let failed = fault(self.side, "read", Some(range.clone()));
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let buffers = self.buffers.clone();
        self.run(move |file| {
            let read = |data: &mut [u8]| platform::read_at(file, range.start, data);
            buffers.fill(length, read).map_err(failed)
        })
        .await
    }

    /// Writes runs of data, and makes those zero that are; all of them on one thread, since handing
    /// over takes longer than a short write.
    pub(super) async fn store(
        &self,
        offset: u64,
        data: Bytes,
        runs: Vec<Run>,
        keeps_room: bool,
    ) -> Result<(), CopyFault> {
        if runs.is_empty() {
            return Ok(());
        }
        let side = self.side;
        self.run(move |file| {
            for run in runs {
                let range = offset + run.range.start as u64..offset + run.range.end as u64;
                let (action, stored) = match run.is_zero {
                    true => (ZERO, zero(file, range.clone(), keeps_room)),
                    false => {
                        let part = &data[run.range];
                        ("write", platform::write_at(file, range.start, part))
                    }
                };
                stored.map_err(fault(side, action, Some(range)))?;
            }
            Ok(())
        })
        .await
    }

    /// Makes a range zero, with room for it or without.
    pub(super) async fn zero(&self, range: Range<u64>, keeps_room: bool) -> Result<(), CopyFault> {
        let failed = fault(self.side, ZERO, Some(range.clone()));
        self.run(move |file| zero(file, range, keeps_room).map_err(failed))
            .await
    }

    /// Returns up to where a range is a hole, or is data, and which it is.
    pub(super) async fn extent(&self, range: Range<u64>) -> Result<(u64, bool), CopyFault> {
        let failed = fault(self.side, "look for holes in", Some(range.clone()));
        self.run(move |file| {
            let Range { start, end } = range;
            let (stop, is_hole) = platform::hole_at(file, start, end).map_err(failed)?;
            Ok((stop.clamp(start + 1, end), is_hole))
        })
        .await
    }

    /// Makes the file this long; `clears` takes all content from it before. With `keeps_room`, all of
    /// it gets room.
    pub(super) async fn resize(
        &self,
        size: u64,
        clears: bool,
        keeps_room: bool,
    ) -> Result<(), CopyFault> {
        let resize = move |file: &File| {
            if clears {
                file.set_len(0)?;
            }
            file.set_len(size)?;
            if keeps_room && size > 0 {
                platform::make_room(file, size)?;
            }
            Ok(())
        };
        let failed = fault(self.side, "change the size of", None);
        self.run(move |file| resize(file).map_err(failed)).await
    }

    /// Makes durable what was written, and that the file exists.
    pub(super) async fn sync(&self) -> Result<(), CopyFault> {
        let path = self.path.clone();
        let sync = move |file: &File| {
            file.sync_all()?;
            platform::sync_directory_of(&path)
        };
        let failed = fault(self.side, "sync", None);
        self.run(move |file| sync(file).map_err(failed)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&File) -> Result<T, CopyFault> + Send + 'static,
    ) -> Result<T, CopyFault> {
        let done = self.threads.run(job).await;
        done.unwrap_or_else(|| {
            let ended = io::Error::other("a thread of the copy has ended");
            Err(fault(self.side, "use", None)(ended))
        })
    }
}

type Opened = (File, u64, bool, Option<(u64, u64)>);

fn open(path: &Path, options: &OpenOptions) -> io::Result<Opened> {
    let mut file = options.open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let size = file.seek(SeekFrom::End(0)).map_err(|error| {
        let why = format!("it is no file and no block device ({error}): copy it as a stream");
        io::Error::new(io::ErrorKind::NotSeekable, why)
    })?;
    platform::reads_in_order(&file);
    Ok((file, size, metadata.is_file(), platform::file_id(&metadata)))
}

/// The same error, with the path and with what to do about it.
fn named(side: Side, path: &Path, error: &io::Error) -> io::Error {
    let advice = match (error.kind(), side) {
        (io::ErrorKind::IsADirectory, _) => ": name a file in it",
        (io::ErrorKind::NotFound, Side::Destination) => ": create its directory",
        _ => "",
    };
    let text = format!("{}: {}{advice}", path.display(), Reason(error));
    described(error, text)
}

fn zero(file: &File, range: Range<u64>, keeps_room: bool) -> io::Result<()> {
    if platform::zero_at(file, range.start, range.end - range.start, keeps_room)? == Zeroed::Yes {
        return Ok(());
    }
    let zeroes = vec![0; ZEROES];
    let mut at = range.start;
    while at < range.end {
        let length = (range.end - at).min(ZEROES as u64);
        let part = usize::try_from(length).unwrap_or(ZEROES);
        platform::write_at(file, at, &zeroes[..part])?;
        at += length;
    }
    Ok(())
}

/// What went wrong with a file.
fn fault(
    side: Side,
    action: &'static str,
    range: Option<Range<u64>>,
) -> impl FnOnce(io::Error) -> CopyFault {
    move |error| CopyFault::Io {
        side,
        action,
        range,
        cause: Arc::new(error),
    }
}
