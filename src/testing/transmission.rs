//! The transmission phase of one connection: requests in, replies out, neither waiting for the
//! other.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::codec::Decoder;
use tokio_util::io::poll_read_buf;

use crate::wire::Command;
use crate::wire::codec::{CodecError, RequestCodec};

use super::command::ServerSession;
use super::handshake::Agreed;
use super::reply_gate::Subscription;
use super::reply_queue::ReplyQueue;
use super::server::ServerState;
use super::shaper::Shaper;

/// How much is read at once: some dozens of requests of 4 KiB with their data.
const READ_AHEAD: usize = 256 * 1024;
/// P-119: payloads of up to 32 MiB are never a reason to disconnect.
const TOLERATED_PAYLOAD: u32 = 32 << 20;

/// Serves requests until the client says goodbye or leaves.
pub(super) async fn run<S>(
    server: &ServerState,
    agreed: Agreed,
    news: Subscription,
    io: S,
) -> Result<(), CodecError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let maximum = agreed.export.settings().blocks.maximum;
    let mut transmission = ServerTransmission {
        codec: RequestCodec::new(agreed.style, maximum.max(TOLERATED_PAYLOAD).into()),
        session: ServerSession {
            server,
            export: agreed.export,
            flags: agreed.flags,
            style: agreed.style,
            contexts: agreed.contexts,
        },
        io,
        input: agreed.input,
        queue: ReplyQueue::default(),
        shaper: Shaper::new(&server.gate, server.knobs.order),
        news,
        reading: true,
        cut_short: false,
    };
    // Requests may have arrived together with the end of the handshake.
    let end = match transmission.take_requests()? {
        Some(end) => end,
        None => poll_fn(|cx| transmission.poll(cx)).await?,
    };
    if transmission.cut_short {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    if matches!(end, End::Done) {
        // The client may have left; then the error is not read.
        let _ = transmission.io.shutdown().await;
    }
    Ok(())
}

enum End {
    /// The client is done, and all replies are written.
    Done,
    /// This side breaks off.
    HungUp,
}

struct ServerTransmission<'a, S> {
    session: ServerSession<'a>,
    io: S,
    codec: RequestCodec,
    input: BytesMut,
    queue: ReplyQueue,
    shaper: Shaper<'a>,
    news: Subscription,
    /// Whether more requests can come.
    reading: bool,
    /// Whether the stream ended inside a request.
    cut_short: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ServerTransmission<'_, S> {
    /// Does what can be done now. Each round polls both directions: a client that writes
    /// without reading, or the reverse, is served as far as it goes.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<End, CodecError>> {
        loop {
            let mut moved = false;
            while let Poll::Ready(hang_up) = self.news.poll(cx) {
                if hang_up {
                    return Poll::Ready(Ok(End::HungUp));
                }
            }
            if self.reading {
                self.input.reserve(READ_AHEAD);
                match poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input)? {
                    Poll::Ready(0) => {
                        self.reading = false;
                        self.cut_short = !self.input.is_empty();
                    }
                    Poll::Ready(_) => {
                        moved = true;
                        if let Some(end) = self.take_requests()? {
                            return Poll::Ready(Ok(end));
                        }
                    }
                    Poll::Pending => {}
                }
            }
            if !self.shaper.is_empty() {
                moved |= self.shaper.poll(cx, &self.session, &mut self.queue);
            }
            if !self.queue.is_empty() {
                match self.queue.poll_write(cx, Pin::new(&mut self.io)) {
                    Poll::Ready(written) => written?,
                    Poll::Pending => {}
                }
            }
            if !self.reading && self.shaper.is_empty() && self.queue.is_empty() {
                return Poll::Ready(Ok(End::Done));
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    /// Handles every request that arrived in full.
    fn take_requests(&mut self) -> Result<Option<End>, CodecError> {
        let knobs = &self.session.server.knobs;
        let gate = &self.session.server.gate;
        let at_once = !knobs.shapes_replies() && !gate.is_paused() && self.shaper.is_empty();
        let mut received = 0;
        while self.reading {
            let Some(request) = self.codec.decode(&mut self.input)? else {
                break;
            };
            received += 1;
            self.session.export.record(&request.head);
            let hang_up = knobs.hang_up.as_ref();
            if hang_up.is_some_and(|hang_up| hang_up(&request.head)) {
                return Ok(Some(End::HungUp));
            }
            if request.head.command == Command::DISC {
                // P-144: nothing follows, and there is no reply.
                self.reading = false;
                self.input.clear();
            } else if at_once {
                let queue = &mut self.queue;
                self.session
                    .execute(&request, &mut |message| queue.push(message));
            } else {
                self.shaper.push(request);
            }
        }
        if received > 0 {
            gate.add_received(received);
        }
        Ok(None)
    }
}
