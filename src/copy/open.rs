//! The beginning of a copy: both sides are opened and compared.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::AsyncWrite;
use tokio::task::spawn_blocking;

use super::Settings;
use super::checkpoint::Checkpoint;
use super::cut::Cut;
use super::feed::Incoming;
use super::file::LocalFile;
use super::nbd::Nbd;
use super::place::{Destination, Place, Source};
use super::side::{Reader, Target, Writer, facts};
use crate::connection::{Connection, Connector};
use crate::context::BASE_ALLOCATION;
use crate::disk::{Changes, Disk};
use crate::error::{CopyFault, Side};
use crate::platform;

/// Why only a part of such a source cannot be copied.
pub(super) const NO_CONTEXTS: &str =
    "only an NBD export has metadata contexts, and the source is none";

/// Refuses what cannot be.
pub(super) fn check(
    source: &Source,
    destination: &Destination,
    settings: &Settings,
    checkpoint: Option<&Checkpoint>,
) -> Result<(), CopyFault> {
    let is_stream = matches!(source.0, Place::Stream(_));
    let to_stream = matches!(destination.0, Place::Stream(_));
    let to_nothing = matches!(destination.0, Place::Nothing);
    let problem = if matches!(source.0, Place::Nothing) {
        "there is no source"
    } else if checkpoint.is_some() && (is_stream || to_stream || to_nothing) {
        "a copy from or to a stream cannot go on where another one ended: copy from the start"
    } else if settings.verifies && (is_stream || to_stream || to_nothing) {
        "a stream cannot be read again: only files and NBD exports can be verified"
    } else if settings.hash.is_some() && (checkpoint.is_some() || settings.only.is_some()) {
        "a hash is one of the whole disk: copy all of it, from the start"
    } else if settings.only.is_some() && !matches!(source.0, Place::Nbd(_) | Place::Server(_)) {
        NO_CONTEXTS
    } else if settings.only.is_some() && to_stream {
        "a copy of only a part cannot go to a stream, which has no positions"
    } else {
        return Ok(());
    };
    Err(CopyFault::Impossible(problem))
}

/// What can be read or written anywhere, or a stream.
type Opened<T, S> = (T, Option<S>);

pub(super) async fn open_source(
    source: Source,
    settings: &Settings,
) -> Result<Opened<Option<Reader>, Incoming>, CopyFault> {
    Ok(match source.0 {
        Place::Nbd(nbd) => (Some(Reader::of(nbd)), None),
        Place::Server(connector) => {
            let connector = connector.map_err(|error| error.of_side(Side::Source))?;
            (
                Some(Reader::of(
                    connect(connector, settings, Side::Source).await?,
                )),
                None,
            )
        }
        Place::File(path) => {
            let file = LocalFile::source(path.clone()).await?;
            check_device(&file, path, Side::Source).await?;
            (Some(Reader::File(Arc::new(file))), None)
        }
        Place::Stream(stream) => (None, Some(Incoming::new(stream))),
        Place::Nothing => return Err(CopyFault::Impossible("there is no source")),
    })
}

/// A stream that is written.
pub(super) type Outgoing = Box<dyn AsyncWrite + Send + Unpin>;

pub(super) async fn open_destination(
    destination: Destination,
    settings: &Settings,
    goes_on: bool,
) -> Result<Opened<Target, Outgoing>, CopyFault> {
    Ok(match destination.0 {
        Place::Nbd(nbd) => (Target::Nbd(nbd), None),
        Place::Server(connector) => {
            let connector = connector.map_err(|error| error.of_side(Side::Destination))?;
            (
                Target::Nbd(connect(connector, settings, Side::Destination).await?),
                None,
            )
        }
        Place::File(path) => {
            let file = LocalFile::destination(path.clone(), goes_on).await?;
            check_device(&file, path, Side::Destination).await?;
            (Target::File(Arc::new(file)), None)
        }
        Place::Stream(stream) => (Target::Nothing, Some(stream)),
        Place::Nothing => (Target::Nothing, None),
    })
}

/// Refuses a character device: the system says that it has no bytes, whatever can be read or written.
async fn check_device(file: &LocalFile, path: PathBuf, side: Side) -> Result<(), CopyFault> {
    if file.is_regular() || file.size() > 0 {
        return Ok(());
    }
    let look = spawn_blocking(move || platform::is_character_device(&path).then_some(path));
    let Ok(Some(path)) = look.await else {
        return Ok(());
    };
    let why = format!(
        "{}: it is a character device, which has no size: copy it as a stream",
        path.display()
    );
    Err(CopyFault::Io {
        side,
        action: "open",
        range: None,
        cause: Arc::new(io::Error::new(io::ErrorKind::NotSeekable, why)),
    })
}

/// Connects to a side that is given as an address.
async fn connect(connector: Connector, settings: &Settings, side: Side) -> Result<Nbd, CopyFault> {
    let mut link = Connection::builder().meta_context(BASE_ALLOCATION);
    if let Some(timeout) = settings.stall {
        link = link.stall_timeout(timeout);
    }
    let changes = match side {
        Side::Source => {
            if let Some(context) = &settings.only {
                link = link.require_meta_context(context);
            }
            link = link.read_only(true);
            Changes::Refuse
        }
        Side::Destination => Changes::Repeat,
    };
    let disk = Disk::builder()
        .link(link)
        .connections(settings.connections)
        .retry(settings.retry)
        .changes(changes);
    let disk = disk.open(connector).await;
    disk.map(Nbd::Disk).map_err(|error| error.of_side(side))
}

/// Refuses what cannot be, as far as the sides tell.
pub(super) fn check_sides(
    size: Option<u64>,
    room: Option<u64>,
    reader: Option<&Reader>,
    writer: &Writer,
) -> Result<(), CopyFault> {
    if let Some(nbd) = writer.nbd() {
        if facts(nbd, Side::Destination)?.is_read_only() {
            return Err(CopyFault::ReadOnly);
        }
    }
    if let (Some(source), Some(destination)) = (size, room) {
        if source > destination {
            return Err(CopyFault::TooSmall {
                source,
                destination,
            });
        }
    }
    match (reader.and_then(Reader::file), writer.file()) {
        (Some(source), Some(destination)) if source.is_same(destination) => {
            Err(CopyFault::Impossible(
                "source and destination are the same file: name another destination",
            ))
        }
        _ => Ok(()),
    }
}

/// Gives the destination its size, and finds out where it is zero.
pub(super) async fn prepare(
    writer: &mut Writer,
    cut: &Cut,
    settings: &Settings,
    goes_on: bool,
) -> Result<(), CopyFault> {
    let keeps_content = goes_on || settings.only.is_some();
    let size = cut.size.unwrap_or_default();
    let mut zero_up_to = 0;
    if let Some(file) = writer.file().filter(|file| file.is_regular()) {
        file.resize(size, !keeps_content, settings.is_allocated)
            .await?;
        if !keeps_content {
            zero_up_to = u64::MAX;
        }
    }
    // What is dirty and zero is written, whatever the destination says.
    if settings.only.is_none() {
        if settings.is_zero {
            zero_up_to = u64::MAX;
        }
        if zero_up_to == 0 && !settings.is_allocated {
            zero_up_to = writer.zeroes_at_start(size).await;
        }
    }
    writer.is_zero_up_to = zero_up_to;
    Ok(())
}

/// Returns what is durable at the start.
pub(super) fn start(
    checkpoint: Option<Checkpoint>,
    cut: &Cut,
    writer: &Writer,
    only: Option<&str>,
) -> Result<Checkpoint, CopyFault> {
    let (size, room) = (cut.size.unwrap_or_default(), writer.size()?);
    let Some(checkpoint) = checkpoint else {
        return Ok(Checkpoint {
            source_size: size,
            destination_size: room,
            only: only.map(Into::into),
            done: Vec::new(),
            samples: Vec::new(),
        });
    };
    let other = |side: Side, was: u64, is: u64| CopyFault::OtherCopy {
        why: format!("{side} had {was} bytes, and has {is}"),
    };
    if checkpoint.only.as_deref() != only {
        let part = |only: Option<&str>| match only {
            Some(context) => format!("what is dirty in {context:?}"),
            None => "everything".into(),
        };
        let (was, is) = (part(checkpoint.only.as_deref()), part(only));
        return Err(CopyFault::OtherCopy {
            why: format!("it copied {was}, and this one copies {is}"),
        });
    }
    if checkpoint.source_size != size {
        return Err(other(Side::Source, checkpoint.source_size, size));
    }
    // It was given its size at the beginning.
    let length = writer.file().and_then(|file| file.regular_size());
    if let Some(length) = length.filter(|&length| length != size) {
        return Err(other(Side::Destination, size, length));
    }
    match (checkpoint.destination_size, room) {
        (was, is) if was == is => Ok(checkpoint),
        (Some(was), Some(is)) => Err(other(Side::Destination, was, is)),
        _ => Err(CopyFault::OtherCopy {
            why: "the destination was of another kind".into(),
        }),
    }
}
