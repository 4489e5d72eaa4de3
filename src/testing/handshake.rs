//! The server's side of the handshake ("Handshake" in `proto.md`).

use std::sync::Arc;

use bytes::BytesMut;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::Framed;

use crate::wire::codec::{CodecError, ServerMessage, ServerOptionCodec};
use crate::wire::option::{ClientMessage, Greeting, Info, OptionReply, OptionRequest};
use crate::wire::{
    ClientFlags, HandshakeFlags, InfoType, OptionReplyType, OptionType, ProtocolError, ReplyStyle,
    Text, TransmissionFlags,
};

use super::context::ExportContext;
use super::export::Export;
use super::server::ServerState;

/// What transmission starts with.
pub(super) struct Agreed {
    pub(super) export: Export,
    pub(super) flags: TransmissionFlags,
    pub(super) style: ReplyStyle,
    /// The selected metadata contexts by id.
    pub(super) contexts: Vec<(u32, Arc<ExportContext>)>,
    /// Bytes that were read ahead.
    pub(super) input: BytesMut,
}

/// Negotiates until the client chooses an export; `None` if it leaves instead.
pub(super) async fn negotiate<S>(
    server: &ServerState,
    stream: &mut S,
) -> Result<Option<Agreed>, CodecError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let knobs = &server.knobs;
    let mut offered = HandshakeFlags::empty();
    offered.set(HandshakeFlags::FIXED_NEWSTYLE, knobs.fixed_newstyle);
    offered.set(HandshakeFlags::NO_ZEROES, knobs.no_zeroes);
    let mut negotiation = Negotiation {
        server,
        framed: Framed::new(stream, ServerOptionCodec::new(offered)),
        style: ReplyStyle::Simple,
        selection: None,
        next_context: 1,
    };
    if knobs.oldstyle {
        // P-010: oldstyle has no names and no options.
        let Some((_, export)) = server.find("") else {
            return Ok(None);
        };
        let info = export.info(ReplyStyle::Simple, false);
        negotiation
            .send(ServerMessage::Greeting(Greeting::Oldstyle(info)))
            .await?;
        return Ok(Some(negotiation.agreed("", export)));
    }
    negotiation
        .send(ServerMessage::Greeting(Greeting::Newstyle(offered)))
        .await?;
    negotiation.run().await
}

struct Negotiation<'a, S> {
    server: &'a ServerState,
    framed: Framed<&'a mut S, ServerOptionCodec>,
    style: ReplyStyle,
    /// The export of the last `SET_META_CONTEXT` and what it selected.
    selection: Option<ServerSelection>,
    /// The next context id. Ids are never used twice, so that a stale one is noticed.
    next_context: u32,
}

/// The metadata contexts that are selected, by id, and the export they are for.
struct ServerSelection {
    export: String,
    contexts: Vec<(u32, Arc<ExportContext>)>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Negotiation<'a, S> {
    async fn run(mut self) -> Result<Option<Agreed>, CodecError> {
        let Some(ClientMessage::Flags(flags)) = self.framed.next().await.transpose()? else {
            return Ok(None);
        };
        let fixed = flags.contains(ClientFlags::FIXED_NEWSTYLE);
        while let Some(message) = self.framed.next().await.transpose()? {
            let ClientMessage::Option(request) = message else {
                return Ok(None);
            };
            let option = request.option;
            if option == OptionType::EXPORT_NAME {
                return self.export_name(&request).await;
            }
            // P-016: without fixed newstyle, EXPORT_NAME is the only option.
            if !fixed {
                return Ok(None);
            }
            if option == OptionType::ABORT {
                self.reply(OptionReply::ack(option)).await?;
                return Ok(None);
            }
            match self.answer(&request).await {
                Ok(Some((name, export))) => {
                    self.reply(OptionReply::ack(option)).await?;
                    return Ok(Some(self.agreed(&name, export)));
                }
                Ok(None) => self.reply(OptionReply::ack(option)).await?,
                Err(OptionRefusal::Reply(reply, message)) => {
                    self.reply(OptionReply::error(option, reply, message))
                        .await?;
                }
                Err(OptionRefusal::Fatal(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Answers an option up to its final reply; an export ends the negotiation.
    async fn answer(
        &mut self,
        request: &OptionRequest,
    ) -> Result<Option<(String, &'a Export)>, OptionRefusal> {
        let server = self.server;
        let knobs = &server.knobs;
        if server.is_shutting_down() {
            return refuse(OptionReplyType::ERR_SHUTDOWN, "the server is going down");
        }
        if request.option == OptionType::STARTTLS {
            return refuse(OptionReplyType::ERR_UNSUP, "no TLS here");
        }
        if knobs.tls_required {
            return refuse(OptionReplyType::ERR_TLS_REQD, "TLS first");
        }
        match request.option {
            OptionType::LIST => {
                no_data(request)?;
                if !knobs.list {
                    return refuse(OptionReplyType::ERR_POLICY, "the exports are not listed");
                }
                for (name, export) in &server.exports {
                    let description = &export.settings().description;
                    self.feed(OptionReply::server(name, description)).await?;
                }
            }
            OptionType::INFO | OptionType::GO if knobs.go => return self.info(request).await,
            OptionType::STRUCTURED_REPLY if knobs.structured_replies => {
                no_data(request)?;
                // extended headers cannot be given up again.
                if self.style == ReplyStyle::Extended {
                    return refuse(
                        OptionReplyType::ERR_EXT_HEADER_REQD,
                        "extended headers are on",
                    );
                }
                self.style = ReplyStyle::Structured;
            }
            OptionType::EXTENDED_HEADERS if knobs.extended_headers => {
                no_data(request)?;
                self.style = ReplyStyle::Extended;
            }
            OptionType::LIST_META_CONTEXT if knobs.meta_contexts => {
                let (_, contexts) = self.contexts(request)?;
                for context in contexts {
                    // P-076: the id is reserved in a list.
                    self.feed(OptionReply::meta_context(request.option, 0, context.name()))
                        .await?;
                }
            }
            OptionType::SET_META_CONTEXT if knobs.meta_contexts => {
                self.set_contexts(request).await?;
            }
            _ => return refuse(OptionReplyType::ERR_UNSUP, "unknown option"),
        }
        Ok(None)
    }

    async fn info(
        &mut self,
        request: &OptionRequest,
    ) -> Result<Option<(String, &'a Export)>, OptionRefusal> {
        let server = self.server;
        let option = request.option;
        let (asked_name, asked) = request.parse_info().map_err(invalid)?;
        let asks = |info| asked.contains(&info);
        // P-045: each kind of information is requested once.
        if (1..asked.len()).any(|i| asked[..i].contains(&asked[i])) {
            return refuse(OptionReplyType::ERR_INVALID, "information asked for twice");
        }
        let Some((name, export)) = server.find(&asked_name) else {
            return refuse(OptionReplyType::ERR_UNKNOWN, "no such export");
        };
        if server.knobs.block_size_required && !asks(InfoType::BLOCK_SIZE) {
            return refuse(OptionReplyType::ERR_BLOCK_SIZE_REQD, "ask for block sizes");
        }
        if server.knobs.extended_headers_required && self.style != ReplyStyle::Extended {
            return refuse(OptionReplyType::ERR_EXT_HEADER_REQD, "use extended headers");
        }
        let settings = export.settings();
        let info = export.info(self.style, self.has_contexts(&asked_name));
        let mut infos = vec![Info::Export(info)];
        if asks(InfoType::NAME) {
            infos.push(Info::Name(Some(name.to_owned())));
        }
        if asks(InfoType::DESCRIPTION) && !settings.description.is_empty() {
            infos.push(Info::Description(Text::from(settings.description.as_str())));
        }
        if asks(InfoType::BLOCK_SIZE) {
            infos.push(Info::BlockSize {
                minimum: settings.blocks.minimum,
                preferred: settings.blocks.preferred,
                maximum: settings.blocks.maximum,
            });
        }
        for info in &infos {
            self.feed(OptionReply::info(option, info)).await?;
        }
        Ok((option == OptionType::GO).then_some((asked_name, export)))
    }

    async fn set_contexts(&mut self, request: &OptionRequest) -> Result<(), OptionRefusal> {
        // P-074: each SET replaces the selection, also when it fails.
        self.selection = None;
        // P-070: contexts need structured replies.
        if self.style == ReplyStyle::Simple {
            return refuse(
                OptionReplyType::ERR_INVALID,
                "structured replies are needed first",
            );
        }
        let (name, contexts) = self.contexts(request)?;
        let contexts: Vec<_> = (self.next_context..).zip(contexts).collect();
        for (id, context) in &contexts {
            self.next_context = *id + 1;
            let reply = OptionReply::meta_context(request.option, *id, context.name());
            self.feed(reply).await?;
        }
        self.selection = Some(ServerSelection {
            export: name,
            contexts,
        });
        Ok(())
    }

    /// The export a metadata option names, and the contexts its queries find.
    fn contexts(
        &self,
        request: &OptionRequest,
    ) -> Result<(String, Vec<Arc<ExportContext>>), OptionRefusal> {
        let (name, queries) = request.parse_meta_context().map_err(invalid)?;
        let list = request.option == OptionType::LIST_META_CONTEXT;
        let Some((_, export)) = self.server.find(&name) else {
            return refuse(OptionReplyType::ERR_UNKNOWN, "no such export");
        };
        // P-072: a context has namespace and leaf.
        if queries.iter().any(|query| !query.contains(':')) {
            return refuse(OptionReplyType::ERR_INVALID, "query without namespace");
        }
        let found = export.settings().contexts.iter().filter(|context| {
            let matches = queries.iter().any(|query| context.matches(query, list));
            // "SET_META_CONTEXT": 64-bit contexts are left out without extended headers; X-13:
            // a list may show them.
            let usable = list || self.style == ReplyStyle::Extended || !context.is_wide();
            (matches || list && queries.is_empty()) && usable
        });
        let found = found.cloned().collect();
        Ok((name, found))
    }

    async fn export_name(mut self, request: &OptionRequest) -> Result<Option<Agreed>, CodecError> {
        let server = self.server;
        let name = std::str::from_utf8(&request.data).unwrap_or("\0");
        let found = server.find(name);
        // P-018: there is no error reply to this option. X-04: nor may it follow extended headers.
        let allowed = self.style != ReplyStyle::Extended
            && !server.knobs.tls_required
            && !server.knobs.extended_headers_required
            && !server.is_shutting_down();
        let Some((_, export)) = found.filter(|_| allowed) else {
            return Ok(None);
        };
        let info = export.info(self.style, self.has_contexts(name));
        self.framed.send(ServerMessage::Export(info)).await?;
        Ok(Some(self.agreed(name, export)))
    }

    fn has_contexts(&self, name: &str) -> bool {
        let selection = self.selection.as_ref();
        selection
            .is_some_and(|selection| selection.export == name && !selection.contexts.is_empty())
    }

    fn agreed(self, name: &str, export: &Export) -> Agreed {
        let flags = export.info(self.style, self.has_contexts(name)).flags;
        // P-058, P-085: the selection is for the export it named.
        let contexts = match self.selection {
            Some(selection) if selection.export == name => selection.contexts,
            _ => Vec::new(),
        };
        Agreed {
            export: export.clone(),
            flags,
            style: self.style,
            contexts,
            input: self.framed.into_parts().read_buf,
        }
    }

    async fn feed(&mut self, reply: OptionReply) -> Result<(), OptionRefusal> {
        let fed = self.framed.feed(ServerMessage::Reply(reply)).await;
        fed.map_err(OptionRefusal::Fatal)
    }

    async fn reply(&mut self, reply: OptionReply) -> Result<(), CodecError> {
        self.send(ServerMessage::Reply(reply)).await
    }

    async fn send(&mut self, message: ServerMessage) -> Result<(), CodecError> {
        self.framed.send(message).await
    }
}

/// Why an option does not end with `ACK`.
enum OptionRefusal {
    Reply(OptionReplyType, &'static str),
    Fatal(CodecError),
}

const fn refuse<T>(reply: OptionReplyType, message: &'static str) -> Result<T, OptionRefusal> {
    Err(OptionRefusal::Reply(reply, message))
}

fn invalid(_: ProtocolError) -> OptionRefusal {
    OptionRefusal::Reply(OptionReplyType::ERR_INVALID, "malformed option")
}

/// P-040, P-060, X-01: some options carry no data.
fn no_data(request: &OptionRequest) -> Result<(), OptionRefusal> {
    if request.data.is_empty() {
        Ok(())
    } else {
        refuse(OptionReplyType::ERR_INVALID, "this option carries no data")
    }
}
