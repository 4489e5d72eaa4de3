//! Replies as an honest server makes them, piece by piece, and what a liar makes of them.

use std::collections::HashMap;
use std::ops::Range;

use arbitrary::Arbitrary;
use bytes::{Buf, Bytes};
use nbd_client::RequestError;
use nbd_client::wire::reply::{
    Hole, Reply, ReplyHead, data_body, error_body, hole_body, status_body,
};
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{ChunkType, Command, Errno, ReplyFlags, ReplyStyle};

/// The contexts that every server here has.
pub const CONTEXTS: [(u32, &str); 2] = [(7, "base:allocation"), (0, "x:y")];

/// The byte at an offset of the export. It is never zero, so that holes show.
pub fn pattern(offset: u64) -> u8 {
    let mixed = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8 | 1
}

/// The bytes from an offset on.
pub fn data(offset: u64, length: u64) -> Vec<u8> {
    let end = offset.saturating_add(length);
    (offset..end).map(pattern).collect()
}

/// The next thing that a server says to a request.
#[derive(Arbitrary, Clone, Debug)]
pub enum Answer {
    /// All that is missing, and the end.
    Rest,
    /// A piece of a read from its front, or else from its back.
    Piece { back: bool, hole: bool, size: u16 },
    /// Failure, and the end.
    Error { errno: u32, message: String },
    /// Failure of a part; more follows.
    Warning { errno: u32, at: Option<u64> },
}

/// What to make of a reply.
#[derive(Arbitrary, Clone, Debug)]
pub enum Lie {
    Cookie(u64),
    OtherCookie,
    Flags(u16),
    Type(u16),
    HeadOffset(u64),
    Length(u32),
    /// The offset in the body, with data to match.
    BodyOffset(i16),
    Errno(u32),
    Cut(u16),
    Twice,
}

impl Lie {
    /// How often the reply is sent.
    pub const fn times(&self) -> usize {
        match self {
            Self::Twice => 2,
            _ => 1,
        }
    }
}

/// How far what the server says can be relied on.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Trust {
    /// It is true.
    Honest,
    /// It is lies, in whole messages: data is still that of the place it names.
    Lies,
    /// Anything.
    Garbled,
}

/// Most failures of parts that one reply tells of.
const WARNINGS: u8 = 8;

/// A request as its server sees it.
#[derive(Debug)]
pub struct Asked {
    pub head: RequestHead,
    style: ReplyStyle,
    /// What of a read has not been sent.
    left: Range<u64>,
    contexts: &'static [(u32, &'static str)],
    warnings: u8,
    failed: Option<Errno>,
    done: bool,
}

impl Asked {
    pub fn new(style: ReplyStyle, head: RequestHead) -> Self {
        Self {
            head,
            style,
            left: head.offset..head.offset + head.length,
            contexts: &CONTEXTS,
            warnings: 0,
            failed: None,
            done: false,
        }
    }

    /// The error that the client must see, if it must see one.
    pub const fn failed(&self) -> Option<Errno> {
        self.failed
    }

    /// Whether it is a flush that failed like this.
    pub fn has_failed_to_flush(&self, error: &RequestError) -> bool {
        self.head.command == Command::FLUSH && self.failed == Some(error.errno())
    }

    /// Whether the reply has ended.
    pub const fn is_done(&self) -> bool {
        self.done
    }

    /// Says something, if the form of replies allows that; or all that is missing.
    pub fn answer(&mut self, answer: &Answer) -> Vec<Reply> {
        if self.done {
            return Vec::new();
        }
        let simple = self.style == ReplyStyle::Simple;
        match answer {
            Answer::Piece { back, hole, size } if !simple => {
                let piece = match self.head.command {
                    Command::READ => self.piece(*back, *hole, (*size).into()),
                    Command::BLOCK_STATUS => self.status(),
                    _ => None,
                };
                piece.into_iter().collect()
            }
            Answer::Warning { errno, at } if !simple && self.warnings < WARNINGS => {
                self.warnings += 1;
                let errno = self.fail(*errno);
                let kind = at.map_or(ChunkType::ERROR, |_| ChunkType::ERROR_OFFSET);
                let body = error_body(errno, "a part of it", *at);
                vec![self.chunk(false, kind, body)]
            }
            Answer::Error { errno, message } => {
                let errno = self.fail(*errno);
                self.done = true;
                if simple {
                    return vec![Reply::simple(self.head.cookie, errno, Bytes::new())];
                }
                let body = error_body(errno, start(message, 4096), None);
                vec![self.chunk(true, ChunkType::ERROR, body)]
            }
            _ => self.rest(),
        }
    }

    /// The first error stands. One of a server that shuts down would end the script.
    fn fail(&mut self, errno: u32) -> Errno {
        let errno = match Errno(errno) {
            Errno::OK | Errno::ESHUTDOWN => Errno::EIO,
            errno => errno,
        };
        self.failed.get_or_insert(errno);
        errno
    }

    fn rest(&mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        self.done = true;
        if self.style == ReplyStyle::Simple {
            let data = match self.head.command {
                Command::READ => data(self.head.offset, self.head.length),
                _ => Vec::new(),
            };
            replies.push(Reply::simple(self.head.cookie, Errno::OK, data.into()));
            return replies;
        }
        match self.head.command {
            Command::READ => replies.extend(self.piece(false, false, u64::MAX)),
            Command::BLOCK_STATUS => replies.extend(std::iter::from_fn(|| self.status())),
            _ => {}
        }
        // The last chunk ends the reply, or one that only does that.
        match replies.last_mut().map(|last| &mut last.head) {
            Some(ReplyHead::Chunk(head)) => head.flags = ReplyFlags::DONE,
            _ => replies.push(self.chunk(true, ChunkType::NONE, Bytes::new())),
        }
        replies
    }

    /// A piece of a read.
    fn piece(&mut self, back: bool, hole: bool, size: u64) -> Option<Reply> {
        let left = self.left.end - self.left.start;
        if left == 0 {
            return None;
        }
        let size = size.clamp(1, left);
        let offset = if back {
            self.left.end -= size;
            self.left.end
        } else {
            self.left.start += size;
            self.left.start - size
        };
        if hole {
            let length = u32::try_from(size).expect("a short read");
            let body = hole_body(Hole { offset, length });
            return Some(self.chunk(false, ChunkType::OFFSET_HOLE, body));
        }
        let data = data(offset, size);
        Some(self.chunk(false, ChunkType::OFFSET_DATA, data_body(offset, &data)))
    }

    /// The status of one more context.
    fn status(&mut self) -> Option<Reply> {
        let ((id, _), rest) = self.contexts.split_first()?;
        self.contexts = rest;
        let wide = self.style == ReplyStyle::Extended;
        let half = self.head.length.div_ceil(2);
        let body = status_body(wide, *id, &[(half, 0), (self.head.length, 3)]);
        let kind = if wide {
            ChunkType::BLOCK_STATUS_EXT
        } else {
            ChunkType::BLOCK_STATUS
        };
        Some(self.chunk(false, kind, body))
    }

    fn chunk(&self, done: bool, kind: ChunkType, body: Bytes) -> Reply {
        let flags = match done {
            true => ReplyFlags::DONE,
            false => ReplyFlags::empty(),
        };
        let offset = (self.style == ReplyStyle::Extended).then_some(self.head.offset);
        Reply::chunk(self.head.cookie, offset, flags, kind, body)
    }
}

/// The longest start of a text that has no more than so many bytes.
fn start(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What has been said about each read.
#[derive(Debug, Default)]
pub struct Ledger {
    reads: HashMap<u64, Said>,
}

#[derive(Debug, Default)]
struct Said {
    /// Data, or the length of a hole, by offset.
    pieces: Vec<(u64, Result<Bytes, u64>)>,
    done: bool,
}

impl Ledger {
    /// A reply goes to the client; `asked` is what it was meant to answer.
    pub fn note(&mut self, reply: &Reply, asked: &RequestHead) {
        let said = self.reads.entry(reply.head.cookie()).or_default();
        if said.done {
            return;
        }
        let mut body = reply.body.clone();
        match &reply.head {
            ReplyHead::Simple { .. } => {
                said.pieces.push((asked.offset, Ok(body)));
                said.done = true;
            }
            ReplyHead::Chunk(head) => {
                if let (ChunkType::OFFSET_DATA | ChunkType::OFFSET_HOLE, Ok(offset)) =
                    (head.chunk, body.try_get_u64())
                {
                    let piece = match head.chunk {
                        ChunkType::OFFSET_DATA => Ok(body),
                        _ => Err(body.try_get_u32().unwrap_or(0).into()),
                    };
                    said.pieces.push((offset, piece));
                }
                said.done = head.is_done();
            }
        }
    }

    /// A read has succeeded: each of its bytes was sent, and once.
    pub fn check(&self, read: &RequestHead, data: &[u8]) {
        assert_eq!(data.len() as u64, read.length);
        let said = &self.reads[&read.cookie];
        assert!(said.done, "a read is over before its reply");
        let mut pieces: Vec<_> = said.pieces.iter().collect();
        pieces.sort_by_key(|(offset, _)| *offset);
        let mut rest = data;
        for (offset, piece) in pieces {
            let at = read.offset + (data.len() - rest.len()) as u64;
            assert_eq!(*offset, at, "a gap or an overlap");
            let length = match piece {
                Ok(piece) => piece.len(),
                Err(hole) => usize::try_from(*hole).expect("a short hole"),
            };
            let (got, after) = rest.split_at(length);
            match piece {
                Ok(piece) => assert_eq!(got, piece),
                Err(_) => assert!(got.iter().all(|&byte| byte == 0)),
            }
            rest = after;
        }
        assert!(rest.is_empty(), "the end is missing");
    }
}

/// Makes a lie of a reply; says how far it can still be relied on. `other` is the cookie of
/// another request.
pub fn lie(lie: &Lie, reply: &mut Reply, other: u64) -> Trust {
    let simple = matches!(reply.head, ReplyHead::Simple { .. });
    let whole = if simple { Trust::Garbled } else { Trust::Lies };
    match (lie, &mut reply.head) {
        (Lie::Cookie(by), ReplyHead::Simple { cookie, .. }) => *cookie ^= by,
        (Lie::Cookie(by), ReplyHead::Chunk(head)) => head.cookie ^= by,
        (Lie::OtherCookie, ReplyHead::Simple { cookie, .. }) => *cookie = other,
        (Lie::OtherCookie, ReplyHead::Chunk(head)) => head.cookie = other,
        (Lie::Flags(by), ReplyHead::Chunk(head)) => {
            head.flags ^= ReplyFlags::from_bits_retain(*by);
        }
        (Lie::Type(kind), ReplyHead::Chunk(head)) => {
            head.chunk = ChunkType(*kind);
            return Trust::Garbled;
        }
        (Lie::HeadOffset(by), ReplyHead::Chunk(head)) => {
            head.offset = head.offset.map(|offset| offset ^ by);
        }
        (Lie::Length(by), ReplyHead::Chunk(head)) => {
            head.length ^= u64::from(*by);
            return Trust::Garbled;
        }
        (Lie::BodyOffset(by), ReplyHead::Chunk(head)) => {
            if let (ChunkType::OFFSET_DATA | ChunkType::OFFSET_HOLE, Some((offset, rest))) =
                (head.chunk, reply.body.split_first_chunk())
            {
                let offset = u64::from_be_bytes(*offset).wrapping_add_signed((*by).into());
                let mut body = offset.to_be_bytes().to_vec();
                if head.chunk == ChunkType::OFFSET_DATA {
                    let places = (0..rest.len() as u64).map(|i| offset.wrapping_add(i));
                    body.extend(places.map(pattern));
                } else {
                    body.extend_from_slice(rest);
                }
                reply.body = body.into();
            }
        }
        (Lie::Errno(to), ReplyHead::Simple { error, .. }) => error.0 = *to,
        (Lie::Errno(to), ReplyHead::Chunk(head)) if head.chunk.is_error() => {
            let rest = reply.body.get(4..).unwrap_or_default();
            reply.body = [&to.to_be_bytes(), rest].concat().into();
        }
        (Lie::Cut(to), _) => {
            reply.body.truncate((*to).into());
            return Trust::Garbled;
        }
        _ => {}
    }
    whole
}
