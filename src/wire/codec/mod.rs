//! The messages as `tokio_util::codec` decoders and encoders.
//!
//! Client and server share them: what one encodes the other decodes. The transmission codecs
//! stop at the head of a message that carries bulk data, so that data can go from the socket to
//! its buffer without passing through a frame.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::error::ProtocolError;
use super::num::{ClientFlags, HandshakeFlags};
use super::option::{
    ClientMessage, ExportInfo, Greeting, MAX_OPTION_REQUEST, OptionReply, OptionRequest,
};
use super::reply::{Reply, ReplyHead, ReplyStyle};
use super::request::{RequestHead, header_length};

/// A failure of a framed stream: an I/O error, or bytes that break the protocol.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The stream failed or ended.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The peer broke the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// What the server sends during the handshake.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServerMessage {
    /// The greeting.
    Greeting(Greeting),
    /// A reply to an option.
    Reply(OptionReply),
    /// The answer to `EXPORT_NAME`.
    Export(ExportInfo),
}

impl ServerMessage {
    /// How many bytes the message has; `padding` if zeroes follow an export.
    #[must_use]
    pub fn length(&self, padding: bool) -> usize {
        match self {
            Self::Greeting(Greeting::Oldstyle(_)) => 152,
            Self::Greeting(Greeting::Newstyle(_)) => 18,
            Self::Reply(reply) => reply.payload.len().saturating_add(20),
            Self::Export(_) if padding => 134,
            Self::Export(_) => 10,
        }
    }
}

/// What the client expects next.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Expect {
    /// The greeting.
    #[default]
    Greeting,
    /// A reply to an option.
    Reply,
    /// The answer to `EXPORT_NAME`, with or without its zeroes.
    Export {
        /// Whether 124 zero bytes follow.
        padding: bool,
    },
}

/// The client's side of the handshake.
#[derive(Clone, Copy, Debug, Default)]
pub struct OptionCodec {
    expect: Expect,
}

impl OptionCodec {
    /// Sets which message is expected next.
    pub const fn expect(&mut self, expect: Expect) {
        self.expect = expect;
    }
}

impl Decoder for OptionCodec {
    type Item = ServerMessage;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<ServerMessage>, CodecError> {
        Ok(match self.expect {
            Expect::Greeting => Greeting::decode(src)?.map(ServerMessage::Greeting),
            Expect::Reply => OptionReply::decode(src)?.map(ServerMessage::Reply),
            Expect::Export { padding } => {
                ExportInfo::decode(padding, src).map(ServerMessage::Export)
            }
        })
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<ServerMessage>, CodecError> {
        match self.decode(src)? {
            None => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            message => Ok(message),
        }
    }
}

impl Encoder<ClientMessage> for OptionCodec {
    type Error = CodecError;

    fn encode(&mut self, message: ClientMessage, out: &mut BytesMut) -> Result<(), CodecError> {
        match message {
            ClientMessage::Flags(flags) => out.extend_from_slice(&flags.bits().to_be_bytes()),
            ClientMessage::Option(request) => request.encode(out),
        }
        Ok(())
    }
}

/// The server's side of the handshake.
#[derive(Clone, Copy, Debug)]
pub struct ServerOptionCodec {
    offered: HandshakeFlags,
    greeted: bool,
    /// Whether 124 zeroes follow the answer to `EXPORT_NAME`.
    pads: bool,
}

impl ServerOptionCodec {
    /// A codec for a server that offers `offered` and waits for the client's flags.
    #[must_use]
    pub const fn new(offered: HandshakeFlags) -> Self {
        Self {
            offered,
            greeted: false,
            pads: false,
        }
    }
}

impl Decoder for ServerOptionCodec {
    type Item = ClientMessage;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<ClientMessage>, CodecError> {
        if self.greeted {
            src.reserve(src.len().min(MAX_OPTION_REQUEST as usize));
            return Ok(OptionRequest::decode(src)?.map(ClientMessage::Option));
        }
        let Ok(bits) = (&src[..]).try_get_u32() else {
            return Ok(None);
        };
        // P-013 to P-015: only what was offered may be answered.
        if bits & !u32::from(self.offered.bits()) != 0 {
            return Err(ProtocolError::ClientFlags(bits).into());
        }
        src.advance(4);
        let flags = ClientFlags::from_bits_retain(bits);
        self.greeted = true;
        self.pads = !flags.contains(ClientFlags::NO_ZEROES);
        Ok(Some(ClientMessage::Flags(flags)))
    }
}

impl Encoder<ServerMessage> for ServerOptionCodec {
    type Error = CodecError;

    fn encode(&mut self, message: ServerMessage, out: &mut BytesMut) -> Result<(), CodecError> {
        match message {
            ServerMessage::Greeting(greeting) => greeting.encode(out),
            ServerMessage::Reply(reply) => reply.encode(out),
            ServerMessage::Export(export) => export.encode(self.pads, out),
        }
        Ok(())
    }
}

/// The client's side of the transmission phase: heads of replies in, heads of requests out.
///
/// After a head, its body follows in the stream: [`ReplyHead::Chunk`] says how long it is, and a
/// simple reply to a read is followed by as much as was asked for.
#[derive(Clone, Copy, Debug)]
pub struct ReplyCodec {
    style: ReplyStyle,
}

impl ReplyCodec {
    /// A codec for the form of replies that was negotiated.
    #[must_use]
    pub const fn new(style: ReplyStyle) -> Self {
        Self { style }
    }

    /// The form of replies.
    #[must_use]
    pub const fn style(&self) -> ReplyStyle {
        self.style
    }

    /// Takes the head of a reply from the front of `src`, if it is there in full.
    ///
    /// # Errors
    /// If the bytes are no head of the style of replies that was negotiated.
    #[inline]
    pub fn take(&self, src: &mut BytesMut) -> Result<Option<ReplyHead>, ProtocolError> {
        let Some((head, used)) = ReplyHead::decode(self.style, src)? else {
            return Ok(None);
        };
        src.advance(used);
        Ok(Some(head))
    }

    /// Appends the head of a request.
    #[inline]
    pub fn put(&self, head: &RequestHead, out: &mut impl BufMut) {
        head.encode(self.style == ReplyStyle::Extended, out);
    }
}

impl Decoder for ReplyCodec {
    type Item = ReplyHead;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<ReplyHead>, CodecError> {
        Ok(self.take(src)?)
    }
}

impl Encoder<RequestHead> for ReplyCodec {
    type Error = CodecError;

    fn encode(&mut self, head: RequestHead, out: &mut BytesMut) -> Result<(), CodecError> {
        self.put(&head, out);
        Ok(())
    }
}

/// A request with its payload, as a server receives it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// The header.
    pub head: RequestHead,
    /// The data of a write, or the context list of a block status.
    pub payload: Bytes,
}

/// The server's side of the transmission phase: requests in, replies out.
#[derive(Clone, Copy, Debug)]
pub struct RequestCodec {
    extended: bool,
    max_payload: u64,
}

impl RequestCodec {
    /// A codec that takes payloads of up to `max_payload` bytes.
    #[must_use]
    pub const fn new(style: ReplyStyle, max_payload: u64) -> Self {
        Self {
            extended: matches!(style, ReplyStyle::Extended),
            max_payload,
        }
    }
}

impl Decoder for RequestCodec {
    type Item = Request;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Request>, CodecError> {
        let Some(head) = RequestHead::decode(self.extended, src)? else {
            return Ok(None);
        };
        let payload = head.payload(self.extended);
        let length = usize::try_from(payload)
            .ok()
            .filter(|_| payload <= self.max_payload);
        let Some(length) = length else {
            return Err(ProtocolError::length("request payload", payload).into());
        };
        let whole = header_length(self.extended).saturating_add(length);
        if src.len() < whole {
            src.reserve(whole.saturating_sub(src.len()));
            return Ok(None);
        }
        src.advance(header_length(self.extended));
        Ok(Some(Request {
            head,
            payload: src.split_to(length).freeze(),
        }))
    }
}

impl Encoder<Reply> for RequestCodec {
    type Error = CodecError;

    fn encode(&mut self, reply: Reply, out: &mut BytesMut) -> Result<(), CodecError> {
        reply.encode(out);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
