//! What a connection is told before it connects.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, ExportOptions};
use crate::connection::Connection;
use crate::driver::Shared;
use crate::limits::Limits;
use crate::strict::Strict;
use crate::transport::tcp::AddressFamily;
use crate::transport::tls::{Tls, TlsMode, TlsUpgrade};
use crate::uri::UriPolicy;
use crate::wire::HandshakeFlags;

/// Sets up a [`Connection`] before it connects.
///
/// Options with a `bool` ask for what the server may refuse; [`Connection::protocol`] and
/// [`Connection::export`] say what was agreed. A handle can be cloned but not set up again: for
/// several connections, clone the builder.
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
    /// Names the export; by default the empty name, which is the server's default export.
    ///
    /// At most 4096 bytes without NUL, or connecting fails. A URI replaces it.
    pub fn export_name(mut self, name: impl Into<String>) -> Self {
        self.export_options.export_name = name.into();
        self
    }

    /// Asks for a metadata context, such as `base:allocation`; may be called several times. By
    /// default there is none, and [`block_status`](Connection::block_status) needs at least one.
    ///
    /// Whether the server has it shows in [`Export::contexts`](crate::Export::contexts): that it
    /// does not is no error. Each name has at most 4096 bytes without NUL, or connecting fails.
    ///
    /// Section "Metadata querying" of the protocol.
    pub fn meta_context(mut self, name: impl Into<String>) -> Self {
        self.export_options.contexts.push(name.into());
        self
    }

    /// Whether the contexts asked for are selected when an export is entered or asked about;
    /// by default they are. Without, a selection made by
    /// [`opt_set_meta_context`](Connection::opt_set_meta_context) stays in force.
    pub fn request_meta_context(mut self, request: bool) -> Self {
        self.export_options.request_meta_context = request;
        self
    }

    /// Whether to encrypt, and by whose help: a `TlsConfig` (certificates, feature `tls`), a
    /// `TlsPsk` (pre-shared keys, feature `tls-psk`), or your own [`TlsUpgrade`].
    ///
    /// By default nothing is encrypted. `TlsMode::Disable` with a helper is for
    /// [`opt_starttls`](Connection::opt_starttls).
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
    pub fn tls(mut self, mode: TlsMode, with: impl TlsUpgrade + 'static) -> Self {
        self.tls.mode = mode;
        self.tls.upgrade = Some(Arc::new(with));
        self
    }

    /// Stops in [`State::Negotiating`](crate::State::Negotiating), where options can be sent one
    /// by one; by default the handshake runs through.
    pub const fn opt_mode(mut self, opt_mode: bool) -> Self {
        self.config.opt_mode = opt_mode;
        self
    }

    /// Whether to ask for structured replies (`NBD_OPT_STRUCTURED_REPLY`); by default yes. Without
    /// them there are no extended headers and no metadata contexts either, holes are sent as
    /// zeroes, and a server that fails in the middle of a read can only end the connection.
    pub const fn structured_replies(mut self, request: bool) -> Self {
        self.config.structured_replies = request;
        self
    }

    /// Whether to ask for extended headers (`NBD_OPT_EXTENDED_HEADERS`), with which one message can
    /// trim or zero more than 4 GiB, or ask for the status of more; by default yes. Servers that do not
    /// know them are asked for structured replies instead.
    pub const fn extended_headers(mut self, request: bool) -> Self {
        self.config.extended_headers = request;
        self
    }

    /// Whether to enter the export with `NBD_OPT_EXPORT_NAME` even if the server knows
    /// `NBD_OPT_GO`; by default no. For tests of servers: one that does not have the export closes
    /// the connection without a reason. Extended headers, which would forbid it, are not asked for
    /// then.
    pub const fn force_export_name(mut self, force: bool) -> Self {
        self.config.force_export_name = force;
        self
    }

    /// Whether to ask for the export's [canonical name](crate::Export::canonical_name) and
    /// [description](crate::Export::description); by default no.
    pub const fn full_info(mut self, request: bool) -> Self {
        self.export_options.full_info = request;
        self
    }

    /// Whether to ask for block sizes, and obey them; by default yes. Section "Size constraints"
    /// of the protocol.
    pub const fn request_block_size(mut self, request: bool) -> Self {
        self.export_options.request_block_size = request;
        self
    }

    /// Which handshake flags to accept when the server offers them; by default all. For tests of
    /// servers.
    ///
    /// Without `FIXED_NEWSTYLE` nothing but the name of the export can be negotiated.
    pub const fn handshake_flags(mut self, accept: HandshakeFlags) -> Self {
        self.config.handshake_flags = accept;
        self
    }

    /// How long connecting and the handshake may take together, however slowly the server
    /// proceeds; by default 30 seconds. In option mode each option has as long. For no limit, say
    /// `Duration::MAX`.
    pub const fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.config.handshake_timeout = timeout;
        self
    }

    /// How long the server may take to close the connection after it was told that nothing
    /// follows, and to exit if this connection runs it; by default 5 seconds. After that,
    /// [`disconnect`](Connection::disconnect) returns and the process is ended in the background.
    pub const fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.config.shutdown_timeout = timeout;
        self
    }

    /// How long a server that this connection runs has between SIGTERM and SIGKILL; by default 2
    /// seconds. `Duration::MAX` means that it is never killed.
    ///
    /// SIGTERM is for a server that does not exit when its connection ends, see
    /// [`aio_connect_command`](Connection::aio_connect_command). One that has much to write out
    /// when it is told to go needs longer than the default. Nobody waits for it: this goes on in the
    /// background, also when the runtime is gone, but not when the program ends.
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

    /// How long the server may be silent while it owes replies: if not one byte comes for so long
    /// with at least one request in flight, the connection is ended with
    /// [`Error::Timeout`](crate::Error::Timeout) in [`Phase::Stall`](crate::Phase::Stall). By
    /// default there is no limit.
    ///
    /// It counts from the last byte received, or from the first request in flight if that is
    /// later, and stands still while the connection is idle. Any byte starts it anew: a slow
    /// server is not cut off, one that has gone without a word is. What is sent does not count,
    /// so it must be longer than it takes to send what may be in flight. A
    /// [`timeout`](crate::Request::timeout) limits a single request.
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

    /// How long to look for a reply again and again before sleeping until it is there.
    ///
    /// Falling asleep and being woken costs time and processor time. So by default the driver of
    /// the connection looks for a reply for up to 40 µs before it sleeps, as long as that pays: it
    /// measures how long it looked and how often a reply came meanwhile. A slower server is
    /// waited for asleep; one wait in 64 is then begun by looking, to learn whether that is still
    /// so.
    ///
    /// With a period of its own, every wait begins with that, whether it pays or not: this gives
    /// the answer to a single request much sooner, and keeps a processor busy meanwhile. A few
    /// tens of microseconds suit a server on the same machine. With [`Duration::ZERO`], all
    /// waiting is done asleep. In any case, other tasks of the runtime go on.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let builder = nbd_client::Connection::builder().busy_poll(Duration::from_micros(100));
    /// ```
    pub const fn busy_poll(mut self, period: Duration) -> Self {
        self.config.busy_poll = Some(period);
        self
    }

    /// Whether `fua` is made up for where the server does not offer it: the command is sent without
    /// the flag, and once it is answered a [`flush`](Connection::flush), whose result is the result.
    /// By default no: a request with `fua` is refused then, as it is if the server does not offer
    /// to flush either.
    ///
    /// That is more than was asked for and can take much longer, since a flush waits for all
    /// changes before it, and the server writes out all it holds. If the command succeeded and the
    /// flush fails, the change is made, but not known to be durable. A
    /// [`timeout`](crate::Request::timeout) is for both together.
    pub const fn emulate_fua(mut self, emulate: bool) -> Self {
        self.config.emulate_fua = emulate;
        self
    }

    /// Whether to ask for the content of every read in one piece (`DF`), where the server
    /// [offers](crate::Export::can_df) that; by default no.
    ///
    /// This is for disks with bad sectors behind qemu-nbd: with structured replies, up to version
    /// 10 at least, it hangs up when it cannot read, and everything that is in flight is lost with
    /// the connection. To a read with `DF`, or without structured replies, it answers `EIO`, and
    /// the connection goes on.
    ///
    /// Holes are sent as zeroes then. Since a server may refuse more than 64 KiB in one piece,
    /// longer reads are sent as several messages, but for
    /// [`read_structured`](Connection::read_structured), which is never split, and may fail with
    /// `EOVERFLOW` instead. A request's own `dont_fragment` is the same for that request, without
    /// being split.
    ///
    /// ```
    /// let builder = nbd_client::Connection::builder().dont_fragment_reads(true);
    /// ```
    pub const fn dont_fragment_reads(mut self, dont: bool) -> Self {
        self.config.dont_fragment_reads = dont;
        self
    }

    /// How many requests may be in flight; further ones wait. By default 1024, at least 1.
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.config.max_in_flight = requests.max(1);
        self
    }

    /// How many bytes of payload, both ways together, may be in flight; further requests wait.
    /// By default 128 MiB. A larger request goes alone.
    ///
    /// A block status counts with the memory that its answer takes: at first up to 24 KiB for each
    /// context, and what it gets beyond that as it arrives. All whose answers are not taken yet
    /// share these bytes equally; an answer that would take more than its share is cut off, as if
    /// the server had described less.
    pub const fn max_in_flight_bytes(mut self, bytes: u64) -> Self {
        self.config.max_in_flight_bytes = bytes;
        self
    }

    /// How much the server may send before it counts as hostile; by default [`Limits::default`].
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Which checks requests must pass before they are sent; by default all. For tests of servers,
    /// see [`set_strict`](Connection::set_strict).
    pub const fn strict(mut self, strict: Strict) -> Self {
        self.config.strict = strict;
        self
    }

    /// What a URI may ask for when it is given to [`connect_uri`](Connection::connect_uri); by
    /// default [`UriPolicy::default`], which lets it say where the server is, and nothing that
    /// reads local files, starts programs or weakens TLS.
    pub const fn uri_policy(mut self, policy: UriPolicy) -> Self {
        self.config.uri_policy = policy;
        self
    }

    /// What the socket is called that a server gets by
    /// [`connect_systemd_socket_activation`](Connection::connect_systemd_socket_activation), in
    /// `LISTEN_FDNAMES`: at most 32 ASCII letters and digits, or connecting fails. By default, and
    /// if the name is empty, it is called `unknown`.
    #[cfg(unix)]
    pub fn socket_activation_name(mut self, name: impl Into<String>) -> Self {
        self.config.socket_name = Some(name.into());
        self
    }

    /// The local address to connect from over TCP; by default the system chooses. Only addresses
    /// of its family are tried then.
    pub const fn bind_address(mut self, address: IpAddr) -> Self {
        self.config.tcp.bind = Some(address);
        self
    }

    /// Which addresses of a host to try over TCP; by default IPv6 and IPv4 side by side.
    pub const fn address_family(mut self, family: AddressFamily) -> Self {
        self.config.tcp.family = family;
        self
    }

    /// How long sent data may stay unacknowledged before a TCP connection counts as lost
    /// (`TCP_USER_TIMEOUT`, in steps of a millisecond); by default the system decides, which takes
    /// about a quarter of an hour. On Linux; elsewhere connecting over TCP then fails and says so.
    pub const fn tcp_user_timeout(mut self, timeout: Duration) -> Self {
        self.config.tcp.user_timeout = Some(timeout);
        self
    }

    /// Makes the handle, in [`State::Created`](crate::State::Created).
    pub fn build(self) -> Connection {
        Connection::from_shared(Shared::new(self.config, self.export_options, self.tls))
    }
}
