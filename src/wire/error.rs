//! What a peer can do wrong on the wire.

use std::fmt;

use super::num::{ChunkType, Command, InfoType, OptionReplyType, OptionType};

/// The peer broke the protocol. Always fatal: nothing after it on the stream can be trusted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The peer does not speak NBD: it did not begin with the magic.
    #[error("the peer does not speak NBD: it began with {start}")]
    NotNbd {
        /// The first bytes it sent.
        start: Excerpt,
    },
    /// The second magic of the greeting is neither oldstyle nor newstyle.
    #[error("unknown handshake magic {0:#018x}")]
    UnknownHandshake(u64),
    /// A client sent handshake flags that were not offered.
    #[error("client flags {0:#x} were not offered")]
    ClientFlags(u32),
    /// An option request does not begin with its magic.
    #[error("wrong option magic {0:#018x}")]
    OptionMagic(u64),
    /// An option reply does not begin with its magic.
    #[error("wrong option reply magic {0:#018x}")]
    OptionReplyMagic(u64),
    /// An option reply answers another option than the one that was sent.
    #[error("reply to option {echoed} while waiting for {sent}")]
    WrongOption {
        /// The option that was sent.
        sent: OptionType,
        /// The option the reply names.
        echoed: OptionType,
    },
    /// An option reply of a type that is not expected: one that belongs to other options, or that
    /// demands what the connection has already, as `ERR_TLS_REQD` does where TLS is on.
    #[error("reply {reply} to option {option} is not possible here")]
    UnexpectedOptionReply {
        /// The option that was sent.
        option: OptionType,
        /// The type of the reply.
        reply: OptionReplyType,
    },
    /// A length that does not fit what it is the length of.
    #[error("{what} of {length} bytes, which is not a possible length")]
    Length {
        /// What the length belongs to.
        what: &'static str,
        /// The length, in bytes.
        length: u64,
    },
    /// A string that is not valid UTF-8, contains NUL, or is not formed as it must be.
    #[error("malformed {0}")]
    Text(&'static str),
    /// More replies to one option than any honest server sends.
    #[error("too many replies to option {0}")]
    TooManyReplies(OptionType),
    /// The answer ended, or began, with something else than size and flags of the export.
    #[error("option {0} answered without size and flags of the export")]
    NoExportInfo(OptionType),
    /// Transmission flags are set, but not `HAS_FLAGS`.
    #[error("transmission flags {0:#06x} lack HAS_FLAGS")]
    TransmissionFlags(u16),
    /// An export of 2^63 bytes or more.
    #[error("export of {0} bytes is larger than 2^63 - 1")]
    ExportSize(u64),
    /// Block sizes that contradict each other or the protocol.
    #[error("impossible block sizes: minimum {minimum}, preferred {preferred}, maximum {maximum}")]
    BlockSizes {
        /// The minimum block size, in bytes.
        minimum: u32,
        /// The preferred block size, in bytes.
        preferred: u32,
        /// The maximum payload, in bytes.
        maximum: u32,
    },
    /// An information reply that has a fixed form and does not have it.
    #[error("malformed information of type {0}")]
    Info(InfoType),
    /// Information about an export that contradicts what the server said before it, in reply to the
    /// same option.
    #[error("two different answers of type {info} to option {option}")]
    ContradictoryInfo {
        /// The option that was sent.
        option: OptionType,
        /// The type of the information.
        info: InfoType,
    },
    /// Two contexts were given the same id.
    #[error("metadata context id {0} given twice")]
    DuplicateContext(u32),
    /// One context was given two ids.
    #[error("metadata context {0:?} given two ids")]
    DuplicateContextName(String),
    /// A TLS server sent bytes in clear after agreeing to TLS.
    #[error("{0} bytes in clear after the server agreed to TLS")]
    ClearBytesBeforeTls(usize),
    /// A request or reply does not begin with a magic that is possible here.
    #[error("wrong magic {0:#010x}")]
    Magic(u32),
    /// A reply to a request that is not in flight.
    #[error("reply with unknown cookie {0:#018x}")]
    UnknownCookie(u64),
    /// The offset of an extended reply is not that of its request.
    #[error("reply names offset {got} for a request at {sent}")]
    WrongOffset {
        /// The offset of the request, in bytes.
        sent: u64,
        /// The offset in the reply, in bytes.
        got: u64,
    },
    /// A simple reply where only chunks are allowed.
    #[error("simple reply to {0} although chunks were agreed")]
    SimpleReply(Command),
    /// A chunk that does not belong to this command.
    #[error("chunk {chunk} does not belong to {command}")]
    UnexpectedChunk {
        /// The command of the request.
        command: Command,
        /// The type of the chunk.
        chunk: ChunkType,
    },
    /// A `NONE` chunk that does not end its reply.
    #[error("NONE chunk without DONE")]
    NotDone,
    /// An error chunk without an error.
    #[error("error chunk with error number 0")]
    NoError,
    /// More error chunks than any honest server sends for one request.
    #[error("too many error chunks for one request")]
    TooManyErrors,
    /// Content outside the range that was asked for.
    #[error(
        "{length} bytes of content at offset {offset} are outside the request for {size} bytes at \
         offset {start}"
    )]
    OutOfRange {
        /// Offset of the content, in bytes.
        offset: u64,
        /// Length of the content, in bytes.
        length: u64,
        /// Offset of the request, in bytes.
        start: u64,
        /// Length of the request, in bytes.
        size: u64,
    },
    /// The same byte was sent twice.
    #[error("{length} bytes of content at offset {offset} overlap earlier content")]
    Overlap {
        /// Offset of the content, in bytes.
        offset: u64,
        /// Length of the content, in bytes.
        length: u64,
    },
    /// Content in more disjoint pieces than any honest server sends.
    #[error("content in too many pieces")]
    TooFragmented,
    /// A read was reported as done although some of its bytes never came.
    #[error("read done with {missing} of {length} bytes missing")]
    IncompleteRead {
        /// How many bytes did not come.
        missing: u64,
        /// The length of the request, in bytes.
        length: u64,
    },
    /// More than one chunk of content although one was asked for.
    #[error("fragmented reply although DF was set")]
    Fragmented,
    /// Status for a context that was not selected.
    #[error("status for unknown metadata context id {0}")]
    UnknownContext(u32),
    /// Status for one context twice in one reply.
    #[error("second status chunk for metadata context id {0}")]
    DuplicateStatus(u32),
    /// A block status reply without the status of every context.
    #[error("block status done with {0} contexts missing")]
    MissingStatus(usize),
    /// Extents that cannot be.
    #[error("{0}")]
    Extents(&'static str),
}

impl ProtocolError {
    /// A length that does not fit `what`.
    pub(crate) const fn length(what: &'static str, length: u64) -> Self {
        Self::Length { what, length }
    }
}

/// The first bytes a peer sent, printed with everything but plain ASCII escaped.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Excerpt {
    bytes: [u8; 16],
    length: usize,
}

impl Excerpt {
    /// Keeps at most the first 16 of `bytes`.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut excerpt = Self {
            bytes: [0; 16],
            length: bytes.len().min(16),
        };
        for (to, from) in excerpt.bytes.iter_mut().zip(bytes) {
            *to = *from;
        }
        excerpt
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        write!(f, "\"{}\"", bytes.escape_ascii())
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
