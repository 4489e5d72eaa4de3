//! The server: a thread that allocates next to nothing.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use nbd_client::wire::option::{ExportInfo, Greeting, Info, OptionReply};
use nbd_client::wire::request::{RequestHead, header_length};
use nbd_client::wire::{Command, HandshakeFlags, OptionType, ReplyStyle, TransmissionFlags};
use nbd_client::{Builder, Connection};

pub(crate) const STYLES: [ReplyStyle; 3] = [
    ReplyStyle::Simple,
    ReplyStyle::Structured,
    ReplyStyle::Extended,
];
/// The styles whose replies are chunks.
pub(crate) const CHUNKED: [ReplyStyle; 2] = [ReplyStyle::Structured, ReplyStyle::Extended];
/// The metadata context there is, and its id.
pub(crate) const CONTEXT: (u32, &str) = (7, "base:allocation");
const INFO: ExportInfo = ExportInfo {
    size: 1 << 40,
    flags: TransmissionFlags::HAS_FLAGS.union(TransmissionFlags::SEND_FLUSH),
};

/// The server's end of a connection.
pub(crate) struct Server {
    stream: UnixStream,
    style: ReplyStyle,
    /// What it says in the handshake, prepared.
    greeting: Vec<u8>,
    yes: [Vec<u8>; 4],
}

impl Server {
    /// A server and the stream for its client.
    pub(crate) fn new(style: ReplyStyle) -> (Self, UnixStream) {
        Self::with_info(style, &[])
    }

    /// A server that says this of its export too.
    pub(crate) fn with_info(style: ReplyStyle, more: &[Info]) -> (Self, UnixStream) {
        let (client, stream) = UnixStream::pair().unwrap();
        let mut greeting = bytes::BytesMut::new();
        Greeting::Newstyle(HandshakeFlags::all()).encode(&mut greeting);
        let agreed = match style {
            ReplyStyle::Extended => OptionType::EXTENDED_HEADERS,
            _ => OptionType::STRUCTURED_REPLY,
        };
        let (set, go) = (OptionType::SET_META_CONTEXT, OptionType::GO);
        let more = more.iter().map(|info| OptionReply::info(go, info));
        let export = OptionReply::info(go, &Info::Export(INFO));
        let yes = [
            vec![OptionReply::ack(agreed)],
            vec![
                OptionReply::meta_context(set, CONTEXT.0, CONTEXT.1),
                OptionReply::ack(set),
            ],
            std::iter::once(export)
                .chain(more)
                .chain([OptionReply::ack(go)])
                .collect(),
            vec![OptionReply::ack(OptionType::ABORT)],
        ];
        let server = Self {
            stream,
            style,
            greeting: greeting.to_vec(),
            yes: yes.map(|replies| encode(&replies)),
        };
        (server, client)
    }

    /// Has it report so many further contexts, which nobody asked for: their ids are 100 and up.
    pub(crate) fn with_strays(mut self, count: u32) -> Self {
        let set = OptionType::SET_META_CONTEXT;
        let context = |id, name: &str| OptionReply::meta_context(set, id, name);
        let mut replies = vec![context(CONTEXT.0, CONTEXT.1)];
        replies.extend((0..count).map(|i| context(100 + i, &format!("stray:{i}"))));
        replies.push(OptionReply::ack(set));
        self.yes[1] = encode(&replies);
        self
    }

    /// A builder that asks for what this server agrees to.
    pub(crate) fn builder(style: ReplyStyle) -> Builder {
        Connection::builder()
            .structured_replies(style != ReplyStyle::Simple)
            .extended_headers(style == ReplyStyle::Extended)
            .meta_context(CONTEXT.1)
    }

    /// Greets, and takes the client's flags.
    pub(crate) fn greet(&mut self) {
        self.stream.write_all(&self.greeting).unwrap();
        self.stream.read_exact(&mut [0; 4]).unwrap();
    }

    /// Waits for an option.
    pub(crate) fn option(&mut self) -> OptionType {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head).unwrap();
        let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        self.discard(word(12).into());
        OptionType(word(8))
    }

    fn discard(&mut self, mut length: u64) {
        let mut scratch = [0; 4096];
        while length > 0 {
            let part = length.min(4096);
            self.stream
                .read_exact(&mut scratch[..part as usize])
                .unwrap();
            length -= part;
        }
    }

    /// Goes through the whole handshake.
    pub(crate) fn handshake(&mut self) {
        self.greet();
        loop {
            let option = self.option();
            let yes = match option {
                OptionType::SET_META_CONTEXT => &self.yes[1],
                OptionType::GO => &self.yes[2],
                _ => &self.yes[0],
            };
            self.stream.write_all(yes).unwrap();
            if option == OptionType::GO {
                return;
            }
        }
    }

    /// Waits for a request; `None` at the end.
    pub(crate) fn request(&mut self) -> Option<RequestHead> {
        let extended = self.style == ReplyStyle::Extended;
        let mut head = [0; 32];
        let head = &mut head[..header_length(extended)];
        self.stream.read_exact(head).ok()?;
        let head = RequestHead::decode(extended, head).unwrap().unwrap();
        self.discard(head.payload(extended));
        (head.command != Command::DISC).then_some(head)
    }

    /// Sends bytes; false if the client has left.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends the same again and again until the client leaves.
    pub(crate) fn flood(&mut self, bytes: &[u8]) {
        while self.send(bytes) {}
    }

    /// Waits for the client to leave.
    pub(crate) fn wait(mut self) {
        while matches!(self.stream.read(&mut [0; 4096]), Ok(1..)) {}
    }

    /// Runs its part on a thread of its own.
    pub(crate) fn spawn(self, script: impl FnOnce(Self) + Send + 'static) -> JoinHandle<()> {
        std::thread::spawn(move || script(self))
    }
}

/// Option replies as bytes.
pub(crate) fn encode(replies: &[OptionReply]) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    replies.iter().for_each(|reply| reply.encode(&mut bytes));
    bytes.to_vec()
}

/// Runs the client's part.
pub(crate) fn run<T>(client: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(client)
}
