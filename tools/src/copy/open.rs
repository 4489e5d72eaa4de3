//! Both sides, ready to be copied.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nbd_client::{
    Changes, Connection, Connector, Destination, Disk, Retry, Source, Uri, UriPolicy, context,
};
use rustix::fs::{FileType, OFlags, SeekFrom};
use tokio::fs::{File, OpenOptions};

use super::stream::Stream;
use super::{Args, Failure};
use crate::place::Place;
use crate::tls::with_default_certificates;

/// A side, and the disk that is to be closed at the end, if it is one.
pub(crate) type Opened<S> = (S, Option<Disk>);

pub(crate) async fn source(args: &Args) -> Result<Opened<Source>, Failure> {
    Ok(match &args.source {
        Place::Uri(_) | Place::Command(_) => {
            let disk = disk(args, &args.source, Changes::Refuse).await;
            let disk = disk.map_err(|error| format!("the source of the copy: {error}"))?;
            (Source::from(&disk), Some(disk))
        }
        Place::File(path) if is_stream(path) => (Source::stream(stream(path, false).await?), None),
        Place::File(path) => (Source::file(path), None),
        Place::Stdio => match redirected("/dev/stdin", io::stdin(), false) {
            Some(path) => (Source::file(path), None),
            None => (Source::stream(duplicate(io::stdin())?), None),
        },
        Place::Nothing => return Err("null: can only be the destination".into()),
    })
}

pub(crate) async fn destination(args: &Args) -> Result<Opened<Destination>, Failure> {
    Ok(match &args.destination {
        Place::Uri(_) | Place::Command(_) => {
            let disk = disk(args, &args.destination, Changes::Repeat).await;
            let disk = disk.map_err(|error| format!("the destination of the copy: {error}"))?;
            (Destination::from(&disk), Some(disk))
        }
        Place::File(path) if is_stream(path) => {
            (Destination::stream(stream(path, true).await?), None)
        }
        Place::File(path) => (Destination::file(path), None),
        Place::Stdio if io::stdout().is_terminal() => {
            return Err("the standard output is a terminal: the copy is not written there".into());
        }
        Place::Stdio => match redirected("/dev/stdout", io::stdout(), true) {
            Some(path) => (Destination::file(path), None),
            None => (Destination::stream(duplicate(io::stdout())?), None),
        },
        Place::Nothing => (Destination::nothing(), None),
    })
}

async fn disk(args: &Args, place: &Place, changes: Changes) -> nbd_client::Result<Disk> {
    let link = Connection::builder().meta_context(context::BASE_ALLOCATION);
    let mut link = args.stall.limit(link);
    if changes == Changes::Refuse {
        if let Some(context) = &args.only {
            link = link.require_meta_context(context);
        }
        link = link.read_only(true);
    }
    let disk = Disk::builder().changes(changes);
    match place {
        Place::Command(command) => {
            let connector = Connector::socket_activation(command);
            // The next server may not have what was written to the last one.
            let retry = match changes == Changes::Refuse {
                true => args.retry(),
                false => Retry::never(),
            };
            let disk = disk.link(link).retry(retry);
            disk.connections(args.connections()).open(connector).await
        }
        place => {
            let uri = Uri::try_from(place.to_string())?;
            // Whoever types the URI in may do with it what they like.
            let link = link.uri_policy(UriPolicy::trusted());
            let link = with_default_certificates(link, &uri)?;
            let disk = disk.link(link).retry(args.retry());
            disk.connections(args.connections()).open(uri).await
        }
    }
}

/// Whether it is a pipe, a socket or the like, which has no positions.
fn is_stream(path: &Path) -> bool {
    let is_stream = |metadata: fs::Metadata| {
        let kind = metadata.file_type();
        kind.is_fifo() || kind.is_socket() || kind.is_char_device()
    };
    fs::metadata(path).is_ok_and(is_stream)
}

async fn stream(path: &Path, writes: bool) -> Result<Stream, Failure> {
    let side = if writes { "destination" } else { "source" };
    let shown = path.display();
    if fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let uri = Uri::unix(path).build()?;
        return Err(format!(
            "cannot open the {side} of the copy: {shown} is a socket: for the server that listens \
             there, write {uri}"
        )
        .into());
    }
    let mut options = OpenOptions::new();
    let file = options.read(!writes).write(writes).open(path).await;
    let file =
        file.map_err(|error| format!("cannot open the {side} of the copy: {shown}: {error}"))?;
    Ok(Stream::new(file))
}

/// The same stream once more, without the buffer that the standard library has for it.
fn duplicate(stream: impl AsFd) -> io::Result<Stream> {
    let descriptor: OwnedFd = stream.as_fd().try_clone_to_owned()?;
    Ok(Stream::new(File::from_std(descriptor.into())))
}

/// Returns the file or device that the standard input or output is, if it is one and at its
/// beginning: then it has a size and holes.
fn redirected(name: &str, stream: impl AsFd, writes: bool) -> Option<PathBuf> {
    let stat = rustix::fs::fstat(&stream).ok()?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_disk = matches!(kind, FileType::RegularFile | FileType::BlockDevice);
    let flags = rustix::fs::fcntl_getfl(&stream).ok()?;
    if !is_disk || writes && flags.contains(OFlags::APPEND) {
        return None;
    }
    if rustix::fs::seek(&stream, SeekFrom::Current(0)).ok()? != 0 {
        return None;
    }
    let path = fs::canonicalize(name).ok()?;
    // It may have another name by now, or none that this user may open.
    let file = fs::OpenOptions::new()
        .read(true)
        .write(writes)
        .open(&path)
        .ok()?;
    let metadata = file.metadata().ok()?;
    let is_same = (metadata.dev(), metadata.ino()) == (stat.st_dev, stat.st_ino);
    is_same.then_some(path)
}
