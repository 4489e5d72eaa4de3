//! The messages of the handshake: one linear `async fn` for each thing to agree on.

mod context;
mod export;
mod tls;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::BytesMut;
use futures::{Sink, Stream as _};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout_at};
use tokio_util::codec::Framed;

use super::inner::Inner;
use crate::error::{Error, Phase, Refusal, Result};
use crate::export::{Export, Handshake, Protocol};
use crate::limits::Limits;
use crate::transport::tls::{TlsInfo, TlsMode};
use crate::transport::{Joined, Transport};
use crate::wire::codec::{CodecError, Expect, OptionCodec, ServerMessage};
use crate::wire::option::{ClientMessage, ExportInfo, Greeting, OptionReply, OptionRequest};
use crate::wire::{
    ClientFlags, HandshakeFlags, OptionReplyType, OptionType, ProtocolError, ReplyStyle,
};

use context::Selection;
pub(super) use export::Ask;
use tls::not_possible;

/// The kind of greeting that the server sent.
#[derive(Debug)]
pub(super) enum Greeted {
    /// Oldstyle: transmission begins at once.
    Oldstyle(ExportInfo),
    /// Newstyle: options can be sent.
    Newstyle,
}

/// One handshake: the stream, and what has been agreed so far.
pub(super) struct Negotiator {
    inner: Arc<Inner>,
    framed: Framed<Joined, OptionCodec>,
    pub(super) handshake: Handshake,
    /// The handshake flags that both sides agreed on.
    agreed: HandshakeFlags,
    pub(super) style: ReplyStyle,
    /// The last selection of contexts.
    selected: Option<Selection>,
    tls: Option<TlsInfo>,
    /// Whether nothing has come through TLS yet, so that the server may still reject this client.
    unaccepted: bool,
}

impl Negotiator {
    pub(super) fn new(inner: Arc<Inner>, transport: Transport) -> Self {
        let codec = OptionCodec::default();
        Self {
            inner,
            framed: Framed::new(transport.join(), codec),
            handshake: Handshake::Oldstyle,
            agreed: HandshakeFlags::empty(),
            style: ReplyStyle::Simple,
            selected: None,
            tls: None,
            unaccepted: false,
        }
    }

    /// Returns whether 124 zeroes follow the answer to `EXPORT_NAME`.
    const fn is_padded(&self) -> bool {
        !self.agreed.contains(HandshakeFlags::NO_ZEROES)
    }

    fn limits(&self) -> &Limits {
        &self.inner.config.limits
    }

    /// Returns the transport and the bytes that were read ahead.
    pub(super) fn into_transport(self) -> (Transport, BytesMut) {
        let parts = self.framed.into_parts();
        (parts.io.into(), parts.read_buf)
    }

    /// Creates the export from size and flags, as far as the agreed features allow.
    fn export(&self, name: &str, info: ExportInfo) -> Result<Export, ProtocolError> {
        let mut export = Export::new(name, info.size, info.flags, self.style)?;
        export.payload_limit = self.limits().payload;
        export.read_only = self.inner.config.read_only;
        // P-058, P-085: contexts count only for the export that they were selected for; P-062: and
        // only with structured replies.
        let has_contexts = self.style != ReplyStyle::Simple;
        let selected = self.selected.as_ref().filter(|_| has_contexts);
        if let Some(selection) = selected.filter(|selection| selection.export == name) {
            export.contexts.clone_from(&selection.contexts);
            export.strays.clone_from(&selection.strays);
        }
        Ok(export)
    }

    /// Returns the features that were negotiated.
    pub(super) const fn protocol(&self) -> Protocol {
        Protocol {
            handshake: self.handshake,
            handshake_flags: self.agreed,
            structured_replies: !matches!(self.style, ReplyStyle::Simple),
            extended_headers: matches!(self.style, ReplyStyle::Extended),
        }
    }

    /// Waits until the server closes the connection, or sends a message that nothing asked for.
    /// Returns the error.
    pub(super) async fn unsolicited(&mut self) -> Error {
        match self.receive(Phase::Handshake).await {
            Ok(ServerMessage::Reply(reply)) => unexpected(&reply),
            Ok(_) => ProtocolError::OptionReplyMagic(0).into(),
            Err(error) => error,
        }
    }

    /// Returns the export of an oldstyle greeting.
    pub(super) fn oldstyle_export(&self, info: ExportInfo) -> Result<Export> {
        Ok(self.export("", info)?)
    }

    /// Reads the greeting, and answers it with the flags of `accept` that the server offers.
    ///
    /// If TLS is required, nothing is sent to a server that cannot negotiate it.
    pub(super) async fn greet(&mut self, accept: HandshakeFlags, tls: TlsMode) -> Result<Greeted> {
        let ServerMessage::Greeting(greeting) = self.receive(Phase::Greeting).await? else {
            return Err(ProtocolError::UnknownHandshake(0).into());
        };
        let offered = match greeting {
            Greeting::Oldstyle(_) if tls == TlsMode::Require => {
                return Err(not_possible("it speaks the oldstyle handshake"));
            }
            Greeting::Oldstyle(info) => return Ok(Greeted::Oldstyle(info)),
            Greeting::Newstyle(offered) => offered,
        };
        // P-013 to P-015: only flags that are known and were offered.
        let agreed = offered & accept & HandshakeFlags::all();
        self.handshake = if agreed.contains(HandshakeFlags::FIXED_NEWSTYLE) {
            Handshake::FixedNewstyle
        } else {
            Handshake::Newstyle
        };
        // P-091: no STARTTLS without fixed newstyle.
        if self.handshake == Handshake::Newstyle && tls == TlsMode::Require {
            return Err(not_possible("fixed newstyle was not agreed"));
        }
        self.agreed = agreed;
        let flags = ClientFlags::from_bits_retain(agreed.bits().into());
        self.send(ClientMessage::Flags(flags))?;
        self.expect(Expect::Reply);
        Ok(Greeted::Newstyle)
    }

    /// Asks for a feature that has no parameters. Returns `false` if the server refuses it.
    pub(super) async fn feature(&mut self, option: OptionType) -> Result<bool> {
        self.start(OptionRequest::bare(option))?;
        match self.finish(option).await {
            Ok(()) => {
                match option {
                    // extended headers take precedence.
                    OptionType::EXTENDED_HEADERS => self.style = ReplyStyle::Extended,
                    OptionType::STRUCTURED_REPLY if self.style == ReplyStyle::Simple => {
                        self.style = ReplyStyle::Structured;
                    }
                    _ => {}
                }
                Ok(true)
            }
            // P-025, P-061, X-02: the client goes on without the feature.
            Err(Error::Refused(refusal)) if !refusal.is_shutdown() => {
                tracing::debug!(%refusal, "the server refused a feature");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Ends the negotiation with `ABORT`.
    pub(super) async fn abort(&mut self) -> Result<()> {
        // P-035: ABORT carries no data.
        self.start(OptionRequest::bare(OptionType::ABORT))?;
        // P-034: a server may close without an answer.
        match self.reply(OptionType::ABORT).await {
            Ok(_) | Err(Error::Disconnected(..) | Error::Tls(..) | Error::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        if self.tls.is_some() {
            // P-106: close_notify comes before the end. A server that has gone need not get it.
            let _ = self.framed.get_mut().shutdown().await;
        }
        Ok(())
    }

    /// Ends the session politely, if the handshake allows it, and does not wait longer than `until`
    /// for the server to agree: a silent server must not hide why the client leaves (P-031).
    pub(super) async fn leave(&mut self, until: Instant) {
        // P-016: without fixed newstyle, ABORT may not be sent.
        if self.handshake != Handshake::FixedNewstyle {
            return;
        }
        let inner = self.inner.clone();
        tokio::select! {
            _ = timeout_at(until, self.abort()) => {}
            () = inner.given_up.cancelled() => {}
        }
    }

    /// Waits for the `ACK` to an option that has no other replies.
    async fn finish(&mut self, option: OptionType) -> Result<()> {
        let reply = self.reply(option).await?;
        match reply.reply {
            OptionReplyType::ACK => Ok(()),
            _ => Err(unexpected(&reply)),
        }
    }

    /// Waits for the next reply to `option`. A refusal is an error.
    async fn reply(&mut self, option: OptionType) -> Result<OptionReply> {
        let message = self.receive(Phase::Handshake).await?;
        let ServerMessage::Reply(reply) = message else {
            return Err(ProtocolError::OptionReplyMagic(0).into());
        };
        tracing::trace!(
            option = %reply.option,
            reply = %reply.reply,
            bytes = reply.payload.len(),
            "option reply"
        );
        // P-022: a reply echoes its option.
        if reply.option != option {
            let echoed = reply.option;
            return Err(ProtocolError::WrongOption {
                sent: option,
                echoed,
            }
            .into());
        }
        if self.is_satisfied(option, reply.reply) {
            return Err(unexpected(&reply));
        }
        // P-023, P-024: an error, known or unknown, refuses this option and nothing else.
        if reply.reply.is_error() {
            let message = reply.message();
            return Err(Error::Refused(Refusal {
                option,
                reply: reply.reply,
                message,
                fatal: false,
                child: None,
                site: None,
                attempts: None,
            }));
        }
        Ok(reply)
    }

    /// Returns whether a refusal requires what the connection already has.
    fn is_satisfied(&self, option: OptionType, refusal: OptionReplyType) -> bool {
        match (option, refusal) {
            // P-034: any answer to ABORT is accepted.
            (OptionType::ABORT, _) => false,
            // "FORCEDTLS mode", "SELECTIVETLS mode": a server sends this only without TLS.
            (_, OptionReplyType::ERR_TLS_REQD) => self.tls.is_some(),
            // with extended headers, a server refuses structured replies with this error.
            (OptionType::STRUCTURED_REPLY, OptionReplyType::ERR_EXT_HEADER_REQD) => false,
            // a server sends this only without extended headers.
            (_, OptionReplyType::ERR_EXT_HEADER_REQD) => self.style == ReplyStyle::Extended,
            _ => false,
        }
    }

    fn expect(&mut self, expect: Expect) {
        self.framed.codec_mut().expect(expect);
    }

    fn start(&mut self, request: OptionRequest) -> Result<()> {
        tracing::trace!(option = %request.option, bytes = request.data.len(), "option");
        self.expect(Expect::Reply);
        self.inner.lock_facts().asked = Some(request.option);
        self.send(ClientMessage::Option(request))
    }

    /// Queues a message, which is written while waiting for the reply.
    fn send(&mut self, message: ClientMessage) -> Result<()> {
        self.inner.sent.count(message.length() as u64);
        Pin::new(&mut self.framed)
            .start_send(message)
            .map_err(|error| fault(Phase::Handshake, error))
    }

    /// Waits for the next message, and writes what is queued meanwhile (P-083: otherwise each side
    /// could wait for the other to read).
    async fn receive(&mut self, phase: Phase) -> Result<ServerMessage> {
        let framed = &mut self.framed;
        let message = poll_fn(|cx| {
            let flushed = Pin::new(&mut *framed).poll_flush(cx);
            match Pin::new(&mut *framed).poll_next(cx) {
                std::task::Poll::Pending => match flushed {
                    std::task::Poll::Ready(Err(error)) => std::task::Poll::Ready(Some(Err(error))),
                    _ => std::task::Poll::Pending,
                },
                ready => ready,
            }
        });
        let message = message.await;
        let unaccepted = std::mem::take(&mut self.unaccepted);
        match message {
            Some(Ok(message)) => {
                self.inner
                    .received
                    .count(message.length(self.is_padded()) as u64);
                Ok(message)
            }
            Some(Err(CodecError::Io(error))) if unaccepted => Err(self.not_accepted(error)),
            Some(Err(error)) => Err(fault(phase, error)),
            None if unaccepted => Err(self.not_accepted(io::ErrorKind::UnexpectedEof.into())),
            None => Err(Error::eof(phase)),
        }
    }
}

fn unexpected(reply: &OptionReply) -> Error {
    ProtocolError::UnexpectedOptionReply {
        option: reply.option,
        reply: reply.reply,
    }
    .into()
}

fn fault(phase: Phase, error: CodecError) -> Error {
    match error {
        CodecError::Io(error) => Error::io(phase, error),
        CodecError::Protocol(violation) => violation.into(),
    }
}
