//! The seam between commands and what carries them out.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;

use super::chunks::Reading;
use super::execute::Execute;
use super::health::Settle;
use super::pending::Pending;
use super::range::Range;
use super::{Request, op};
use crate::chunk::Chunk;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::export::Export;
use crate::wire::{CommandFlags, ProtocolError, ReplyStyle};

/// Something that carries out commands: a [`Connection`], or a [`Disk`](crate::Disk).
///
/// It is the second parameter of [`Request`], [`Chunks`](super::Chunks),
/// [`Extents`](crate::Extents) and [`JointExtents`](crate::JointExtents), which work with every
/// client. The trait is sealed, and its methods are not part of the interface.
pub trait Client: sealed::Sealed + Clone + Send + Sync + Unpin + 'static {
    /// The future of a request.
    type Pending<O: Execute>: Future<Output = Result<O::Output>> + Send + Unpin;
    /// The stream of a structured read.
    type Reading: Stream<Item = Result<Chunk>> + Send + Unpin;

    /// Starts a request, which is sent when its future is polled.
    #[doc(hidden)]
    fn start<O: Execute>(request: Request<O, Self>) -> Self::Pending<O>;

    /// Starts a request, and queues it at once.
    #[doc(hidden)]
    fn submit<O: Execute>(request: Request<O, Self>) -> Self::Pending<O>;

    /// Starts a structured read, which is sent when its stream is polled.
    #[doc(hidden)]
    fn read_chunks(
        &self,
        offset: u64,
        length: u64,
        flags: CommandFlags,
        timeout: Option<Duration>,
    ) -> Self::Reading;

    /// Waits until all changes that were begun before are answered.
    #[doc(hidden)]
    fn settle(&self) -> impl Future<Output = Result<()>> + Send + 'static;

    /// Returns the export that commands are for. While the client negotiates, there is none yet.
    #[doc(hidden)]
    fn exported(&self) -> Result<Export>;

    /// Returns whether a block status can be limited to some of the contexts.
    #[doc(hidden)]
    fn can_filter(&self) -> Result<bool>;

    /// Ends the connection because a layer above found that the server broke the protocol. Returns
    /// the error.
    #[doc(hidden)]
    fn violated(&self, violation: ProtocolError) -> Error;
}

pub(crate) mod sealed {
    #[allow(unnameable_types, reason = "that is what seals it")]
    pub trait Sealed {}

    impl Sealed for crate::connection::Connection {}
}

impl Client for Connection {
    type Pending<O: Execute> = Pending<O>;
    type Reading = Reading;

    fn start<O: Execute>(mut request: Request<O>) -> Pending<O> {
        request.timeout = deadline(&request.client, request.timeout);
        Pending::new(request)
    }

    fn submit<O: Execute>(request: Request<O>) -> Pending<O> {
        let mut pending = Self::start(request);
        pending.begin();
        pending
    }

    fn read_chunks(
        &self,
        offset: u64,
        length: u64,
        flags: CommandFlags,
        timeout: Option<Duration>,
    ) -> Reading {
        let timeout = deadline(self, timeout);
        Reading::new(self.clone(), Range { offset, length }, flags, timeout)
    }

    fn settle(&self) -> impl Future<Output = Result<()>> + Send + 'static {
        Settle::new(self.clone())
    }

    fn exported(&self) -> Result<Export> {
        Ok(Export::clone(self.transmission()?.export()))
    }

    fn can_filter(&self) -> Result<bool> {
        let transmission = self.transmission()?;
        Ok(transmission.style() == ReplyStyle::Extended
            && transmission.export().can_block_status_payload())
    }

    fn violated(&self, violation: ProtocolError) -> Error {
        let error = Error::from(violation);
        match self.transmission() {
            Ok(transmission) => transmission.fail(error),
            Err(_) => error,
        }
    }
}

/// Returns the time that a request has: its own, or that of the connection. `Duration::MAX` is none.
fn deadline(connection: &Connection, own: Option<Duration>) -> Option<Duration> {
    own.or(connection.inner().config.request_timeout)
        .filter(|timeout| *timeout != Duration::MAX)
}

/// The future that a [`Request`] becomes: [`Pending`], if a [`Connection`] carries it out.
pub(crate) type Started<O, C> = <C as Client>::Pending<O>;

/// Makes a request for a block status, for streams of extents.
pub(crate) fn block_status<C: Client>(
    client: &C,
    offset: u64,
    length: u64,
) -> Request<op::Status, C> {
    let status = op::Status {
        filter: None,
        contexts: Vec::new(),
    };
    Request::new(client, status, offset, length)
}

/// Makes a request for a read, for streams that read ahead.
pub(crate) fn read<C: Client>(client: &C, offset: u64, length: u64) -> Request<op::Read, C> {
    Request::new(client, op::Read, offset, length)
}

/// Makes a request for a write, for sinks and cursors.
pub(crate) fn write<C: Client>(client: &C, offset: u64, data: Bytes) -> Request<op::Write, C> {
    let length = data.len() as u64;
    Request::new(client, op::Write(data), offset, length)
}

/// Makes a request for zeroes, for sinks and cursors.
pub(crate) fn write_zeroes<C: Client>(
    client: &C,
    offset: u64,
    length: u64,
) -> Request<op::WriteZeroes, C> {
    let zeroes = op::WriteZeroes { or_write: false };
    Request::new(client, zeroes, offset, length)
}

/// Makes a request for a flush, for sinks and cursors.
pub(crate) fn flush<C: Client>(client: &C) -> Request<op::Flush, C> {
    Request::new(client, op::Flush, 0, 0)
}

/// Makes a request for a trim, for blocking disks.
#[cfg(feature = "blocking")]
pub(crate) fn trim<C: Client>(client: &C, offset: u64, length: u64) -> Request<op::Trim, C> {
    Request::new(client, op::Trim, offset, length)
}

/// Makes a request for a cache, for blocking disks.
#[cfg(feature = "blocking")]
pub(crate) fn cache<C: Client>(client: &C, offset: u64, length: u64) -> Request<op::Cache, C> {
    Request::new(client, op::Cache, offset, length)
}
