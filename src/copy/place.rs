//! What is copied, and to where, as the caller says it.

use std::fmt;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};

use super::nbd::Nbd;
use crate::connection::{Connection, Connector};
use crate::disk::Disk;
use crate::error::Result;
use crate::uri::{Endpoint, Uri};

/// What a copy reads.
///
/// Made of a [`Connection`] or [`Disk`], of the address of a server (text is a URI), of a path, or by
/// one of the functions below.
///
/// A copy that is given an address connects with the defaults. For a TLS configuration, a URI policy or
/// anything else that a [`Builder`](crate::Builder) sets, open a [`Disk`] with
/// [`DiskBuilder::link`](crate::DiskBuilder::link), and give the copy that.
///
/// A connection tells where it is zero if it has negotiated
/// [`base:allocation`](crate::context::BASE_ALLOCATION); otherwise everything is read. A copy that is given an address
/// asks for that by itself.
#[derive(Debug)]
pub struct Source(pub(super) Place<Box<dyn AsyncRead + Send + Unpin>>);

/// What a copy writes.
///
/// Made of a [`Connection`] or [`Disk`], of the address of a server (text is a URI), of a path, or by
/// one of the functions below.
///
/// A server that is given by its address may be lost and come back: changes are then repeated, which is
/// safe, since a copy writes each byte with one content only.
#[derive(Debug)]
pub struct Destination(pub(super) Place<Box<dyn AsyncWrite + Send + Unpin>>);

/// A side of a copy.
pub(super) enum Place<S> {
    Nbd(Nbd),
    Server(Result<Connector>),
    File(PathBuf),
    Stream(S),
    Nothing,
}

impl Source {
    /// Reads a file or a block device, from its beginning to its end.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Place::File(path.into()))
    }

    /// Reads a stream until it ends, such as the standard input. Its length is not known before.
    pub fn stream(stream: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self(Place::Stream(Box::new(stream)))
    }
}

impl Destination {
    /// Writes a file or a block device. A file is created if there is none; if there is one, its content is lost,
    /// unless the copy [goes on](super::Copying::resume) or copies [only](super::Copying::only) a part.
    ///
    /// Do not name the file that the server of the source exports: it would be emptied before it is
    /// read. A copy refuses that only where both sides are files.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Place::File(path.into()))
    }

    /// Writes a stream, such as the standard output, in order. Zeroes are written as bytes.
    pub fn stream(stream: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(Place::Stream(Box::new(stream)))
    }

    /// Throws everything away: the source is read, as a test of its speed or of its health.
    #[must_use]
    pub const fn nothing() -> Self {
        Self(Place::Nothing)
    }
}

impl<S> fmt::Debug for Place<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nbd(nbd) => nbd.fmt(f),
            Self::Server(Ok(connector)) => connector.fmt(f),
            Self::Server(Err(error)) => error.fmt(f),
            Self::File(path) => path.fmt(f),
            Self::Stream(_) => f.write_str("Stream"),
            Self::Nothing => f.write_str("Nothing"),
        }
    }
}

/// Implements the conversions to a side of a copy.
macro_rules! places {
    ($side:ident) => {
        places!($side: |connection: Connection| Place::Nbd(Nbd::Connection(connection)));
        places!($side: |connection: &Connection| Place::Nbd(Nbd::Connection(connection.clone())));
        places!($side: |disk: Disk| Place::Nbd(Nbd::Disk(disk)));
        places!($side: |disk: &Disk| Place::Nbd(Nbd::Disk(disk.clone())));
        places!($side: |connector: Connector| Place::Server(Ok(connector)));
        places!($side: |uri: Uri| Place::Server(Ok(uri.into())));
        places!($side: |endpoint: Endpoint| Place::Server(Ok(endpoint.into())));
        places!($side: |uri: &str| Place::Server(uri.try_into()));
        places!($side: |uri: String| Place::Server(uri.try_into()));
        places!($side: |path: &Path| Place::File(path.into()));
        places!($side: |path: PathBuf| Place::File(path));
    };
    ($side:ident: |$from:ident: $type:ty| $place:expr) => {
        impl From<$type> for $side {
            fn from($from: $type) -> Self {
                Self($place)
            }
        }
    };
}

places!(Source);
places!(Destination);
