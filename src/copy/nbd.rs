//! A side that an NBD server has.

use std::ops::Range;
use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, StreamExt};

use crate::connection::Connection;
use crate::context::BASE_ALLOCATION;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::export::Export;
use crate::extent::Extent;
use crate::extents::Extents;
use crate::request::{self, Client};

/// Extents of one metadata context.
pub(super) type ExtentStream = Pin<Box<dyn Stream<Item = Result<Extent>> + Send>>;

/// How often a request is made that a disk gives up, each time after several lost connections.
pub(super) const ATTEMPTS: u32 = 6;

/// Anything that carries out commands.
#[derive(Clone, Debug)]
pub(super) enum Nbd {
    Connection(Connection),
    Disk(Disk),
}

/// Does the same with either.
macro_rules! with {
    ($nbd:expr, $client:ident => $result:expr) => {
        match $nbd {
            Nbd::Connection($client) => $result,
            Nbd::Disk($client) => $result,
        }
    };
}

impl Nbd {
    pub(super) fn export(&self) -> Result<Export> {
        with!(self, client => client.exported())
    }

    /// Reads; as messages that the server may not answer in pieces, if `is_whole`.
    pub(super) async fn read(&self, range: Range<u64>, is_whole: bool) -> Result<Bytes> {
        let length = range.end - range.start;
        with!(self, client => {
            let read = request::read(client, range.start, length).unaligned();
            match is_whole {
                true => read.dont_fragment().await,
                false => read.await,
            }
        })
    }

    /// Whether a request that failed with this error can be made again: a disk gives a request up after
    /// it has lost a few connections, and goes on itself.
    pub(super) fn has_survived(&self, error: &Error) -> bool {
        match self {
            Self::Connection(_) => false,
            Self::Disk(disk) => error.is_fatal() && disk.ended().is_none(),
        }
    }

    /// Makes a request that changes nothing again, as often as a server that comes and goes deserves.
    pub(super) async fn lasting<T, F>(&self, mut request: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut attempts = 1;
        loop {
            match request().await {
                Err(error) if attempts < ATTEMPTS && self.has_survived(&error) => attempts += 1,
                result => return result,
            }
        }
    }

    pub(super) async fn write(&self, offset: u64, data: Bytes) -> Result<()> {
        with!(self, client => request::write(client, offset, data).unaligned().await)
    }

    /// Writes zeroes: fast or not at all, if `is_fast`; as data if the server has no command for it.
    pub(super) async fn write_zeroes(
        &self,
        range: Range<u64>,
        is_fast: bool,
        keeps_room: bool,
    ) -> Result<()> {
        let length = range.end - range.start;
        with!(self, client => {
            let mut zeroes = request::write_zeroes(client, range.start, length).unaligned();
            if is_fast {
                zeroes = zeroes.fast_zero();
            } else {
                zeroes = zeroes.or_write();
            }
            if keeps_room {
                zeroes = zeroes.no_hole();
            }
            zeroes.await
        })
    }

    pub(super) async fn flush(&self) -> Result<()> {
        with!(self, client => request::flush(client).await)
    }

    /// Returns the extents of a range; neighbours are joined as far as that helps who reads.
    pub(super) fn extents(&self, context: &str, range: Range<u64>) -> ExtentStream {
        with!(self, client => Extents::new(client.clone(), context, range).merged_for_reading().boxed())
    }

    /// Returns whether it can say where it is zero.
    pub(super) fn has_allocation(&self) -> bool {
        self.export()
            .is_ok_and(|export| export.has_context(BASE_ALLOCATION))
    }

    /// Returns the parts that changes of lost connections may still change.
    pub(super) fn unfenced(&self) -> Vec<Range<u64>> {
        match self {
            Self::Connection(_) => Vec::new(),
            Self::Disk(disk) => disk.status().held,
        }
    }
}
