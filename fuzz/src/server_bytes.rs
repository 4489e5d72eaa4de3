//! A whole client, and a server that sends bytes whatever the client says.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use futures::StreamExt;
use nbd_client::testing::{Export, Server};
use nbd_client::wire::ReplyStyle;
use nbd_client::{Connection, Error, Result};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::assert_printable;
use super::connection::{self, DEADLINE, builder};
use super::wire::style_of;

/// What the first byte of an input says: the form of replies to ask for (3), and these.
const OPTION_MODE: u8 = 0x10;
const CLOSES: u8 = 0x20;
/// The bytes come one by one.
const DRIPS: u8 = 0x40;
/// The server does not wait to be asked.
const IMPATIENT: u8 = 0x80;

/// After the first byte come two with the length of the handshake, the handshake, and what is
/// sent once the client has asked for something.
pub fn server_bytes(data: &[u8]) {
    let Some(([knobs, high, low], data)) = data.split_first_chunk() else {
        return;
    };
    let handshake = usize::from(u16::from_be_bytes([*high, *low])).min(data.len());
    let (handshake, rest) = data.split_at(handshake);
    connection::run(async {
        let (stream, server) = duplex(64 << 10);
        let asked = Notify::new();
        tokio::join!(
            client(*knobs, stream, &asked),
            serve(*knobs, server, handshake, rest, &asked),
        );
    });
}

/// Sends what the input says, and listens to nothing.
async fn serve(knobs: u8, stream: DuplexStream, handshake: &[u8], rest: &[u8], asked: &Notify) {
    let (mut read, mut write) = tokio::io::split(stream);
    let step = if knobs & DRIPS == 0 { usize::MAX } else { 1 };
    let send = async {
        for (part, waits) in [(handshake, false), (rest, knobs & IMPATIENT == 0)] {
            if waits {
                asked.notified().await;
            }
            for piece in part.chunks(step) {
                // The client may have left.
                if write.write_all(piece).await.is_err() {
                    return;
                }
                if knobs & DRIPS != 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
        if knobs & CLOSES != 0 {
            let _ = write.shutdown().await;
        }
    };
    let listen = async {
        let mut sink = [0; 4096];
        while matches!(read.read(&mut sink).await, Ok(1..)) {}
    };
    tokio::join!(send, listen);
}

/// Connects, asks for one of everything, and leaves.
async fn client(
    knobs: u8,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    asked: &Notify,
) {
    let option_mode = knobs & OPTION_MODE != 0;
    let conn = builder(style_of(knobs & 0x0f))
        .opt_mode(option_mode)
        .build();
    if said(conn.connect_stream(stream).await).is_some() {
        if option_mode && conn.is_negotiating() {
            negotiate(&conn).await;
        }
        if conn.is_ready() {
            use_all(&conn, asked).await;
        }
    }
    // Whoever waits to be asked need not.
    asked.notify_one();
    said(conn.disconnect().timeout(DEADLINE).await);
    assert_eq!(conn.in_flight(), 0);
    assert!(conn.is_closed() || conn.is_dead());
}

async fn negotiate(conn: &Connection) {
    let all = async {
        if let Some(exports) = said(conn.opt_list().await) {
            for export in exports {
                assert_printable(&format!("{export:?}"));
            }
        }
        said(conn.opt_list_meta_context([""; 0]).await);
        said(conn.opt_info().await);
        said(conn.opt_go().await);
    };
    // Options have no deadline of their own.
    if timeout(DEADLINE, all).await.is_err() {
        let abort = async { said(conn.opt_abort().await) };
        let _ = timeout(DEADLINE, abort).await;
    }
}

async fn use_all(conn: &Connection, asked: &Notify) {
    // Each is polled before the server goes on, and in this order.
    let chunks = async {
        let mut chunks = conn.read_structured(2048, 1024).timeout(DEADLINE);
        let mut length = 0;
        while let Some(chunk) = chunks.next().await {
            match said(chunk) {
                Some(chunk) => length += chunk.length(),
                None => return,
            }
        }
        assert_eq!(length, 1024, "a part of it is missing");
    };
    let status = async {
        if let Some(status) = said(conn.block_status(0, 65536).timeout(DEADLINE).await) {
            for (_, extents) in status.iter() {
                assert!(extents.iter().all(|extent| extent.length > 0));
            }
        }
    };
    let read = |offset, length: usize| async move {
        let data = said(conn.read(offset, length).timeout(DEADLINE).await);
        assert!(data.is_none_or(|data| data.len() == length));
    };
    tokio::join!(
        read(0, 512),
        async { said(conn.write(512, "some data").timeout(DEADLINE).await) },
        async { said(conn.flush().timeout(DEADLINE).await) },
        async { said(conn.trim(1024, 512).timeout(DEADLINE).await) },
        async { said(conn.write_zeroes(4096, 4096).timeout(DEADLINE).await) },
        async { said(conn.cache(0, 4096).timeout(DEADLINE).await) },
        read(65536, 300),
        chunks,
        status,
        async { asked.notify_one() },
    );
}

/// What a result is worth; an error is fit to be printed.
fn said<T>(result: Result<T>) -> Option<T> {
    let show = |error: &Error| assert_printable(&format!("{error} {error:?}"));
    result.inspect_err(show).ok()
}

/// What a real server says to this client: an input to start from.
pub fn record(style: ReplyStyle, knobs: u8) -> Vec<u8> {
    let knobs = knobs
        | match style {
            ReplyStyle::Simple => 0,
            ReplyStyle::Structured => 1,
            ReplyStyle::Extended => 2,
        };
    let log = Arc::new(Mutex::new(Log::default()));
    connection::run(async {
        let disk = Export::new(1 << 20);
        disk.fill(0, 1 << 17, 7);
        let server = Server::builder().export("", disk).build();
        let stream = Recorder {
            stream: server.connect(),
            log: log.clone(),
        };
        client(knobs, stream, &Notify::new()).await;
    });
    let log = log.lock().expect("nothing has panicked");
    let handshake = u16::try_from(log.handshake).expect("a short handshake");
    [&[knobs][..], &handshake.to_be_bytes(), &log.bytes].concat()
}

#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    /// How many of them came before the client's first request.
    handshake: usize,
    transmission: bool,
}

struct Recorder {
    stream: DuplexStream,
    log: Arc<Mutex<Log>>,
}

impl AsyncRead for Recorder {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let mut log = self.log.lock().expect("nothing has panicked");
        log.bytes.extend_from_slice(&buf.filled()[before..]);
        if !log.transmission {
            log.handshake = log.bytes.len();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Recorder {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        // Both forms of requests start with their magic, and nothing else does.
        let starts = [[0x25, 0x60, 0x95, 0x13], [0x21, 0xe4, 0x1c, 0x71]];
        self.log.lock().expect("nothing has panicked").transmission |=
            starts.iter().any(|start| buf.starts_with(start));
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
