//! Whether a client is quiet, and whether its server answers.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::Request;
use super::client::{Client, read};
use super::op::Flush;
use crate::connection::Connection;
use crate::error::{Error, InvalidRequest, Result};
use crate::session::Place;
use crate::wire::Errno;

/// The length of the read of a ping, in bytes, if blocks are not longer.
const PING: u64 = 512;

impl Connection {
    /// Waits until the server has answered all changes (writes, trims, zeroes) that were begun on
    /// this connection before this future was first polled: by any task, including those that wait
    /// for room or were abandoned by their callers.
    ///
    /// Nothing is sent. In contrast to a [`flush`](Self::flush), the changes need not be durable
    /// then, and some may have failed: the callers get the errors. If a change is sent as several
    /// messages, this waits for the messages that were made before it.
    ///
    /// ```
    /// # use nbd_client::{Connection, testing};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// let write = conn.write(0, "data").submit();
    /// drop(write); // it may be carried out, or not
    /// conn.settled().await?;
    /// assert_eq!(conn.in_flight(), 0); // from here on, it cannot any more
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The cause, if the connection has ended or ends while a change is unanswered. The server may still
    /// carry that change out.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn settled(&self) -> Result<()> {
        Client::settle(self).await
    }

    /// Proves that the server answers: makes a request and waits for the answer.
    ///
    /// The request is a read of the first block of the export, or of 512 bytes if blocks are smaller.
    /// If the server refuses it, for instance because of a bad sector, that is an answer as well, and
    /// a success. An export of 0 bytes has no block; there, the request is a
    /// [`flush`](Self::flush).
    ///
    /// Like every request, it waits for room among the [requests in
    /// flight](crate::Builder::max_in_flight). There is no limit on how long it waits for the answer:
    /// use `tokio::time::timeout`, which leaves the connection usable.
    ///
    /// ```
    /// # use nbd_client::{Connection, testing};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// use std::time::Duration;
    ///
    /// tokio::time::timeout(Duration::from_secs(5), conn.ping()).await??;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The cause, if the connection has ended or ends before. A server that says that it is shutting
    /// down is an error, too. [`Error::Invalid`] if the export has 0 bytes and the server does not
    /// offer [`flush`](crate::Export::can_flush): then there is no request that it must answer.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn ping(&self) -> Result<()> {
        ping(self).await
    }
}

/// Makes a request to which every server has an answer.
pub(crate) async fn ping<C: Client>(client: &C) -> Result<()> {
    let export = client.exported()?;
    let result = if export.size() > 0 {
        let length = PING.max(export.alignment().into()).min(export.size());
        let read = read(client, 0, length);
        // qemu-nbd closes the connection when it cannot read a disk, unless it must answer in one
        // piece.
        let read = match export.can_df() {
            true => read.dont_fragment(),
            false => read,
        };
        read.await.map(drop)
    } else if export.can_flush() {
        Request::new(client, Flush, 0, 0).await
    } else {
        let why = "a ping of an export of 0 bytes needs a server that offers FLUSH";
        return Err(InvalidRequest::NotNegotiated(why).into());
    };
    match result {
        Err(Error::Request(error)) if error.errno() != Errno::ESHUTDOWN => Ok(()),
        Err(Error::DurabilityUnknown(_)) => Ok(()),
        result => result,
    }
}

/// The future of [`Connection::settled`].
#[derive(Debug)]
pub(super) struct Settle {
    connection: Connection,
    place: Option<Place>,
}

impl Settle {
    pub(super) const fn new(connection: Connection) -> Self {
        Self {
            connection,
            place: None,
        }
    }
}

impl Future for Settle {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let transmission = this.connection.transmission()?;
        let result = ready!(transmission.poll_settled(&mut this.place, cx.waker()));
        this.place = None;
        Poll::Ready(result)
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        if let (Some(place), Ok(transmission)) = (self.place, self.connection.transmission()) {
            transmission.leave_settling(place);
        }
    }
}
