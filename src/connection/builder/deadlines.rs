//! Deadlines of a connection and its requests.

use std::time::Duration;

use super::Builder;

/// Deadlines.
impl Builder {
    /// Sets how long connecting and the handshake may take together; by default 30 seconds.
    /// `Duration::MAX` means no limit.
    ///
    /// Progress does not extend the deadline. In option mode, each option has this long.
    pub const fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.config.handshake_timeout = timeout;
        self
    }

    /// Sets how long the server may take to close the connection after it was told that nothing
    /// follows, and to exit if this connection runs it; by default 5 seconds. After that,
    /// [`disconnect`](crate::Connection::disconnect) returns, and the process is ended in the background.
    ///
    /// Before that, `disconnect` waits as long for a caller who does not poll a request of which further
    /// messages are to be sent.
    pub const fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.config.shutdown_timeout = timeout;
        self
    }

    /// Sets how long each request may take, as if [`timeout`](crate::Request::timeout) were called on
    /// it. By default there is no limit; `Duration::MAX` means none, too.
    ///
    /// The time counts from when the request is first polled, so that the wait for room counts as
    /// well; a request that is sent in several messages, and one with the flush of
    /// [`emulate_fua`](Self::emulate_fua), has this time for all of it. A request's own `timeout` is
    /// used instead of this one, and `timeout(Duration::MAX)` on a request lifts the limit. Streams
    /// of extents and of data apply it to each of their requests;
    /// [`disconnect`](crate::Connection::disconnect) has a timeout of its own.
    ///
    /// As with `timeout`, a request that was sent and is not answered in time ends the connection,
    /// and requests must then be awaited where there is a Tokio runtime. Each request costs a timer,
    /// which [`reply_timeout`](Self::reply_timeout) and [`stall_timeout`](Self::stall_timeout) do not.
    ///
    /// ```
    /// # use nbd_client::testing;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// use std::time::Duration;
    /// use nbd_client::Connection;
    ///
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// let conn = Connection::builder().request_timeout(Duration::from_secs(30)).build();
    /// conn.connect_stream(server.connect()).await?;
    /// conn.write(0, "data").await?; // within 30 seconds
    /// conn.flush().timeout(Duration::MAX).await?; // as long as it takes
    /// # Ok(())
    /// # }
    /// ```
    pub const fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_timeout = Some(timeout);
        self
    }

    /// Takes the [`request_timeout`](Self::request_timeout) out.
    pub(crate) const fn take_request_timeout(&mut self) -> Option<Duration> {
        self.config.request_timeout.take()
    }

    /// Returns the [`stall_timeout`](Self::stall_timeout).
    pub(crate) const fn stall_limit(&self) -> Option<Duration> {
        self.config.stall_timeout
    }

    /// Sets how long the server may be silent while it owes replies. If no byte comes for this long
    /// with at least one request in flight, the connection is ended with
    /// [`Error::Timeout`](crate::Error::Timeout) in [`Phase::Stall`](crate::Phase::Stall). By
    /// default there is no limit.
    ///
    /// The time counts from the last byte received, or from the first request in flight if that is
    /// later; an idle connection has no deadline. Every byte starts the time anew: a slow server is
    /// not cut off, a server that has vanished is. Sent bytes do not count, so the limit must be
    /// longer than it takes to send what may be in flight. A [`timeout`](crate::Request::timeout)
    /// limits a single request.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let builder = nbd_client::Connection::builder().stall_timeout(Duration::from_secs(20));
    /// ```
    pub const fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.config.stall_timeout = Some(timeout);
        self
    }

    /// Sets how old a request in flight may become: the connection is ended with
    /// [`Error::Timeout`](crate::Error::Timeout) in [`Phase::Reply`](crate::Phase::Reply) when a
    /// request has waited this long for the end of its reply. By default there is no limit.
    ///
    /// The time counts from when the request is queued for sending, and is exceeded by up to one
    /// sixteenth. A write that was answered before its data was sent counts until the server has taken
    /// the data. A request whose future was dropped counts like every other request: flushes,
    /// overlapping changes and [`disconnect`](crate::Connection::disconnect) wait for its reply, and
    /// without this limit they wait for ever if the server has lost one request and answers all
    /// others. Unlike with [`stall_timeout`](Self::stall_timeout), replies to other requests do
    /// not start the time anew, so it must be longer than the longest request may take.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let builder = nbd_client::Connection::builder().reply_timeout(Duration::from_secs(60));
    /// ```
    pub const fn reply_timeout(mut self, timeout: Duration) -> Self {
        self.config.reply_timeout = Some(timeout);
        self
    }
}
