//! The handshake as a script plays it: step by step, or all at once.

use bytes::BytesMut;
use tokio_util::codec::Decoder;

use crate::wire::codec::{CodecError, ServerOptionCodec};
use crate::wire::option::{ClientMessage, ExportInfo, Greeting, Info, OptionReply, OptionRequest};
use crate::wire::{ClientFlags, HandshakeFlags, OptionReplyType, OptionType, ReplyStyle};

use super::{Peer, unexpected};

impl Peer {
    /// Greets in the new style and waits for the client's flags.
    ///
    /// # Errors
    /// If the client is gone, or answers with flags that were not offered.
    pub async fn greet(&mut self, offered: HandshakeFlags) -> Result<ClientFlags, CodecError> {
        self.send_greeting(Greeting::Newstyle(offered)).await?;
        match self.expect(ServerOptionCodec::new(offered)).await? {
            ClientMessage::Flags(flags) => Ok(flags),
            ClientMessage::Option(_) => Err(unexpected("an option instead of client flags")),
        }
    }

    /// Sends a greeting; after an oldstyle one, transmission follows.
    ///
    /// # Errors
    /// If the client is gone.
    pub async fn send_greeting(&mut self, greeting: Greeting) -> Result<(), CodecError> {
        let mut bytes = BytesMut::new();
        greeting.encode(&mut bytes);
        self.send_bytes(&bytes).await
    }

    /// Waits for an option.
    ///
    /// # Errors
    /// If the client is gone or sends something else.
    pub async fn expect_option(&mut self) -> Result<OptionRequest, CodecError> {
        self.expect(Options).await
    }

    /// Sends a reply to an option.
    ///
    /// # Errors
    /// If the client is gone.
    pub async fn send_option_reply(&mut self, reply: OptionReply) -> Result<(), CodecError> {
        let mut bytes = BytesMut::new();
        reply.encode(&mut bytes);
        self.send_bytes(&bytes).await
    }

    /// Sends size and flags of an export with `GO`'s or `INFO`'s acknowledgement.
    ///
    /// # Errors
    /// If the client is gone.
    pub async fn send_export(
        &mut self,
        option: OptionType,
        info: ExportInfo,
    ) -> Result<(), CodecError> {
        let info = OptionReply::info(option, &Info::Export(info));
        self.send_option_reply(info).await?;
        self.send_option_reply(OptionReply::ack(option)).await
    }

    /// Goes through a whole handshake like an honest server: greets, agrees to `style` and to
    /// the metadata contexts (id and name) the client asks for, refuses what it does not know,
    /// and returns the name of the export the client chose.
    ///
    /// # Errors
    /// If the client leaves, or does not ask for `style`: the script could not go on.
    pub async fn handshake(
        &mut self,
        style: ReplyStyle,
        info: ExportInfo,
        contexts: &[(u32, &str)],
    ) -> Result<String, CodecError> {
        let flags = self.greet(HandshakeFlags::all()).await?;
        let mut agreed = ReplyStyle::Simple;
        let name = loop {
            let request = self.expect_option().await?;
            let option = request.option;
            match option {
                OptionType::EXPORT_NAME => {
                    let mut bytes = BytesMut::new();
                    // P-017: 124 zeroes follow unless NO_ZEROES was agreed.
                    info.encode(!flags.contains(ClientFlags::NO_ZEROES), &mut bytes);
                    self.send_bytes(&bytes).await?;
                    break String::from_utf8_lossy(&request.data).into_owned();
                }
                OptionType::GO => {
                    let (name, _) = request.parse_info()?;
                    self.send_export(option, info).await?;
                    break name;
                }
                OptionType::INFO => self.send_export(option, info).await?,
                OptionType::ABORT => {
                    self.send_option_reply(OptionReply::ack(option)).await?;
                    return Err(unexpected("the client aborts the handshake"));
                }
                OptionType::STRUCTURED_REPLY if style != ReplyStyle::Simple => {
                    // extended headers take precedence.
                    if agreed == ReplyStyle::Simple {
                        agreed = ReplyStyle::Structured;
                    }
                    self.send_option_reply(OptionReply::ack(option)).await?;
                }
                OptionType::EXTENDED_HEADERS if style == ReplyStyle::Extended => {
                    agreed = ReplyStyle::Extended;
                    self.send_option_reply(OptionReply::ack(option)).await?;
                }
                OptionType::LIST => {
                    self.send_option_reply(OptionReply::server("", "")).await?;
                    self.send_option_reply(OptionReply::ack(option)).await?;
                }
                OptionType::LIST_META_CONTEXT | OptionType::SET_META_CONTEXT => {
                    self.send_contexts(&request, contexts).await?;
                }
                _ => {
                    let refusal = OptionReply::error(option, OptionReplyType::ERR_UNSUP, "");
                    self.send_option_reply(refusal).await?;
                }
            }
        };
        if agreed != style {
            return Err(unexpected(format_args!(
                "the client agrees to {agreed:?} replies, not to {style:?}"
            )));
        }
        self.style = style;
        Ok(name)
    }

    async fn send_contexts(
        &mut self,
        request: &OptionRequest,
        contexts: &[(u32, &str)],
    ) -> Result<(), CodecError> {
        let option = request.option;
        let (_, queries) = request.parse_meta_context()?;
        let list = option == OptionType::LIST_META_CONTEXT;
        for (id, name) in contexts {
            if queries.iter().any(|query| query == name) || list && queries.is_empty() {
                let context = OptionReply::meta_context(option, *id, name);
                self.send_option_reply(context).await?;
            }
        }
        self.send_option_reply(OptionReply::ack(option)).await
    }
}

/// Takes options, without the flags that come once before them.
struct Options;

impl Decoder for Options {
    type Item = OptionRequest;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<OptionRequest>, CodecError> {
        Ok(OptionRequest::decode(src)?)
    }
}
