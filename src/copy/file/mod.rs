//! Files and block devices.

mod threads;

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::error::{CopyFault, Reason, Side};
use crate::platform::{self, Zeroed};
use threads::Threads;

/// How many zeroes are written at a time where there is no other way, in bytes.
const ZEROES: usize = 1 << 20;

/// An open file or block device.
#[derive(Debug)]
pub(super) struct LocalFile {
    side: Side,
    path: PathBuf,
    threads: Threads,
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

    /// Opens what is to be written, and creates it if there is nothing.
    pub(super) async fn destination(path: PathBuf) -> Result<Self, CopyFault> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        Self::open(Side::Destination, path, &options).await
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
        let named = |error: io::Error| fault(side, "open", None)(named(&path, &error));
        let (file, size, is_regular, id) = result.map_err(named)?;
        let threads = Threads::new(file).map_err(named)?;
        Ok(Self {
            side,
            path,
            threads,
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
        let read = self
            .threads
            .run(move |file| platform::read_at(file, range.start, length));
        read.await.map(Bytes::from).map_err(failed)
    }

    pub(super) async fn write(&self, offset: u64, data: Bytes) -> Result<(), CopyFault> {
        let range = offset..offset + data.len() as u64;
        let failed = fault(self.side, "write", Some(range));
        let write = self
            .threads
            .run(move |file| platform::write_at(file, offset, &data));
        write.await.map_err(failed)
    }

    /// Makes a range zero, with room for it or without.
    pub(super) async fn zero(&self, range: Range<u64>, keeps_room: bool) -> Result<(), CopyFault> {
        let failed = fault(self.side, "write zeroes to", Some(range.clone()));
        let zero = self.threads.run(move |file| zero(file, range, keeps_room));
        zero.await.map_err(failed)
    }

    /// Returns up to where a range is a hole, or is data, and which it is.
    pub(super) async fn extent(&self, range: Range<u64>) -> Result<(u64, bool), CopyFault> {
        let failed = fault(self.side, "look for holes in", Some(range.clone()));
        let extent = self.threads.run(move |file| {
            let Range { start, end } = range;
            let (stop, is_hole) = platform::hole_at(file, start, end)?;
            Ok((stop.clamp(start + 1, end), is_hole))
        });
        extent.await.map_err(failed)
    }

    /// Makes the file this long; `clears` takes all content from it before. With `keeps_room`, all of
    /// it gets room.
    pub(super) async fn resize(
        &self,
        size: u64,
        clears: bool,
        keeps_room: bool,
    ) -> Result<(), CopyFault> {
        let resize = self.threads.run(move |file| {
            if clears {
                file.set_len(0)?;
            }
            file.set_len(size)?;
            if keeps_room && size > 0 {
                platform::make_room(file, size)?;
            }
            Ok(())
        });
        let failed = fault(self.side, "change the size of", None);
        resize.await.map_err(failed)
    }

    /// Makes durable what was written, and that the file exists.
    pub(super) async fn sync(&self) -> Result<(), CopyFault> {
        let path = self.path.clone();
        let sync = self.threads.run(move |file| {
            file.sync_all()?;
            platform::sync_directory_of(&path)
        });
        sync.await.map_err(fault(self.side, "sync", None))
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

/// The same error, with the path.
fn named(path: &Path, error: &io::Error) -> io::Error {
    let text = format!("{}: {}", path.display(), Reason(error));
    io::Error::new(error.kind(), text)
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
