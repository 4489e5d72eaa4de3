//! What every test needs: a scripted server on the other end, and ways to look at futures.

use std::future::Future;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use nbd_client::testing::Peer;
use nbd_client::wire::option::ExportInfo;
use nbd_client::wire::reply::{Reply, data_body};
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{
    ChunkType, Errno, ProtocolError, ReplyFlags, ReplyStyle, TransmissionFlags,
};
use nbd_client::{Builder, Connecting, Connection, Error, IntoSocket};
use tokio::io::DuplexStream;
#[cfg(feature = "tls")]
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
#[cfg(feature = "tls")]
use tokio::net::TcpStream;

use crate::shared::long;
use crate::shared::loopback::loopback;
#[cfg(feature = "tls")]
use crate::shared::upgrade::{behind_tls, upgrade};

pub(crate) const CHUNKED: [ReplyStyle; 2] = [ReplyStyle::Structured, ReplyStyle::Extended];
pub(crate) const STYLES: [ReplyStyle; 3] = [
    ReplyStyle::Simple,
    ReplyStyle::Structured,
    ReplyStyle::Extended,
];

/// The export that scripted servers offer: 1 MiB that can do everything.
pub(crate) const INFO: ExportInfo = ExportInfo {
    size: 1 << 20,
    flags: all_flags(),
};

/// Everything an export can offer, and can be written.
pub(crate) const fn all_flags() -> TransmissionFlags {
    TransmissionFlags::all()
        .difference(TransmissionFlags::READ_ONLY)
        .difference(TransmissionFlags::SEND_RESIZE)
}

/// A builder that asks for what `style` needs and nothing more.
pub(crate) fn builder(style: ReplyStyle) -> Builder {
    Connection::builder()
        .structured_replies(style != ReplyStyle::Simple)
        .extended_headers(style == ReplyStyle::Extended)
}

/// A connection that is ready, and the peer it talks to.
pub(crate) async fn ready(style: ReplyStyle) -> (Connection, Peer) {
    ready_with(builder(style), style).await
}

pub(crate) async fn ready_with(builder: Builder, style: ReplyStyle) -> (Connection, Peer) {
    let (peer, stream) = Peer::pair();
    ready_on(builder, style, peer, stream).await
}

pub(crate) async fn ready_on(
    builder: Builder,
    style: ReplyStyle,
    mut peer: Peer,
    stream: DuplexStream,
) -> (Connection, Peer) {
    let conn = builder.build();
    let contexts = [(7, "base:allocation"), (0, "x:y")];
    let (connected, greeted) = tokio::join!(
        conn.connect_stream(stream),
        peer.handshake(style, INFO, &contexts)
    );
    greeted.unwrap();
    connected.unwrap();
    (conn, peer)
}

/// A way to a scripted server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// In memory.
    Memory,
    /// Through the kernel.
    Unix,
    /// Through the kernel, by TCP.
    Tcp,
    /// Behind TLS, by TCP. The peer's greeting is not that of the client, which comes before.
    #[cfg(feature = "tls")]
    Tls,
}

/// Every way on which a greeting can be anything; in a long run so many times.
pub(crate) fn ways() -> impl Iterator<Item = Way> + Clone {
    let ways = [Way::Memory, Way::Unix, Way::Tcp];
    std::iter::repeat_n(ways, long::factor()).flatten()
}

/// Every way on which options follow an ordinary greeting; in a long run so many times.
pub(crate) fn option_ways() -> impl Iterator<Item = Way> + Clone {
    let ways = [
        Way::Memory,
        Way::Unix,
        Way::Tcp,
        #[cfg(feature = "tls")]
        Way::Tls,
    ];
    std::iter::repeat_n(ways, long::factor()).flatten()
}

impl Way {
    /// Whether it is behind TLS.
    pub(crate) const fn is_tls(self) -> bool {
        #[cfg(feature = "tls")]
        return matches!(self, Self::Tls);
        #[cfg(not(feature = "tls"))]
        false
    }

    /// A client that begins to connect to a peer.
    pub(crate) fn connect(self, builder: Builder) -> (Connection, Peer, Connecting) {
        match self {
            Self::Memory => {
                let conn = builder.build();
                let (peer, stream) = Peer::pair();
                let connecting = conn.aio_connect_stream(stream);
                (conn, peer, connecting.unwrap())
            }
            Self::Unix => {
                let (server, client) = UnixStream::pair().unwrap();
                server.set_nonblocking(true).unwrap();
                let server = tokio::net::UnixStream::from_std(server).unwrap();
                on_socket(builder, client, Peer::new(server))
            }
            Self::Tcp => {
                let (client, server) = loopback();
                on_socket(builder, client, Peer::new(server))
            }
            #[cfg(feature = "tls")]
            Self::Tls => {
                let (client, server) = loopback();
                let (peer, inside) = Peer::pair();
                tokio::spawn(front(server, inside));
                on_socket(behind_tls(builder), client, peer)
            }
        }
    }
}

fn on_socket(
    builder: Builder,
    client: impl IntoSocket,
    peer: Peer,
) -> (Connection, Peer, Connecting) {
    let conn = builder.build();
    let connecting = conn.aio_connect_socket(client).unwrap();
    (conn, peer, connecting)
}

/// Greets a client and puts TLS between it and a peer that believes to greet it.
#[cfg(feature = "tls")]
pub(crate) async fn front(client: TcpStream, mut peer: DuplexStream) {
    let mut greeting = [0; 18];
    peer.read_exact(&mut greeting).await.unwrap();
    let mut client = upgrade(client).await;
    peer.write_all(&[0, 0, 0, 3]).await.unwrap();
    // Either may leave as it likes.
    let _ = copy_bidirectional(&mut client, &mut peer).await;
}

/// The violation that ended a connection.
#[track_caller]
pub(crate) fn violation<T: std::fmt::Debug>(result: Result<T, Error>) -> ProtocolError {
    match result {
        Err(Error::Protocol(violation, _)) => violation,
        other => panic!("not a violation: {other:?}"),
    }
}

/// Polls a future at most so often, then drops it: `None` if it was not done by then.
pub(crate) async fn drop_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        // It is polled again whether or not anything has happened.
        cx.waker().wake_by_ref();
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Waits for something that must happen, but not for ever.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    let limit = Duration::from_secs(60);
    let result = tokio::time::timeout(limit, future).await;
    result.expect("it has not happened after a minute")
}

/// Lets every other task run until it waits for something.
pub(crate) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

macro_rules! assert_matches {
    ($value:expr, $pattern:pat $(if $guard:expr)?) => {
        match $value {
            $pattern $(if $guard)? => {}
            other => panic!("{other:?}"),
        }
    };
}
pub(crate) use assert_matches;

/// A connection that is ready, over a pipe that holds so many bytes in each direction.
pub(crate) async fn narrow(style: ReplyStyle, capacity: usize) -> (Connection, Peer) {
    let (client, server) = tokio::io::duplex(capacity);
    ready_on(builder(style), style, Peer::new(server), client).await
}

/// Runs a future to its end without any runtime.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// A read's whole answer.
pub(crate) fn data(style: ReplyStyle, head: &RequestHead, data: &[u8]) -> Reply {
    if style == ReplyStyle::Simple {
        return Reply::simple(head.cookie, Errno::OK, Bytes::copy_from_slice(data));
    }
    let offset = (style == ReplyStyle::Extended).then_some(head.offset);
    let body = data_body(head.offset, data);
    Reply::chunk(
        head.cookie,
        offset,
        ReplyFlags::DONE,
        ChunkType::OFFSET_DATA,
        body,
    )
}

/// Random numbers that are the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    /// Starts from `NBD_SEED` if that is set, and prints where it started.
    pub(crate) fn seeded(default: u64) -> Self {
        let seed = std::env::var("NBD_SEED").map_or(default, |seed| {
            seed.parse().expect("NBD_SEED must be a number")
        });
        println!("NBD_SEED={seed}");
        Self::new(seed)
    }

    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) const fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
