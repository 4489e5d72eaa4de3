//! A server that does what a script says: for tests of a client against lies, stalls and ends.

mod handshake;

use std::fmt;
use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_util::codec::Decoder;

use crate::wire::codec::{CodecError, Request, RequestCodec};
use crate::wire::reply::{Reply, data_body, error_body};
use crate::wire::request::RequestHead;
use crate::wire::{ChunkType, Command, Errno, ReplyFlags, ReplyStyle};

/// Bytes that each direction of an in-memory connection can hold.
const DUPLEX_CAPACITY: usize = 256 * 1024;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The server's end of one connection, played by a script: expect a message, send a message.
///
/// Nothing happens by itself, and nothing that is sent is checked: [`send_reply`](Self::send_reply)
/// and [`send_bytes`](Self::send_bytes) can say anything. What comes from the client is decoded
/// as the protocol says; a client that breaks it makes the call fail.
///
/// Every `expect` call waits for as long as it takes, fails when the client leaves, and is safe
/// to cancel: bytes that arrived are kept. A `send` call that is cancelled may have sent a part.
///
/// # Examples
/// A server that answers a read with data for another offset:
/// ```
/// use nbd_client::testing::Peer;
/// use nbd_client::wire::option::ExportInfo;
/// use nbd_client::wire::reply::data_body;
/// use nbd_client::wire::{ChunkType, Command, ReplyStyle, TransmissionFlags};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let (mut peer, stream) = Peer::pair();
/// let script = tokio::spawn(async move {
///     let info = ExportInfo { size: 1 << 20, flags: TransmissionFlags::HAS_FLAGS };
///     peer.handshake(ReplyStyle::Structured, info, &[]).await?;
///     let read = peer.expect_command(Command::READ).await?.head;
///     let body = data_body(read.offset + 512, &[0; 512]);
///     peer.send_reply(peer.last_chunk(&read, ChunkType::OFFSET_DATA, body)).await?;
///     peer.expect_end().await
/// });
/// // … a client reads over `stream`, fails, and closes …
/// # drop(stream);
/// # assert!(script.await.unwrap().is_err());
/// # });
/// ```
pub struct Peer {
    stream: Box<dyn Stream>,
    /// Bytes that were received and not yet decoded.
    input: BytesMut,
    /// All bytes that were received.
    received: Vec<u8>,
    style: ReplyStyle,
}

impl Peer {
    /// Plays the server on `stream`.
    pub fn new(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            input: BytesMut::new(),
            received: Vec::new(),
            style: ReplyStyle::Simple,
        }
    }

    /// A peer and the stream for its client, in memory.
    #[must_use]
    pub fn pair() -> (Self, DuplexStream) {
        let (client, server) = tokio::io::duplex(DUPLEX_CAPACITY);
        (Self::new(server), client)
    }

    /// All bytes that were received so far, whether an `expect` call took them or not.
    #[must_use]
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the client is gone.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), CodecError> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Ends the direction to the client; what it sends can still be received.
    ///
    /// # Errors
    /// If the client is gone.
    pub async fn half_close(&mut self) -> Result<(), CodecError> {
        Ok(self.stream.shutdown().await?)
    }

    /// Closes the connection. Dropping the peer does the same.
    pub fn close(self) {}

    /// Waits for the client to end its direction.
    ///
    /// # Errors
    /// If anything else comes, or came and no `expect` call took it.
    pub async fn expect_end(&mut self) -> Result<(), CodecError> {
        while self.input.is_empty() {
            if !self.receive().await? {
                return Ok(());
            }
        }
        Err(unexpected(format_args!(
            "{} bytes instead of the end",
            self.input.len()
        )))
    }

    /// Takes the next message with `codec`.
    async fn expect<C>(&mut self, mut codec: C) -> Result<C::Item, CodecError>
    where
        C: Decoder<Error = CodecError>,
    {
        loop {
            if let Some(message) = codec.decode(&mut self.input)? {
                return Ok(message);
            }
            self.receive_more().await?;
        }
    }

    /// Receives some bytes of a message that is not complete.
    async fn receive_more(&mut self) -> Result<(), CodecError> {
        if self.receive().await? {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
        }
    }

    /// Receives some bytes; false at the end of the stream.
    async fn receive(&mut self) -> Result<bool, CodecError> {
        self.input.reserve(64 * 1024);
        let count = self.stream.read_buf(&mut self.input).await?;
        let new = self.input.len() - count;
        self.received.extend_from_slice(&self.input[new..]);
        Ok(count > 0)
    }
}

/// The transmission phase.
impl Peer {
    /// Sets the form of requests and replies, after a handshake that was played step by step.
    pub const fn speak(&mut self, style: ReplyStyle) {
        self.style = style;
    }

    /// Waits for a request, with its payload.
    ///
    /// # Errors
    /// If the client is gone or sends something else.
    pub async fn expect_request(&mut self) -> Result<Request, CodecError> {
        let codec = RequestCodec::new(self.style, u32::MAX.into());
        self.expect(codec).await
    }

    /// Waits for the head of the next request, and leaves the request to be taken: its payload may
    /// still be on its way.
    ///
    /// # Errors
    /// If the client is gone or sends something else.
    pub async fn expect_head(&mut self) -> Result<RequestHead, CodecError> {
        let extended = self.style == ReplyStyle::Extended;
        loop {
            if let Some(head) = RequestHead::decode(extended, &self.input)? {
                return Ok(head);
            }
            self.receive_more().await?;
        }
    }

    /// Waits for a request, which must be this command.
    ///
    /// # Errors
    /// If the client is gone or sends something else.
    pub async fn expect_command(&mut self, command: Command) -> Result<Request, CodecError> {
        let request = self.expect_request().await?;
        if request.head.command == command {
            Ok(request)
        } else {
            Err(unexpected(format_args!(
                "{} instead of {command}",
                request.head.command
            )))
        }
    }

    /// Sends a simple reply or a chunk: its head as it is, then its body.
    ///
    /// # Errors
    /// If the client is gone.
    pub async fn send_reply(&mut self, reply: Reply) -> Result<(), CodecError> {
        let mut bytes = BytesMut::new();
        reply.encode(&mut bytes);
        self.send_bytes(&bytes).await
    }

    /// Reports success for a command without content.
    ///
    /// # Errors
    /// If the client is gone.
    pub async fn acknowledge(&mut self, request: &RequestHead) -> Result<(), CodecError> {
        let reply = match self.style {
            ReplyStyle::Simple => Reply::simple(request.cookie, Errno::OK, Bytes::new()),
            _ => self.last_chunk(request, ChunkType::NONE, Bytes::new()),
        };
        self.send_reply(reply).await
    }

    /// Answers a read with `data`, however long, as one piece.
    ///
    /// # Errors
    /// If the client is gone.
    pub async fn send_data(
        &mut self,
        request: &RequestHead,
        data: &[u8],
    ) -> Result<(), CodecError> {
        let reply = match self.style {
            ReplyStyle::Simple => {
                let data = Bytes::copy_from_slice(data);
                Reply::simple(request.cookie, Errno::OK, data)
            }
            _ => {
                let body = data_body(request.offset, data);
                self.last_chunk(request, ChunkType::OFFSET_DATA, body)
            }
        };
        self.send_reply(reply).await
    }

    /// Fails a command; the message goes with chunks only.
    ///
    /// # Errors
    /// If the client is gone.
    pub async fn send_error(
        &mut self,
        request: &RequestHead,
        error: Errno,
        message: &str,
    ) -> Result<(), CodecError> {
        let reply = match self.style {
            ReplyStyle::Simple => Reply::simple(request.cookie, error, Bytes::new()),
            _ => {
                let body = error_body(error, message, None);
                self.last_chunk(request, ChunkType::ERROR, body)
            }
        };
        self.send_reply(reply).await
    }

    /// Makes a chunk that more chunks follow, in the form that was agreed.
    #[must_use]
    pub fn chunk(&self, request: &RequestHead, kind: ChunkType, body: Bytes) -> Reply {
        self.chunk_with(request, ReplyFlags::empty(), kind, body)
    }

    /// Makes the last chunk of a reply, in the form that was agreed.
    #[must_use]
    pub fn last_chunk(&self, request: &RequestHead, kind: ChunkType, body: Bytes) -> Reply {
        self.chunk_with(request, ReplyFlags::DONE, kind, body)
    }

    fn chunk_with(
        &self,
        request: &RequestHead,
        flags: ReplyFlags,
        kind: ChunkType,
        body: Bytes,
    ) -> Reply {
        let offset = (self.style == ReplyStyle::Extended).then_some(request.offset);
        Reply::chunk(request.cookie, offset, flags, kind, body)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("style", &self.style)
            .field("received", &self.received.len())
            .finish_non_exhaustive()
    }
}

/// The error if a client keeps to the protocol, but does not do what the script expects.
fn unexpected(what: impl fmt::Display) -> CodecError {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string()).into()
}
