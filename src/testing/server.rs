//! The server: a handle on exports and knobs that can serve any number of streams.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};

use crate::wire::codec::CodecError;

use super::builder::{Builder, Knobs};
use super::export::Export;
use super::handshake;
use super::reply_gate::ReplyGate;
use super::transmission;

/// Bytes that each direction of an in-memory connection can hold.
const DUPLEX_CAPACITY: usize = 256 * 1024;

/// An NBD server in memory.
///
/// A cheap handle: clones are the same server. It serves over in-memory streams
/// ([`connect`](Self::connect)), sockets ([`listen_unix`](Self::listen_unix),
/// [`listen_tcp`](Self::listen_tcp)), its own stdin and stdout
/// ([`serve_stdio`](Self::serve_stdio)), or any stream ([`serve`](Self::serve)).
///
/// Requests are handled in the task of their connection, as many as one read brings, and their
/// replies leave in one write. Reading never waits for writing: replies the client does not take
/// pile up in memory.
///
/// # Examples
/// Replies held back until the test has seen what it wants to see:
/// ```
/// use nbd_client::testing::{Export, Server};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let server = Server::new(Export::new(1 << 20));
/// let stream = server.connect();
/// server.pause();
/// # let client = tokio::spawn(async move { speak(stream).await });
/// // … a client sends a request over `stream` …
/// server.held(1).await; // it was handled, its reply is ready
/// server.resume();
/// # client.await.unwrap();
/// # });
/// # async fn speak(mut stream: tokio::io::DuplexStream) {
/// #     use nbd_client::wire::{*, option::OptionRequest};
/// #     use tokio::io::*;
/// #     let mut bytes = bytes::BytesMut::from(&3u32.to_be_bytes()[..]);
/// #     OptionRequest::export_name("").encode(&mut bytes);
/// #     let head = request::RequestHead {
/// #         flags: CommandFlags::empty(), command: Command::FLUSH, cookie: 1, offset: 0, length: 0,
/// #     };
/// #     head.encode(false, &mut bytes);
/// #     stream.write_all(&bytes).await.unwrap();
/// #     stream.read_exact(&mut [0; 18 + 10 + 16]).await.unwrap();
/// # }
/// ```
#[derive(Clone)]
pub struct Server {
    state: Arc<ServerState>,
}

/// What all connections of a server see.
pub(super) struct ServerState {
    pub(super) exports: Vec<(String, Export)>,
    default: String,
    pub(super) knobs: Knobs,
    pub(super) gate: ReplyGate,
    shutting_down: AtomicBool,
}

impl ServerState {
    /// The export that answers to `name`, and its own name.
    pub(super) fn find(&self, name: &str) -> Option<(&str, &Export)> {
        let find = |name: &str| {
            let found = self.exports.iter().find(|(known, _)| known == name);
            found.map(|(name, export)| (name.as_str(), export))
        };
        find(name).or_else(|| name.is_empty().then(|| find(&self.default)).flatten())
    }

    pub(super) fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Relaxed)
    }
}

impl Server {
    /// A server with one export, which has the empty name.
    #[must_use]
    pub fn new(export: Export) -> Self {
        Self::builder().export("", export).build()
    }

    /// Sets up a server.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(super) fn assemble(exports: Vec<(String, Export)>, default: String, knobs: Knobs) -> Self {
        Self {
            state: Arc::new(ServerState {
                exports,
                default,
                knobs,
                gate: ReplyGate::default(),
                shutting_down: AtomicBool::new(false),
            }),
        }
    }

    /// Opens a connection in memory: a task serves the other end until the client leaves.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn connect(&self) -> DuplexStream {
        self.connect_with_capacity(DUPLEX_CAPACITY)
    }

    /// Opens a connection in memory that holds at most `bytes` in each direction.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn connect_with_capacity(&self, bytes: usize) -> DuplexStream {
        let (client, server) = tokio::io::duplex(bytes);
        let this = self.clone();
        // The client sees how its connection ends.
        tokio::spawn(async move { this.serve(server).await });
        client
    }

    /// Serves one client over `stream`, from greeting to end. The stream is closed on return.
    ///
    /// # Errors
    /// If the stream fails or the client breaks the protocol. A client that leaves between two
    /// messages, with or without a goodbye, is no error.
    pub async fn serve<S>(&self, mut stream: S) -> Result<(), CodecError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let _connected = self.state.gate.enter();
        let mut news = self.state.gate.subscribe();
        let agreed = tokio::select! {
            agreed = handshake::negotiate(&self.state, &mut stream) => agreed?,
            () = news.hang_up() => None,
        };
        match agreed {
            Some(agreed) => transmission::run(&self.state, agreed, news, stream).await,
            None => Ok(()),
        }
    }

    /// Holds all replies of the transmission phase back until [`resume`](Self::resume), on all
    /// connections. Requests are still received and carried out.
    pub fn pause(&self) {
        self.state.gate.set_paused(true);
    }

    /// Lets replies go again, those held back first.
    pub fn resume(&self) {
        self.state.gate.set_paused(false);
    }

    /// Lets so many replies go while the server is paused, now or when they are ready.
    pub fn release(&self, replies: usize) {
        self.state.gate.release(replies);
    }

    /// Waits until at least so many replies are held back, over all connections.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn held(&self, replies: usize) {
        self.state.gate.wait_held(replies).await;
    }

    /// Waits until at least so many requests were received since the server was built.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn received(&self, requests: usize) {
        self.state.gate.wait_received(requests).await;
    }

    /// How many connections are being served.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.gate.connections()
    }

    /// Waits until exactly so many connections are being served.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn connected(&self, connections: usize) {
        self.state.gate.wait_connections(connections).await;
    }

    /// Closes all connections there are, in the middle of whatever they are doing. New ones are
    /// served.
    pub fn hang_up(&self) {
        self.state.gate.hang_up();
    }

    /// From now on fails every command with `ESHUTDOWN` and every option with `ERR_SHUTDOWN`, as
    /// a server does that wants its clients to leave.
    pub fn shut_down(&self) {
        self.state.shutting_down.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("exports", &self.state.exports)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
