//! How a server is put together, and everything that can be set on it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::wire::Errno;
use crate::wire::request::RequestHead;

use super::export::Export;
use super::server::Server;

/// The order of replies that are ready at the same time.
///
/// Replies are ready together if their requests arrived in one read, or while the server was
/// [paused](Server::pause).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum ReplyOrder {
    /// As the requests arrived.
    #[default]
    InOrder,
    /// The latest request first.
    Reversed,
    /// Shuffled, in the same way for the same seed on every connection.
    Random(u64),
}

type Latency = dyn Fn(&RequestHead) -> Duration + Send + Sync;
type Fault = dyn Fn(&RequestHead) -> Option<(Errno, String)> + Send + Sync;
type HangUp = dyn Fn(&RequestHead) -> bool + Send + Sync;

/// What can be set on a server.
#[derive(Clone)]
pub(super) struct Knobs {
    pub(super) oldstyle: bool,
    pub(super) fixed_newstyle: bool,
    pub(super) no_zeroes: bool,
    pub(super) structured_replies: bool,
    pub(super) extended_headers: bool,
    pub(super) meta_contexts: bool,
    pub(super) go: bool,
    pub(super) list: bool,
    pub(super) tls_required: bool,
    pub(super) block_size_required: bool,
    pub(super) extended_headers_required: bool,

    pub(super) simple_acks: bool,
    pub(super) read_chunk: Option<u32>,
    pub(super) report_holes: bool,
    pub(super) reverse_chunks: bool,
    pub(super) trailing_done: bool,
    pub(super) interleave_chunks: bool,
    pub(super) overshoot_extents: bool,
    pub(super) max_extents: usize,

    pub(super) order: ReplyOrder,
    pub(super) max_concurrent: usize,
    pub(super) latency: Option<Arc<Latency>>,
    pub(super) fault: Option<Arc<Fault>>,
    pub(super) hang_up: Option<Arc<HangUp>>,
}

impl Knobs {
    /// Whether replies can leave in another order or at another time than requests came.
    pub(super) const fn shapes_replies(&self) -> bool {
        self.latency.is_some()
            || self.interleave_chunks
            || !matches!(self.order, ReplyOrder::InOrder)
    }
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            oldstyle: false,
            fixed_newstyle: true,
            no_zeroes: true,
            structured_replies: true,
            extended_headers: true,
            meta_contexts: true,
            go: true,
            list: true,
            tls_required: false,
            block_size_required: false,
            extended_headers_required: false,
            simple_acks: true,
            read_chunk: None,
            report_holes: true,
            reverse_chunks: false,
            trailing_done: false,
            interleave_chunks: false,
            overshoot_extents: false,
            // P-175: a server sends no more.
            max_extents: 1 << 20,
            order: ReplyOrder::InOrder,
            max_concurrent: usize::MAX,
            latency: None,
            fault: None,
            hang_up: None,
        }
    }
}

/// Sets up a [`Server`]. By default it offers all it can, at once and in order.
///
/// # Examples
/// A server of 2010 on a slow disk with a bad sector:
/// ```
/// use std::time::Duration;
/// use nbd_client::testing::{Export, Server};
/// use nbd_client::wire::Errno;
///
/// let server = Server::builder()
///     .export("disk0", Export::new(1 << 30))
///     .go(false)
///     .structured_replies(false)
///     .extended_headers(false)
///     .latency(Duration::from_millis(5))
///     .fail_with(|request| {
///         let bad = request.offset..request.offset + request.length;
///         bad.contains(&4096).then(|| (Errno::EIO, "bad sector".into()))
///     })
///     .build();
/// # drop(server);
/// ```
#[must_use = "a builder serves nothing until `build` is called"]
#[derive(Clone, Default)]
pub struct Builder {
    exports: Vec<(String, Export)>,
    default: Option<String>,
    knobs: Knobs,
}

macro_rules! switches {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        $($(#[$doc])*
        pub const fn $name(mut self, on: bool) -> Self {
            self.knobs.$name = on;
            self
        })*
    };
}

impl Builder {
    /// Adds an export. The first one also answers to the empty name, unless
    /// [`default_export`](Self::default_export) says otherwise or an export has that name.
    pub fn export(mut self, name: impl Into<String>, export: Export) -> Self {
        self.exports.push((name.into(), export));
        self
    }

    /// Sets the name of the export that answers to the empty name; with a name that does not
    /// exist, there is no default export.
    pub fn default_export(mut self, name: impl Into<String>) -> Self {
        self.default = Some(name.into());
        self
    }

    /// Builds the server. It serves once it is given streams.
    #[must_use]
    pub fn build(self) -> Server {
        let default = match self.default {
            Some(default) => default,
            None => match self.exports.first() {
                Some((name, _)) => name.clone(),
                None => String::new(),
            },
        };
        Server::assemble(self.exports, default, self.knobs)
    }
}

/// The handshake.
impl Builder {
    switches! {
        /// Greets in the old style: the default export, no options. Off by default.
        oldstyle,
        /// Answers options ("fixed newstyle"). On by default; if off, only `EXPORT_NAME` works.
        fixed_newstyle,
        /// Offers to leave out the 124 zero bytes after `EXPORT_NAME`. On by default.
        no_zeroes,
        /// Knows `STRUCTURED_REPLY`. On by default.
        structured_replies,
        /// Knows `EXTENDED_HEADERS`. On by default.
        ///
        /// Switch it off for QEMU as a client: up to 10.0 at least it forgets the flag
        /// `PAYLOAD_LEN` on writes, which is an error here.
        extended_headers,
        /// Knows `LIST_META_CONTEXT` and `SET_META_CONTEXT`. On by default.
        meta_contexts,
        /// Knows `INFO` and `GO`. On by default; if off, both answer `ERR_UNSUP`.
        go,
        /// Lists the exports. On by default; if off, `LIST` answers `ERR_POLICY`.
        list,
        /// Answers every option but `ABORT` and `STARTTLS` with `ERR_TLS_REQD`. Off by default.
        ///
        /// `STARTTLS` itself is always answered with `ERR_UNSUP`.
        tls_required,
        /// Answers `INFO` and `GO` with `ERR_BLOCK_SIZE_REQD` unless they ask for the block
        /// sizes. Off by default.
        block_size_required,
        /// Answers `INFO` and `GO` with `ERR_EXT_HEADER_REQD` unless extended headers were
        /// agreed. Off by default.
        extended_headers_required,
    }
}

/// The form of replies.
impl Builder {
    switches! {
        /// With structured replies, acknowledges commands without content by simple replies, as
        /// most servers do. On by default; if off, by `NONE` chunks.
        simple_acks,
        /// Reports parts of a read that were never written as hole chunks. On by default; if
        /// off, as zero bytes. A read with `DF` is answered by one chunk either way.
        report_holes,
        /// Sends the chunks of one read last first. Off by default.
        reverse_chunks,
        /// Ends every read with a `NONE` chunk of its own. Off by default: the last chunk of
        /// content says that it is the last.
        trailing_done,
        /// Mixes the chunks of replies that are ready at the same time. Off by default.
        interleave_chunks,
        /// Lets the last extent of a block status go on past the requested range as far as it is
        /// uniform. Off by default.
        overshoot_extents,
    }

    /// Splits the data of structured reads into chunks of at most `bytes`. Not split by default.
    pub fn read_chunk(mut self, bytes: u32) -> Self {
        self.knobs.read_chunk = Some(bytes.max(1));
        self
    }

    /// Reports at most so many extents per context in one reply. 2²⁰ by default.
    pub fn max_extents(mut self, extents: usize) -> Self {
        self.knobs.max_extents = extents.clamp(1, 1 << 20);
        self
    }
}

/// Time, order and failure.
impl Builder {
    /// Delays every command by so much, all of them at the same time. Needs a runtime with time
    /// enabled.
    pub fn latency(self, latency: Duration) -> Self {
        self.latency_with(move |_| latency)
    }

    /// Delays every command by what `latency` says of it.
    pub fn latency_with(
        mut self,
        latency: impl Fn(&RequestHead) -> Duration + Send + Sync + 'static,
    ) -> Self {
        self.knobs.latency = Some(Arc::new(latency));
        self
    }

    /// Handles at most so many commands of a connection at the same time; the others wait for
    /// their turn, and with it for their latency. No limit by default.
    pub fn max_concurrent(mut self, commands: usize) -> Self {
        self.knobs.max_concurrent = commands.max(1);
        self
    }

    /// Sets the order of replies that are ready at the same time.
    pub fn reply_order(mut self, order: ReplyOrder) -> Self {
        self.knobs.order = order;
        self
    }

    /// Fails the commands for which `fault` returns an error and a message, without touching
    /// the export. The message reaches the client only in chunks.
    pub fn fail_with(
        mut self,
        fault: impl Fn(&RequestHead) -> Option<(Errno, String)> + Send + Sync + 'static,
    ) -> Self {
        self.knobs.fault = Some(Arc::new(fault));
        self
    }

    /// Closes the connection at the commands for which `hang_up` returns true, without touching
    /// the export; replies that are still on their way are lost.
    pub fn hang_up_on(
        mut self,
        hang_up: impl Fn(&RequestHead) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.knobs.hang_up = Some(Arc::new(hang_up));
        self
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("exports", &self.exports)
            .field("default", &self.default)
            .finish_non_exhaustive()
    }
}
