//! Options that are fixed before connecting.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, ExportOptions};
use crate::connection::Connection;
use crate::driver::Inner;
use crate::limits::Limits;
use crate::strict::Strict;
use crate::transport::tcp::{AddressFamily, KeepAlive};
use crate::transport::tls::{Tls, TlsMode, TlsUpgrade};
use crate::uri::UriPolicy;
use crate::wire::HandshakeFlags;

/// Sets up a [`Connection`] before it connects.
///
/// Some options ask for features that the server may refuse; [`Connection::protocol`] and
/// [`Connection::export`] say what was negotiated. A connection is set up once: for several
/// connections with the same options, clone the builder.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let conn = nbd_client::Connection::builder()
///     .export_name("disk0")
///     .meta_context("base:allocation")
///     .handshake_timeout(Duration::from_secs(5))
///     .build();
/// assert!(conn.is_created());
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    config: Config,
    export_options: ExportOptions,
    tls: Tls,
}

impl Builder {
    /// Sets the name of the export. The default is the empty name, which is the server's default
    /// export.
    ///
    /// If the name has more than 4096 bytes or contains NUL, connecting fails. A URI replaces the
    /// name.
    #[doc(alias = "nbd_set_export_name")]
    pub fn export_name(mut self, name: impl Into<String>) -> Self {
        self.export_options.export_name = name.into();
        self
    }

    /// Adds a metadata context to ask for, such as `base:allocation`. By default there is none;
    /// [`block_status`](Connection::block_status) needs at least one.
    ///
    /// [`Export::contexts`](crate::Export::contexts) says which contexts the server has; a missing
    /// one is no error, unlike with [`require_meta_context`](Self::require_meta_context). If a name
    /// has more than 4096 bytes or contains NUL, connecting fails.
    ///
    /// See section "Metadata querying" of the protocol.
    #[doc(alias = "nbd_add_meta_context")]
    pub fn meta_context(mut self, name: impl Into<String>) -> Self {
        self.export_options.contexts.push(name.into());
        self
    }

    /// Adds a metadata context to ask for, without which the export is not entered. By default there
    /// is none.
    ///
    /// If the server does not have the context for this export, connecting fails with
    /// [`Error::MissingContext`](crate::Error::MissingContext), which lists those that it has. In
    /// option mode, [`opt_go`](Connection::opt_go) fails, and the negotiation goes on. This is for
    /// programs that would otherwise do the wrong thing, such as a backup that is given the wrong
    /// name of a dirty bitmap.
    ///
    /// The name must be complete: `qemu:dirty-bitmap:` alone, which asks for all bitmaps, is no
    /// context that a server has.
    ///
    /// ```
    /// # use nbd_client::testing;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// use nbd_client::{Connection, Error};
    ///
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// let conn = Connection::builder().require_meta_context("qemu:dirty-bitmap:monday").build();
    /// match conn.connect_stream(server.connect()).await {
    ///     Err(Error::MissingContext(missing)) => {
    ///         assert_eq!(missing.name(), "qemu:dirty-bitmap:monday");
    ///         assert_eq!(missing.available(), ["base:allocation"]);
    ///     }
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn require_meta_context(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.export_options.required.push(name.clone());
        self.meta_context(name)
    }

    /// Sets whether the requested contexts are selected before an export is entered or asked about;
    /// by default they are. If not, a selection made by
    /// [`opt_set_meta_context`](Connection::opt_set_meta_context) stays in force.
    #[doc(alias = "nbd_set_request_meta_context")]
    pub fn request_meta_context(mut self, request: bool) -> Self {
        self.export_options.request_meta_context = request;
        self
    }

    /// Sets when to use TLS, and the implementation: a `TlsConfig` (certificates, feature `tls`), a
    /// `TlsPsk` (pre-shared keys, feature `tls-psk`), or your own [`TlsUpgrade`].
    ///
    /// By default TLS is not used. With `TlsMode::Disable`, the implementation is used by
    /// [`opt_starttls`](Connection::opt_starttls) only.
    ///
    /// ```
    /// # #[cfg(feature = "tls")]
    /// # fn example(ca: &str) -> nbd_client::Result<()> {
    /// use nbd_client::{Connection, TlsConfig, TlsMode};
    ///
    /// let tls = TlsConfig::builder().ca_pem(ca).build()?;
    /// let conn = Connection::builder().tls(TlsMode::Require, tls).build();
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "nbd_set_tls")]
    pub fn tls(mut self, mode: TlsMode, with: impl TlsUpgrade + 'static) -> Self {
        self.tls.mode = mode;
        self.tls.upgrade = Some(Arc::new(with));
        self
    }

    /// Sets whether the handshake stops in [`State::Negotiating`](crate::State::Negotiating), where
    /// options can be sent one by one. By default the handshake runs to its end.
    #[doc(alias = "nbd_set_opt_mode")]
    pub const fn opt_mode(mut self, opt_mode: bool) -> Self {
        self.config.opt_mode = opt_mode;
        self
    }

    /// Sets whether to ask for structured replies (`NBD_OPT_STRUCTURED_REPLY`); by default yes.
    ///
    /// Without them there are no extended headers and no metadata contexts, holes are sent as
    /// zeroes, and a server that fails in the middle of a read can only end the connection.
    #[doc(alias = "nbd_set_request_structured_replies")]
    pub const fn structured_replies(mut self, request: bool) -> Self {
        self.config.structured_replies = request;
        self
    }

    /// Sets whether to ask for extended headers (`NBD_OPT_EXTENDED_HEADERS`); by default yes.
    ///
    /// With them, one message can trim or zero more than 4 GiB, or ask for the status of more.
    /// Servers that do not know them are asked for structured replies instead.
    #[doc(alias = "nbd_set_request_extended_headers")]
    pub const fn extended_headers(mut self, request: bool) -> Self {
        self.config.extended_headers = request;
        self
    }

    /// Sets whether to enter the export with `NBD_OPT_EXPORT_NAME` even if the server knows
    /// `NBD_OPT_GO`; by default no. This is for tests of servers.
    ///
    /// A server that does not have the export then closes the connection without a reason. Extended
    /// headers, which forbid this option, are not asked for.
    pub const fn force_export_name(mut self, force: bool) -> Self {
        self.config.force_export_name = force;
        self
    }

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

    /// Sets whether to ask for the [canonical name](crate::Export::canonical_name) and the
    /// [description](crate::Export::description) of the export; by default no.
    #[doc(alias = "nbd_set_full_info")]
    pub const fn full_info(mut self, request: bool) -> Self {
        self.export_options.full_info = request;
        self
    }

    /// Sets whether to ask for block sizes and obey them; by default yes. See section "Size
    /// constraints" of the protocol.
    #[doc(alias = "nbd_set_request_block_size")]
    pub const fn request_block_size(mut self, request: bool) -> Self {
        self.export_options.request_block_size = request;
        self
    }

    /// Sets which handshake flags to accept if the server offers them; by default all. This is for
    /// tests of servers.
    ///
    /// Without `FIXED_NEWSTYLE`, nothing but the name of the export can be negotiated.
    #[doc(alias = "nbd_set_handshake_flags")]
    pub const fn handshake_flags(mut self, accept: HandshakeFlags) -> Self {
        self.config.handshake_flags = accept;
        self
    }

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
    /// [`disconnect`](Connection::disconnect) returns, and the process is ended in the background.
    pub const fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.config.shutdown_timeout = timeout;
        self
    }

    /// Sets the time between SIGTERM and SIGKILL for a server that this connection runs; by default
    /// 2 seconds. `Duration::MAX` means that the server is never killed.
    ///
    /// A server that does not exit when its connection ends gets SIGTERM, see
    /// [`aio_connect_command`](Connection::aio_connect_command). A server that writes out much data
    /// at SIGTERM needs longer than the default. No call waits for this: it goes on in the
    /// background, even after the runtime has ended, but not after the program has.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let builder = nbd_client::Connection::builder().child_kill_delay(Duration::from_secs(60));
    /// ```
    #[cfg(unix)]
    pub const fn child_kill_delay(mut self, delay: Duration) -> Self {
        self.config.child_kill_delay = delay;
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
    /// [`disconnect`](Connection::disconnect) has a timeout of its own.
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
    /// sixteenth. A request whose future was dropped counts like every other request: flushes,
    /// overlapping changes and [`disconnect`](Connection::disconnect) wait for its reply, and
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

    /// Sets how long to poll the socket before sleeping until data arrives.
    ///
    /// Falling asleep and being woken costs time and processor time. By default the driver of the
    /// connection therefore polls for up to 40 µs before it sleeps, as long as that pays: it
    /// measures how long it polled, and how often a reply came meanwhile. With a slower server it
    /// sleeps at once, except for one wait in 64, which tells whether polling pays again.
    ///
    /// If this is set, every wait begins with polling for `period`, whether it pays or not. Single
    /// requests are then answered much sooner, and a processor is busy meanwhile. A few tens of
    /// microseconds suit a server on the same machine. With [`Duration::ZERO`], the driver never
    /// polls before it sleeps. In any case, other tasks of the runtime go on.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let builder = nbd_client::Connection::builder().busy_poll(Duration::from_micros(100));
    /// ```
    pub const fn busy_poll(mut self, period: Duration) -> Self {
        self.config.busy_poll = Some(period);
        self
    }

    /// Sets whether to emulate `fua` with a flush where the server does not offer it; by default no.
    ///
    /// The command is then sent without the flag, and after its answer a
    /// [`flush`](Connection::flush), whose result is the result of the request. Without emulation, or
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
    /// longer reads are sent as several messages. [`read_structured`](Connection::read_structured)
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

    /// Sets whether to measure how long requests take; by default no. The counts are in
    /// [`Stats::command`](crate::Stats::command).
    ///
    /// It costs one look at the clock for each request, and one for each batch of answers. All other
    /// counts are kept in any case.
    pub const fn measure_latency(mut self, measure: bool) -> Self {
        self.config.measure_latency = measure;
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

    /// Sets how much the server may send before it counts as hostile; by default
    /// [`Limits::default`].
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Sets the checks that requests must pass before they are sent; by default all. This is for
    /// tests of servers, see [`set_strict`](Connection::set_strict).
    #[doc(alias = "nbd_set_strict_mode")]
    pub const fn strict(mut self, strict: Strict) -> Self {
        self.config.strict = strict;
        self
    }

    /// Sets what a URI may ask for when it is given to [`connect_uri`](Connection::connect_uri); by
    /// default [`UriPolicy::default`]. With the default, a URI says where the server is, and cannot
    /// have local files read, programs started, or TLS weakened.
    pub const fn uri_policy(mut self, policy: UriPolicy) -> Self {
        self.config.uri_policy = policy;
        self
    }

    /// Sets the name, in `LISTEN_FDNAMES`, of the socket that a server gets by
    /// [`connect_systemd_socket_activation`](Connection::connect_systemd_socket_activation). The
    /// default, also if the name is empty, is `unknown`.
    ///
    /// If the name has more than 32 characters, or others than ASCII letters and digits, connecting
    /// fails.
    #[doc(alias = "nbd_set_socket_activation_name")]
    #[cfg(unix)]
    pub fn socket_activation_name(mut self, name: impl Into<String>) -> Self {
        self.config.socket_name = Some(name.into());
        self
    }

    /// Sets the local address to connect from over TCP; by default the system chooses. Only
    /// addresses of the same family are tried.
    pub const fn bind_address(mut self, address: IpAddr) -> Self {
        self.config.tcp.bind = Some(address);
        self
    }

    /// Sets which addresses of a host to try over TCP; by default IPv6 and IPv4 side by side.
    pub const fn address_family(mut self, family: AddressFamily) -> Self {
        self.config.tcp.family = family;
        self
    }

    /// Sets how a server that is silent over TCP is asked whether it is still there, or with `None`
    /// that it is not; by default as [`KeepAlive::default`] says.
    ///
    /// The operating system asks, whether or not requests are in flight, and no NBD message is sent.
    /// A server that answers may still leave requests unanswered, see
    /// [`stall_timeout`](Self::stall_timeout). This is for connections that this crate makes; a
    /// socket of your own keeps its settings.
    pub fn tcp_keep_alive(mut self, keep_alive: impl Into<Option<KeepAlive>>) -> Self {
        self.config.tcp.keep_alive = keep_alive.into();
        self
    }

    /// Sets how long sent data may stay unacknowledged before a TCP connection counts as lost
    /// (`TCP_USER_TIMEOUT`, in steps of a millisecond). By default the system decides, which takes
    /// about a quarter of an hour. This works on Linux; on other systems, connecting over TCP then
    /// fails with an error that says so.
    pub const fn tcp_user_timeout(mut self, timeout: Duration) -> Self {
        self.config.tcp.user_timeout = Some(timeout);
        self
    }

    /// Creates the handle, in [`State::Created`](crate::State::Created).
    pub fn build(self) -> Connection {
        Connection::from_shared(Inner::new(self.config, self.export_options, self.tls))
    }
}
