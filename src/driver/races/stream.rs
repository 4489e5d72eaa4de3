//! A stream to a server that answers each request as soon as it has its head.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use shuttle::sync::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::wire::option::{ExportInfo, Greeting};
use crate::wire::reply::Reply;
use crate::wire::request::{COMPACT_REQUEST, RequestHead};
use crate::wire::{Command, Errno};

/// The server, and the socket to it.
#[derive(Default)]
struct Wire {
    /// What was written and not yet looked at.
    arrived: BytesMut,
    /// Payload of a request that was answered early.
    owed: usize,
    /// Bytes in all that have been written.
    written: usize,
    /// Bytes in all that the socket takes.
    room: usize,
    replies: BytesMut,
    is_over: bool,
    /// Whether it answers.
    is_held: bool,
    /// The commands that were answered, in order.
    answered: Vec<Command>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Wire {
    /// Looks at what was written, and answers.
    fn serve(&mut self) {
        while !self.is_held {
            let payload = self.owed.min(self.arrived.len());
            self.arrived.advance(payload);
            self.owed -= payload;
            if self.owed > 0 || self.arrived.len() < COMPACT_REQUEST {
                return;
            }
            let head = RequestHead::decode(false, &self.arrived).unwrap().unwrap();
            self.arrived.advance(COMPACT_REQUEST);
            if head.command == Command::DISC {
                self.is_over = true;
                return;
            }
            self.owed = usize::try_from(head.payload(false)).unwrap();
            let data = match head.command {
                Command::READ => vec![7; usize::try_from(head.length).unwrap()],
                _ => Vec::new(),
            };
            self.answered.push(head.command);
            Reply::simple(head.cookie, Errno::OK, data.into()).encode(&mut self.replies);
        }
    }
}

/// One end of the stream: both halves, and what a test holds of it.
#[derive(Clone, Default)]
pub(crate) struct Stream(Arc<Mutex<Wire>>);

impl Stream {
    /// The socket takes so many bytes more.
    pub(super) fn drain(&self, bytes: usize) {
        let waker = {
            let mut wire = self.0.lock().unwrap();
            wire.room += bytes;
            wire.writer.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// A stream to an oldstyle server: the handshake is what it says.
    pub(crate) fn greeting(export: ExportInfo) -> Self {
        let stream = Self::default();
        stream.drain(usize::MAX);
        Greeting::Oldstyle(export).encode(&mut stream.0.lock().unwrap().replies);
        stream
    }

    /// The server answers no more, or goes on.
    pub(crate) fn hold(&self, is_held: bool) {
        self.change(|wire| {
            wire.is_held = is_held;
            wire.serve();
        });
    }

    /// The server hangs up. What it has answered may not arrive any more.
    pub(crate) fn cut(&self) {
        self.change(|wire| {
            wire.replies.clear();
            wire.is_over = true;
        });
    }

    /// The commands that were answered, in order.
    pub(crate) fn answered(&self) -> Vec<Command> {
        self.0.lock().unwrap().answered.clone()
    }

    fn change(&self, change: impl FnOnce(&mut Wire)) {
        let waker = {
            let mut wire = self.0.lock().unwrap();
            change(&mut wire);
            wire.reader.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn written(&self) -> usize {
        self.0.lock().unwrap().written
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut wire = self.0.lock().unwrap();
        let count = wire.replies.len().min(buf.remaining());
        if count == 0 && !wire.is_over {
            wire.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        buf.put_slice(&wire.replies.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (count, waker) = {
            let mut wire = self.0.lock().unwrap();
            if wire.is_over {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            // The head of a request and its payload are written apart.
            let most = COMPACT_REQUEST.min(wire.room - wire.written);
            let count = bytes.len().min(most);
            if count == 0 {
                wire.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            wire.written += count;
            wire.arrived.extend_from_slice(&bytes[..count]);
            wire.serve();
            (count, wire.reader.take())
        };
        waker.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
