//! A sink that writes data and zeroes.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Sink;

use super::writes::{Change, Writes};
use crate::chunk::Chunk;
use crate::connection::Connection;
use crate::error::{Error, InvalidRequest, Result};
use crate::request::Client;

/// How many bytes are in flight at a time, unless it is set: 16 requests of 256 KiB, as many as
/// nbdkit and qemu-nbd carry out at a time.
const LIMIT: u64 = 4 << 20;

/// Writes data and zeroes to an export, see [`Connection::write_sink`].
///
/// # Cancel safety
///
/// If the sink is dropped, requests that were sent may still be carried out, and what waits in the
/// sink is not sent. If a future that waits for the sink is dropped, such as that of `SinkExt::flush`,
/// nothing is lost.
#[must_use = "a sink writes only what is sent to it"]
pub struct WriteSink<C: Client = Connection> {
    writes: Writes<C>,
}

impl<C: Client> WriteSink<C> {
    /// Makes a sink that writes to the export of any client, see [`Connection::write_sink`].
    pub fn new(client: C) -> Self {
        Self {
            writes: Writes::new(client, LIMIT),
        }
    }

    /// Sets how many bytes are in flight at a time, by default 4 MiB. One item may always be.
    pub const fn max_in_flight_bytes(mut self, bytes: usize) -> Self {
        self.writes.limit = bytes as u64;
        self
    }

    /// Sets the timeout of each request, see [`Request::timeout`](crate::Request::timeout).
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.writes.timeout = Some(timeout);
        self
    }
}

impl<C: Client> Sink<Chunk> for WriteSink<C> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().writes.poll_room(cx)
    }

    fn start_send(self: Pin<&mut Self>, item: Chunk) -> Result<()> {
        self.get_mut().writes.push(match item {
            Chunk::Data { offset, data } => Change::Data { offset, data },
            Chunk::Hole { offset, length } => Change::Zeroes { offset, length },
            Chunk::Error { offset, errno, .. } => {
                let why = format!("the piece at offset {offset} could not be read: {errno}");
                return Err(InvalidRequest::Argument { what: "chunk", why }.into());
            }
        });
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().writes.poll_answered(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().writes.poll_durable(cx)
    }
}

impl<C: Client> fmt::Debug for WriteSink<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.writes.fmt(f)
    }
}

impl Connection {
    /// Returns a sink that writes data and zeroes, several requests at a time.
    ///
    /// [`Chunk::Data`] is written. [`Chunk::Hole`] is written as zeroes: by `write_zeroes` if the
    /// server offers it, which may leave a hole, and else by writes. A [`Chunk::Error`] is refused. The requests are in flight side
    /// by side up to a limit ([`max_in_flight_bytes`](WriteSink::max_in_flight_bytes)); an item that
    /// overlaps an earlier one waits for it, so that the later one prevails.
    ///
    /// Flushing the sink waits until all requests are answered. Closing it also flushes the export:
    /// then the data is durable. Nothing is durable before.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # use nbd_client::{Connection, context, testing};
    /// # let disk = testing::Export::new(1 << 30);
    /// # disk.write(512 << 20, b"somewhere");
    /// # let (source, target) = (testing::Server::new(disk), testing::Server::new(testing::Export::new(1 << 30)));
    /// # let from = Connection::builder().meta_context(context::BASE_ALLOCATION).build();
    /// # let to = Connection::new();
    /// # from.connect_stream(source.connect()).await?;
    /// # to.connect_stream(target.connect()).await?;
    /// use futures::StreamExt;
    ///
    /// // A sparse copy from one export to another:
    /// from.pieces(..).forward(to.write_sink()).await?;
    /// assert_eq!(&to.read(512 << 20, 9).await?[..], b"somewhere");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The first failure of a write, which names its offset, is returned by the next call and by every later one. Nothing more is
    /// sent after it. A flush that fails is tried again by the next [`close`](futures::SinkExt::close). Closing fails if the server does not offer
    /// [`flush`](crate::Export::can_flush) and something was written.
    pub fn write_sink(&self) -> WriteSink {
        WriteSink::new(self.clone())
    }
}
