//! How requests are checked, sent and counted.

use std::time::Duration;

use super::Builder;
use crate::strict::Strict;

/// Requests.
impl Builder {
    /// Sets whether this connection makes no changes, whatever the server allows; by default it may.
    ///
    /// Writes, trims and zeroes then fail with
    /// [`InvalidRequest::ReadOnlyConnection`](crate::InvalidRequest::ReadOnlyConnection), and nothing
    /// of them is sent, even if [`strict`](Self::strict) turns checks off. The export is described as
    /// one that cannot be written: [`is_read_only`](crate::Export::is_read_only) is true, and
    /// `can_trim`, `can_zero`, `can_fast_zero` and `can_fua` are false. The server does not learn of
    /// it, since the protocol has no message for it: it may still lock the export for writing.
    ///
    /// ```
    /// # use nbd_client::testing;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// use nbd_client::{Connection, Error, InvalidRequest, wire::Command};
    ///
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// let conn = Connection::builder().read_only(true).build();
    /// conn.connect_stream(server.connect()).await?;
    /// assert!(conn.export()?.is_read_only());
    /// assert!(matches!(
    ///     conn.write(0, "data").await,
    ///     Err(Error::Invalid(InvalidRequest::ReadOnlyConnection(Command::WRITE)))
    /// ));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "readonly")]
    pub const fn read_only(mut self, read_only: bool) -> Self {
        self.config.read_only = read_only;
        self
    }

    /// Sets whether to emulate `fua` with a flush where the server does not offer it; by default no.
    ///
    /// The command is then sent without the flag, and after its answer a
    /// [`flush`](crate::Connection::flush), whose result is the result of the request. Without emulation, or
    /// if the server does not offer flush either, a request with `fua` is refused.
    ///
    /// The emulation can take much longer than `fua`, since a flush waits for all changes before it,
    /// and the server writes out all of them. If the command succeeds and the flush fails, the
    /// change is made, but not known to be durable. A [`timeout`](crate::Request::timeout) limits
    /// both together.
    pub const fn emulate_fua(mut self, emulate: bool) -> Self {
        self.config.emulate_fua = emulate;
        self
    }

    /// Sets whether to ask for the content of every read in one piece (`DF`), if the server
    /// [offers](crate::Export::can_df) that; by default no.
    ///
    /// This is for disks with bad sectors behind qemu-nbd: with structured replies, up to version
    /// 10 at least, it closes the connection when it cannot read, and all requests in flight are
    /// lost. To a read with `DF`, or without structured replies, it answers `EIO`, and the
    /// connection goes on.
    ///
    /// With `DF`, holes are sent as zeroes. Since a server may refuse more than 64 KiB in one piece,
    /// longer reads are sent as several messages. [`read_structured`](crate::Connection::read_structured)
    /// is never split, and may fail with `EOVERFLOW` instead. The `dont_fragment` of a request does
    /// the same for that request, without splitting it.
    ///
    /// ```
    /// let builder = nbd_client::Connection::builder().dont_fragment_reads(true);
    /// ```
    pub const fn dont_fragment_reads(mut self, dont: bool) -> Self {
        self.config.dont_fragment_reads = dont;
        self
    }

    /// Sets how many requests may be in flight; further ones wait. The default is 1024, the minimum
    /// is 1.
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.config.max_in_flight = requests.max(1);
        self
    }

    /// Sets how many bytes of payload, in both directions together, may be in flight; further
    /// requests wait. The default is 128 MiB. A larger request is sent alone.
    ///
    /// A block status counts with the memory of its answer: at first up to 24 KiB for each context,
    /// and more as the answer arrives. All block statuses whose answers were not taken yet share
    /// these bytes equally; an answer that takes more than its share is cut off, as if the server
    /// had described less.
    pub const fn max_in_flight_bytes(mut self, bytes: u64) -> Self {
        self.config.max_in_flight_bytes = bytes;
        self
    }

    /// Sets how long to poll the socket before sleeping until data arrives.
    ///
    /// Falling asleep and being woken costs time and processor time, and so does polling. By default the
    /// driver of the connection measures both now and then, while up to four requests are in flight. If
    /// polling pays, the driver polls for up to 50 µs before it sleeps. On a Unix socket, it measures a
    /// third way as well: to sleep, but to be woken when the server takes the request, so that its
    /// thread is up when the reply comes. That needs one more descriptor while it pays or is measured,
    /// and is left out in a program that has 256 of them open, or half of what it may open.
    /// None of these ways is taken that needs over an eighth more processor time than to sleep.
    /// On Windows, which does not tell the processor time of a thread precisely, it sleeps at once.
    ///
    /// If this is set, every wait begins with polling for `period`, whether it pays or not. Single
    /// requests are then answered sooner, and a processor is busy meanwhile. A few tens of
    /// microseconds suit a server on the same machine. With [`Duration::ZERO`], the driver never
    /// polls before it sleeps, and measures nothing. In any case, other tasks of the runtime go on.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let builder = nbd_client::Connection::builder().busy_poll(Duration::from_micros(100));
    /// ```
    pub const fn busy_poll(mut self, period: Duration) -> Self {
        self.config.busy_poll = Some(period);
        self
    }

    /// Sets whether to measure how long requests take; by default no. The counts are in
    /// [`Stats::command`](crate::Stats::command).
    ///
    /// It costs one look at the clock for each request, and one for each batch of answers. All other
    /// counts are kept in any case.
    pub const fn measure_latency(mut self, measure: bool) -> Self {
        self.config.measure_latency = measure;
        self
    }

    /// Sets the checks that requests must pass before they are sent; by default all. This is for
    /// tests of servers, see [`set_strict`](crate::Connection::set_strict).
    #[doc(alias = "nbd_set_strict_mode")]
    pub const fn strict(mut self, strict: Strict) -> Self {
        self.config.strict = strict;
        self
    }
}
