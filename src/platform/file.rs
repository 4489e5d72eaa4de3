//! Files and block devices, read and written at positions.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

/// Whether a range was made zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Zeroed {
    Yes,
    /// The system cannot do it other than by writing zeroes.
    No,
}

/// Whether a path leads to a character device, such as a terminal or `/dev/full`.
#[cfg(unix)]
pub(crate) fn is_character_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;

    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_char_device())
}

/// Whether a path leads to a character device, which nothing here can tell.
#[cfg(windows)]
pub(crate) const fn is_character_device(_path: &Path) -> bool {
    false
}

/// Fills a buffer.
#[cfg(unix)]
pub(crate) fn read_at(file: &File, offset: u64, data: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, data, offset)
}

/// Fills a buffer.
#[cfg(windows)]
pub(crate) fn read_at(file: &File, offset: u64, data: &mut [u8]) -> io::Result<()> {
    use std::os::windows::fs::FileExt;

    let mut read = 0;
    while read < data.len() {
        match file.seek_read(&mut data[read..], offset + read as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of it.
#[cfg(unix)]
pub(crate) fn write_at(file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, data, offset)
}

/// Writes all of it.
#[cfg(windows)]
pub(crate) fn write_at(file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
    use std::os::windows::fs::FileExt;

    let mut written = 0;
    while written < data.len() {
        match file.seek_write(&data[written..], offset + written as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes a range zero without writing it, if the system can do that; with room for it or without.
#[cfg(any(target_os = "android", target_os = "linux"))]
pub(crate) fn zero_at(
    file: &File,
    offset: u64,
    length: u64,
    keeps_room: bool,
) -> io::Result<Zeroed> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;

    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let room = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
    let ways = [hole, room];
    for flags in &ways[usize::from(keeps_room)..] {
        match fallocate(file, *flags, offset, length) {
            Ok(()) => return Ok(Zeroed::Yes),
            // EINVAL: a block device that needs whole blocks.
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NODEV | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Zeroed::No)
}

/// Makes a range zero without writing it, if the system can do that.
#[cfg(not(any(target_os = "android", target_os = "linux")))]
pub(crate) fn zero_at(_: &File, _: u64, _: u64, _: bool) -> io::Result<Zeroed> {
    Ok(Zeroed::No)
}

/// Gives a file room for its first bytes, where the system can do that.
#[cfg(any(target_os = "android", target_os = "linux"))]
pub(crate) fn make_room(file: &File, length: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;

    match fallocate(file, FallocateFlags::empty(), 0, length) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NODEV | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Gives a file room for its first bytes, where the system can do that.
#[cfg(not(any(target_os = "android", target_os = "linux")))]
pub(crate) fn make_room(_: &File, _: u64) -> io::Result<()> {
    Ok(())
}

/// Returns up to where there is a hole at an offset, or data, and whether it is a hole.
#[cfg(any(target_os = "android", target_os = "linux", target_os = "freebsd"))]
pub(crate) fn hole_at(file: &File, offset: u64, end: u64) -> io::Result<(u64, bool)> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;

    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) if data > offset => Ok((data, true)),
        Ok(_) => match seek(file, SeekFrom::Hole(offset)) {
            Ok(hole) => Ok((hole, false)),
            Err(_) => Ok((end, false)),
        },
        // There is no data up to the end.
        Err(Errno::NXIO) => match seek(file, SeekFrom::End(0)) {
            // What is cut off is no hole.
            Ok(length) if length < end => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok((end, true)),
        },
        // A block device, or a file system that does not know.
        Err(_) => Ok((end, false)),
    }
}

/// Returns up to where there is data at an offset: holes are not looked for on this system.
#[cfg(not(any(target_os = "android", target_os = "linux", target_os = "freebsd")))]
pub(crate) fn hole_at(_: &File, _: u64, end: u64) -> io::Result<(u64, bool)> {
    Ok((end, false))
}

/// Says that a file is read from its beginning to its end, where a system can be told.
#[cfg(any(target_os = "android", target_os = "linux", target_os = "freebsd"))]
pub(crate) fn reads_in_order(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Sequential);
}

/// Says that a file is read from its beginning to its end, where a system can be told.
#[cfg(not(any(target_os = "android", target_os = "linux", target_os = "freebsd")))]
pub(crate) fn reads_in_order(_: &File) {}

/// What tells a file from others.
#[cfg(unix)]
pub(crate) fn file_id(metadata: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;

    Some((metadata.dev(), metadata.ino()))
}

/// What tells a file from others: there is nothing stable here.
#[cfg(windows)]
pub(crate) fn file_id(_: &Metadata) -> Option<(u64, u64)> {
    None
}

/// Makes durable that a file exists, as far as its directory lets us: some may not be opened, and some
/// file systems have no such thing.
#[cfg(unix)]
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    use rustix::io::Errno;

    let path = path.canonicalize();
    let Some(Ok(directory)) = path.iter().find_map(|path| path.parent()).map(File::open) else {
        return Ok(());
    };
    let has_none = [Errno::INVAL, Errno::NOTSUP, Errno::NOSYS, Errno::BADF];
    match directory.sync_all() {
        Err(error)
            if !has_none
                .iter()
                .any(|none| Some(none.raw_os_error()) == error.raw_os_error()) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Makes durable that a file exists: the system does that.
#[cfg(windows)]
pub(crate) fn sync_directory_of(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_hole_does_not_reach_beyond_the_end() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        assert_eq!(hole_at(&file, 0, 1 << 20).unwrap(), (1 << 20, true));
        // It was larger when it was opened.
        let error = hole_at(&file, 0, 2 << 20).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
