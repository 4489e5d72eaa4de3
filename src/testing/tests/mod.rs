//! The server as a client sees it, driven message by message through the wire codecs.

mod commands;
mod negotiation;
mod order;
mod peer;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::codec::{Decoder, Encoder};

use super::Server;
use crate::wire::codec::{CodecError, Expect, OptionCodec, ReplyCodec, ServerMessage};
use crate::wire::option::{ClientMessage, ExportInfo, Greeting, Info, OptionReply, OptionRequest};
use crate::wire::reply::{ChunkHead, ErrorChunk, Hole, ReplyHead, StatusChunk};
use crate::wire::request::RequestHead;
use crate::wire::{
    ChunkType, ClientFlags, Command, CommandFlags, Errno, InfoType, OptionReplyType, OptionType,
    ReplyStyle,
};

/// A client that does one thing at a time.
struct Client {
    stream: DuplexStream,
    input: BytesMut,
    style: ReplyStyle,
    cookie: u64,
}

/// What answers one request.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    /// Data and holes, in the order they came.
    content: Vec<(u64, Content)>,
    status: Vec<StatusChunk>,
    error: Option<Errno>,
    message: String,
}

#[derive(Debug, PartialEq)]
enum Content {
    Data(Bytes),
    Hole(u64),
}

impl Answer {
    fn ok() -> Self {
        Self::default()
    }

    /// The content in the order of its offsets, holes filled with zeroes.
    fn data(mut self) -> Vec<u8> {
        assert_eq!(self.error, None, "{}", self.message);
        self.content.sort_by_key(|(offset, _)| *offset);
        let mut data = Vec::new();
        for (_, content) in self.content {
            match content {
                Content::Data(bytes) => data.extend_from_slice(&bytes),
                Content::Hole(length) => {
                    data.resize(data.len() + usize::try_from(length).unwrap(), 0);
                }
            }
        }
        data
    }
}

impl Client {
    fn new(stream: DuplexStream) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            style: ReplyStyle::Simple,
            cookie: 0,
        }
    }

    /// Greets, with all flags that are offered.
    async fn greeted(server: &Server) -> Self {
        let mut client = Self::new(server.connect());
        let Greeting::Newstyle(offered) = client.greeting().await else {
            panic!("oldstyle greeting");
        };
        client
            .send_flags(ClientFlags::from_bits_retain(offered.bits().into()))
            .await;
        client
    }

    /// Negotiates in the given style, with these metadata contexts, and enters transmission.
    async fn ready(server: &Server, style: ReplyStyle, contexts: &[&str]) -> Self {
        let mut client = Self::greeted(server).await;
        let option = match style {
            ReplyStyle::Simple => None,
            ReplyStyle::Structured => Some(OptionType::STRUCTURED_REPLY),
            ReplyStyle::Extended => Some(OptionType::EXTENDED_HEADERS),
        };
        if let Some(option) = option {
            assert_eq!(client.bare(option).await, OptionReplyType::ACK);
        }
        if !contexts.is_empty() {
            let set = OptionRequest::meta_context(OptionType::SET_META_CONTEXT, "", contexts);
            assert_eq!(client.option(set).await.len(), contexts.len() + 1);
        }
        client.go("").await;
        client.style = style;
        client
    }

    async fn greeting(&mut self) -> Greeting {
        match self.message(Expect::Greeting).await.unwrap() {
            ServerMessage::Greeting(greeting) => greeting,
            other => panic!("{other:?}"),
        }
    }

    async fn send_flags(&mut self, flags: ClientFlags) {
        self.stream.write_u32(flags.bits()).await.unwrap();
    }

    async fn send_option(&mut self, request: OptionRequest) {
        let mut bytes = BytesMut::new();
        OptionCodec::default()
            .encode(ClientMessage::Option(request), &mut bytes)
            .unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// Sends an option and returns all replies, the final one last.
    async fn option(&mut self, request: OptionRequest) -> Vec<OptionReply> {
        let option = request.option;
        self.send_option(request).await;
        let mut replies = Vec::new();
        loop {
            let ServerMessage::Reply(reply) = self.message(Expect::Reply).await.unwrap() else {
                panic!("not a reply");
            };
            assert_eq!(reply.option, option);
            let done = reply.reply == OptionReplyType::ACK || reply.reply.is_error();
            replies.push(reply);
            if done {
                return replies;
            }
        }
    }

    /// Sends an option without data and returns the final reply.
    async fn bare(&mut self, option: OptionType) -> OptionReplyType {
        self.last(OptionRequest::bare(option)).await
    }

    /// Sends an option and returns the final reply.
    async fn last(&mut self, request: OptionRequest) -> OptionReplyType {
        self.option(request).await.pop().unwrap().reply
    }

    /// Enters transmission.
    async fn go(&mut self, name: &str) -> ExportInfo {
        let asked = [InfoType::BLOCK_SIZE];
        let go = OptionRequest::info(OptionType::GO, name, &asked);
        let replies = self.option(go).await;
        let infos = replies.iter().map(|reply| Info::decode(&reply.payload));
        let found = infos.into_iter().find_map(|info| match info {
            Ok(Info::Export(export)) => Some(export),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("{replies:?}"))
    }

    async fn message(&mut self, expect: Expect) -> Result<ServerMessage, CodecError> {
        let mut codec = OptionCodec::default();
        codec.expect(expect);
        loop {
            if let Some(message) = codec.decode(&mut self.input)? {
                return Ok(message);
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<(), CodecError> {
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    async fn body(&mut self, length: u64) -> Bytes {
        let length = usize::try_from(length).unwrap();
        while self.input.len() < length {
            self.more().await.unwrap();
        }
        self.input.split_to(length).freeze()
    }

    /// Whether the server closes the stream without another byte.
    async fn is_closed(&mut self) -> bool {
        self.input.is_empty() && matches!(self.stream.read_buf(&mut self.input).await, Ok(0))
    }

    /// Sends a request without payload; returns its header, as `answers` wants it.
    async fn send(
        &mut self,
        command: Command,
        flags: CommandFlags,
        offset: u64,
        length: u64,
    ) -> RequestHead {
        self.send_with(command, flags, offset, length, &[]).await
    }

    async fn send_with(
        &mut self,
        command: Command,
        flags: CommandFlags,
        offset: u64,
        length: u64,
        payload: &[u8],
    ) -> RequestHead {
        self.cookie += 1;
        let head = RequestHead {
            flags,
            command,
            cookie: self.cookie,
            offset,
            length,
        };
        let mut bytes = BytesMut::new();
        ReplyCodec::new(self.style)
            .encode(head, &mut bytes)
            .unwrap();
        bytes.extend_from_slice(payload);
        self.stream.write_all(&bytes).await.unwrap();
        head
    }

    async fn call(
        &mut self,
        command: Command,
        flags: CommandFlags,
        offset: u64,
        length: u64,
    ) -> Answer {
        let head = self.send(command, flags, offset, length).await;
        self.answer(head).await
    }

    async fn read(&mut self, offset: u64, length: u64) -> Answer {
        self.call(Command::READ, CommandFlags::empty(), offset, length)
            .await
    }

    async fn write(&mut self, offset: u64, data: &[u8]) -> Answer {
        let flags = match self.style {
            ReplyStyle::Extended => CommandFlags::PAYLOAD_LEN,
            _ => CommandFlags::empty(),
        };
        let length = data.len() as u64;
        let head = self
            .send_with(Command::WRITE, flags, offset, length, data)
            .await;
        self.answer(head).await
    }

    /// Receives the whole answer to one request.
    async fn answer(&mut self, request: RequestHead) -> Answer {
        let mut answer = Answer::default();
        loop {
            let (cookie, done) = self.piece(&[request], &mut answer).await;
            assert_eq!(cookie, request.cookie);
            if done {
                return answer;
            }
        }
    }

    /// Receives the next reply or chunk; returns its cookie and whether it is the last for it.
    async fn piece(&mut self, requests: &[RequestHead], answer: &mut Answer) -> (u64, bool) {
        let head = loop {
            if let Some(head) = ReplyCodec::new(self.style).decode(&mut self.input).unwrap() {
                break head;
            }
            self.more().await.unwrap();
        };
        let of = |request: &&RequestHead| request.cookie == head.cookie();
        let request = *requests.iter().find(of).expect("known cookie");
        match head {
            ReplyHead::Simple { error, .. } => {
                if error != Errno::OK {
                    answer.error = Some(error);
                } else if request.command == Command::READ {
                    assert_eq!(
                        self.style,
                        ReplyStyle::Simple,
                        "P-154: not a structured read"
                    );
                    let data = self.body(request.length).await;
                    answer.content.push((request.offset, Content::Data(data)));
                }
                (request.cookie, true)
            }
            ReplyHead::Chunk(chunk) => {
                self.chunk(chunk, answer).await;
                if self.style == ReplyStyle::Extended {
                    assert_eq!(chunk.offset, Some(request.offset), "X-07: the same offset");
                }
                (request.cookie, chunk.is_done())
            }
        }
    }

    async fn chunk(&mut self, head: ChunkHead, answer: &mut Answer) {
        head.check_length().unwrap();
        let mut body = self.body(head.length).await;
        match head.chunk {
            ChunkType::NONE => assert!(head.is_done()),
            ChunkType::OFFSET_DATA => {
                let offset = bytes::Buf::get_u64(&mut body);
                answer.content.push((offset, Content::Data(body)));
            }
            ChunkType::OFFSET_HOLE => {
                let hole = Hole::decode(&body).unwrap();
                let content = Content::Hole(hole.length.into());
                answer.content.push((hole.offset, content));
            }
            ChunkType::BLOCK_STATUS | ChunkType::BLOCK_STATUS_EXT => {
                let extended = head.chunk == ChunkType::BLOCK_STATUS_EXT;
                answer
                    .status
                    .push(StatusChunk::decode(extended, &body).unwrap());
            }
            other => {
                let error = ErrorChunk::decode(other, &body).unwrap();
                answer.error = Some(error.error);
                answer.message = error.message.to_string();
            }
        }
    }
}
