//! The handshake's messages: one linear `async fn` for each thing to agree on.

use std::collections::HashSet;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::BytesMut;
use futures::{Sink, Stream as _};
use tokio::io::AsyncWriteExt as _;
use tokio_util::codec::Framed;

use super::shared::Shared;
use crate::error::{Error, InvalidRequest, Phase, Refusal, Result};
use crate::export::{BlockSize, Export, Handshake, ListedExport, Protocol};
use crate::limits::Limits;
use crate::session::Context;
use crate::transport::tls::{Tls, TlsError, TlsFailure, TlsInfo, TlsMode, TlsUpgrade};
use crate::transport::{Foreign, Stream};
use crate::wire::codec::{CodecError, Expect, OptionCodec, ServerMessage};
use crate::wire::option::{
    ClientMessage, ExportInfo, Greeting, Info, MAX_OPTION_REQUEST, OptionReply, OptionRequest,
};
use crate::wire::{
    ClientFlags, HandshakeFlags, InfoType, OptionReplyType, OptionType, ProtocolError, ReplyStyle,
};

/// What the server's greeting led to.
#[derive(Debug)]
pub(super) enum Greeted {
    /// Transmission begins at once.
    Oldstyle(ExportInfo),
    /// Options can be sent.
    Newstyle,
}

/// What to ask about an export.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    /// Canonical name and description.
    pub(super) full: bool,
    /// Block sizes; this promises to obey them.
    pub(super) block_size: bool,
}

/// One handshake: the stream and what has been agreed on it so far.
pub(super) struct Negotiator {
    shared: Arc<Shared>,
    framed: Framed<Box<dyn Stream>, OptionCodec>,
    pub(super) handshake: Handshake,
    no_zeroes: bool,
    pub(super) style: ReplyStyle,
    /// The contexts of the last selection, and the export they belong to.
    selected: Option<(String, Vec<Context>)>,
    tls: Option<TlsInfo>,
    /// Nothing has come through TLS yet: the server may still not accept this client.
    unaccepted: bool,
}

impl Negotiator {
    pub(super) fn new(shared: Arc<Shared>, stream: Box<dyn Stream>) -> Self {
        let codec = OptionCodec::new(shared.config.limits.info_bytes);
        Self {
            shared,
            framed: Framed::new(stream, codec),
            handshake: Handshake::Oldstyle,
            no_zeroes: false,
            style: ReplyStyle::Simple,
            selected: None,
            tls: None,
            unaccepted: false,
        }
    }

    fn limits(&self) -> &Limits {
        &self.shared.config.limits
    }

    /// Takes the stream back, with what was read ahead.
    pub(super) fn into_stream(self) -> (Box<dyn Stream>, BytesMut) {
        let parts = self.framed.into_parts();
        (parts.io, parts.read_buf)
    }

    /// The form of export information that the agreed features allow.
    fn export(&self, name: &str, info: ExportInfo) -> Result<Export, ProtocolError> {
        let chunks = self.style != ReplyStyle::Simple;
        let extended = self.style == ReplyStyle::Extended;
        let mut export = Export::new(name, info.size, info.flags, chunks, extended)?;
        export.payload_limit = self.limits().payload;
        // P-058, P-085: contexts count only for the export they were selected for.
        if let Some((selected, contexts)) = &self.selected {
            if selected == name {
                export.contexts.clone_from(contexts);
            }
        }
        Ok(export)
    }

    /// How this connection speaks.
    pub(super) const fn protocol(&self) -> Protocol {
        Protocol {
            handshake: self.handshake,
            structured_replies: !matches!(self.style, ReplyStyle::Simple),
            extended_headers: matches!(self.style, ReplyStyle::Extended),
        }
    }

    /// Waits for the server to break off, or to speak without being asked.
    pub(super) async fn unsolicited(&mut self) -> Error {
        match self.receive(Phase::Handshake).await {
            Ok(ServerMessage::Reply(reply)) => unexpected(&reply),
            Ok(_) => ProtocolError::OptionReplyMagic(0).into(),
            Err(error) => error,
        }
    }

    /// An oldstyle server has said everything.
    pub(super) fn oldstyle_export(&self, info: ExportInfo) -> Result<Export> {
        Ok(self.export("", info)?)
    }

    /// Reads the greeting and answers it with those of `accept` that the server offers.
    ///
    /// With TLS required, nothing is sent to a server that cannot have it.
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
        // P-013 to P-015: nothing but what is known and was offered.
        let agreed = offered & accept & HandshakeFlags::all();
        self.handshake = if agreed.contains(HandshakeFlags::FIXED_NEWSTYLE) {
            Handshake::FixedNewstyle
        } else {
            Handshake::Newstyle
        };
        // P-091
        if self.handshake == Handshake::Newstyle && tls == TlsMode::Require {
            return Err(not_possible("fixed newstyle was not agreed"));
        }
        self.no_zeroes = agreed.contains(HandshakeFlags::NO_ZEROES);
        let flags = ClientFlags::from_bits_retain(agreed.bits().into());
        self.send(ClientMessage::Flags(flags))?;
        self.expect(Expect::Reply);
        Ok(Greeted::Newstyle)
    }

    /// Makes the connection secure. A refusal by the server leaves it in clear, and usable; after
    /// any other failure nothing can be sent any more.
    pub(super) async fn starttls(&mut self, tls: &Tls) -> Result<()> {
        let Some(upgrade) = &tls.upgrade else {
            let why = "there is nothing to do it with: see Builder::tls";
            return Err(Error::argument("TLS", why));
        };
        // P-092
        if self.tls.is_some() {
            let why = "the connection is encrypted already";
            return Err(InvalidRequest::NotNegotiated(why).into());
        }
        let name = tls.server_name.as_deref();
        upgrade.check(name)?;
        let option = OptionType::STARTTLS;
        // P-093: without data.
        self.start(OptionRequest::bare(option))?;
        self.finish(option).await?;
        let info = self.upgrade(&**upgrade, name).await?;
        tracing::debug!(
            version = info.version(),
            suite = info.cipher_suite(),
            "encrypted"
        );
        self.shared.lock_facts().tls = Some(info.clone());
        self.tls = Some(info);
        self.unaccepted = true;
        Ok(())
    }

    /// Replaces the stream by a secure one.
    async fn upgrade(&mut self, upgrade: &dyn TlsUpgrade, name: Option<&str>) -> Result<TlsInfo> {
        let codec = OptionCodec::new(self.limits().info_bytes);
        let framed = &mut self.framed;
        let flushed = poll_fn(|cx| Pin::new(&mut *framed).poll_flush(cx)).await;
        flushed.map_err(|error| fault(Phase::Tls, error))?;

        // From here on there is no clear stream that could be read or written by mistake.
        let nothing: Box<dyn Stream> = Box::new(Foreign(tokio::io::empty()));
        let clear = std::mem::replace(framed, Framed::new(nothing, codec));
        let parts = clear.into_parts();
        // P-094: nothing that was said in clear is taken for a part of what is said securely.
        if !parts.read_buf.is_empty() {
            return Err(ProtocolError::ClearBytesBeforeTls(parts.read_buf.len()).into());
        }
        // P-102: what was agreed in clear may have been agreed with anybody.
        self.style = ReplyStyle::Simple;
        self.selected = None;
        self.shared.forget_export();

        let (stream, info) = upgrade
            .upgrade(Box::new(parts.io), name)
            .await
            .map_err(Error::tls)?;
        self.framed = Framed::new(Box::new(Foreign(stream)), codec);
        self.expect(Expect::Reply);
        Ok(info)
    }

    /// Asks for a feature that needs nothing but a yes; `false` if the server refuses.
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
            // P-025, P-061, X-02: without it, then.
            Err(Error::Refused(refusal)) => {
                tracing::debug!(%refusal, "the server refused a feature");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Lists the exports.
    pub(super) async fn list(&mut self) -> Result<Vec<ListedExport>> {
        let option = OptionType::LIST;
        self.start(OptionRequest::bare(option))?;
        let limits = *self.limits();
        let (most, most_bytes) = (limits.listed_exports as usize, limits.listed_bytes as usize);
        let mut exports = Vec::new();
        let mut bytes = 0;
        loop {
            let reply = self.reply(option).await?;
            match reply.reply {
                OptionReplyType::ACK => return Ok(exports),
                OptionReplyType::SERVER => {
                    bytes += reply.payload.len();
                    if exports.len() >= most || bytes > most_bytes {
                        return Err(ProtocolError::TooManyReplies(option).into());
                    }
                    let (name, description) = reply.parse_server()?;
                    exports.push(ListedExport { name, description });
                }
                _ => return Err(unexpected(&reply)),
            }
        }
    }

    /// Asks about an export with `INFO`, or enters it with `GO`.
    pub(super) async fn info(
        &mut self,
        option: OptionType,
        name: &str,
        ask: Ask,
    ) -> Result<Export> {
        let mut asked = Vec::new();
        // P-110
        if ask.block_size {
            asked.push(InfoType::BLOCK_SIZE);
        }
        if ask.full {
            asked.extend([InfoType::NAME, InfoType::DESCRIPTION]);
        }
        self.start(OptionRequest::info(option, name, &asked))?;
        let (mut export, mut block_size) = (None, None);
        let (mut canonical_name, mut description) = (None, None);
        let mut count = 0;
        loop {
            let reply = self.reply(option).await?;
            match reply.reply {
                OptionReplyType::ACK => break,
                OptionReplyType::INFO => count += 1,
                _ => return Err(unexpected(&reply)),
            }
            if count > self.limits().infos {
                return Err(ProtocolError::TooManyReplies(option).into());
            }
            // P-047: in any order.
            match Info::decode(&reply.payload)? {
                Info::Export(info) => export = Some(info),
                Info::Name(name) if ask.full => canonical_name = name,
                Info::Description(text) if ask.full => description = Some(text),
                // P-111: sizes bind only who asked for them.
                Info::BlockSize {
                    minimum,
                    preferred,
                    maximum,
                } if ask.block_size => {
                    block_size = Some(BlockSize::new(minimum, preferred, maximum)?);
                }
                // P-046, P-050: what was not asked for or is not known.
                _ => {}
            }
        }
        // P-048: an ACK without size and flags is a violation.
        let info = export.ok_or(ProtocolError::NoExportInfo(option))?;
        let mut export = self.export(name, info)?;
        export.block_size = block_size;
        export.canonical_name = canonical_name;
        export.description = description;
        Ok(export)
    }

    /// Enters an export the old way, without any answer if the server refuses.
    pub(super) async fn export_name(&mut self, name: &str) -> Result<Export> {
        self.start(OptionRequest::export_name(name))?;
        self.expect(Expect::Export {
            padding: !self.no_zeroes,
        });
        match self.receive(Phase::Handshake).await {
            Ok(ServerMessage::Export(info)) => Ok(self.export(name, info)?),
            Ok(_) => Err(ProtocolError::NoExportInfo(OptionType::EXPORT_NAME).into()),
            // P-018: closing the connection is how a server says no here.
            Err(Error::Disconnected(..)) => Err(Error::io(
                Phase::Handshake,
                io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("server closed the connection when asked for export {name:?}"),
                ),
            )),
            Err(error) => Err(error),
        }
    }

    /// Lists or selects metadata contexts; `found` gets each name.
    pub(super) async fn meta_context(
        &mut self,
        option: OptionType,
        export: &str,
        queries: &[String],
    ) -> Result<Vec<String>> {
        let request = OptionRequest::meta_context(option, export, queries);
        if request.data.len() > MAX_OPTION_REQUEST as usize {
            let why = "they are longer than 64 KiB in all, more than servers take";
            return Err(Error::argument("metadata queries", why));
        }
        let selects = option == OptionType::SET_META_CONTEXT;
        if selects {
            // P-074: each selection replaces the former one, also when it fails.
            self.selected = None;
            self.shared.lock_facts().contexts = None;
        }
        self.start(request)?;
        let mut contexts: Vec<Context> = Vec::new();
        let mut ids = HashSet::new();
        loop {
            let reply = self.reply(option).await?;
            match reply.reply {
                OptionReplyType::ACK => break,
                OptionReplyType::META_CONTEXT => {}
                _ => return Err(unexpected(&reply)),
            }
            if contexts.len() >= self.limits().contexts as usize {
                return Err(ProtocolError::TooManyReplies(option).into());
            }
            let (id, name) = reply.parse_meta_context()?;
            // P-076: ids mean nothing in a list. P-077: in a selection they are unique.
            if selects && !ids.insert(id) {
                return Err(ProtocolError::DuplicateContext(id).into());
            }
            contexts.push(Context {
                id,
                name: name.into(),
            });
        }
        let names: Vec<_> = contexts
            .iter()
            .map(|context| context.name.to_string())
            .collect();
        if selects {
            self.shared.lock_facts().contexts = Some(names.clone());
            self.selected = Some((export.to_owned(), contexts));
        }
        Ok(names)
    }

    /// Ends the session politely.
    pub(super) async fn abort(&mut self) -> Result<()> {
        // P-035: without data.
        self.start(OptionRequest::bare(OptionType::ABORT))?;
        // P-034: a server may close without an answer.
        match self.reply(OptionType::ABORT).await {
            Ok(_) | Err(Error::Disconnected(..) | Error::Tls(..) | Error::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        if self.tls.is_some() {
            // P-106: close_notify. Who is not there any more need not hear it.
            let _ = self.framed.get_mut().shutdown().await;
        }
        Ok(())
    }

    /// Waits for the yes that ends an option without other replies.
    async fn finish(&mut self, option: OptionType) -> Result<()> {
        let reply = self.reply(option).await?;
        match reply.reply {
            OptionReplyType::ACK => Ok(()),
            _ => Err(unexpected(&reply)),
        }
    }

    /// The next reply to `option`; a refusal is an error.
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
        // P-022
        if reply.option != option {
            let echoed = reply.option;
            return Err(ProtocolError::WrongOption {
                sent: option,
                echoed,
            }
            .into());
        }
        // P-023, P-024: any error, known or not, refuses this option and nothing else.
        if reply.reply.is_error() {
            let message = reply.message();
            return Err(Error::Refused(Refusal {
                option,
                reply: reply.reply,
                message,
            }));
        }
        Ok(reply)
    }

    fn expect(&mut self, expect: Expect) {
        self.framed.codec_mut().expect(expect);
    }

    fn start(&mut self, request: OptionRequest) -> Result<()> {
        tracing::trace!(option = %request.option, bytes = request.data.len(), "option");
        self.expect(Expect::Reply);
        self.send(ClientMessage::Option(request))
    }

    /// Queues a message; it is written while the reply is waited for.
    fn send(&mut self, message: ClientMessage) -> Result<()> {
        self.shared.sent.count(message.length() as u64);
        Pin::new(&mut self.framed)
            .start_send(message)
            .map_err(|error| fault(Phase::Handshake, error))
    }

    /// The next message. What is queued is written meanwhile, so that neither side can wait for
    /// the other to read (P-083).
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
                self.shared
                    .received
                    .count(message.length(!self.no_zeroes) as u64);
                Ok(message)
            }
            Some(Err(CodecError::Io(error))) if unaccepted => Err(self.not_accepted(error)),
            Some(Err(error)) => Err(fault(phase, error)),
            None if unaccepted => Err(self.not_accepted(io::ErrorKind::UnexpectedEof.into())),
            None => Err(Error::eof(phase)),
        }
    }

    /// The stream failed before anything came through TLS.
    fn not_accepted(&self, error: io::Error) -> Error {
        let client = self.tls.as_ref().map(TlsInfo::client_certificate);
        Error::tls(TlsError::unaccepted(client.unwrap_or_default(), error))
    }
}

/// The server is of a kind that has no TLS.
fn not_possible(why: &'static str) -> Error {
    let error = io::Error::new(io::ErrorKind::Unsupported, why);
    Error::tls(TlsError::new(TlsFailure::NotPossible, error))
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
