//! What a server says to a request, true or not, as bytes.

use bytes::{Bytes, BytesMut};
use nbd_client::wire::reply::{
    ChunkHead, Hole, Reply, ReplyHead, data_body, error_body, hole_body, status_body,
};
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{ChunkType as Kind, Errno, ReplyFlags, ReplyStyle};

pub(crate) const DONE: ReplyFlags = ReplyFlags::DONE;
pub(crate) const MORE: ReplyFlags = ReplyFlags::empty();

/// The request that is answered, and how the connection speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct To {
    pub(crate) style: ReplyStyle,
    pub(crate) head: RequestHead,
}

impl To {
    /// The same for a request with another cookie.
    pub(crate) const fn cookie(mut self, cookie: u64) -> Self {
        self.head.cookie = cookie;
        self
    }

    /// The offset that goes with chunks in this style.
    fn offset(&self) -> Option<u64> {
        (self.style == ReplyStyle::Extended).then_some(self.head.offset)
    }

    pub(crate) fn simple(&self, errno: Errno) -> Vec<u8> {
        encode(&Reply::simple(self.head.cookie, errno, Bytes::new()))
    }

    pub(crate) fn chunk(&self, kind: Kind, body: impl Into<Bytes>, flags: ReplyFlags) -> Vec<u8> {
        let (cookie, offset) = (self.head.cookie, self.offset());
        encode(&Reply::chunk(cookie, offset, flags, kind, body.into()))
    }

    /// The head of a chunk, whose body does not come.
    pub(crate) fn chunk_head(&self, kind: Kind, length: u64) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        ReplyHead::Chunk(ChunkHead {
            flags: DONE,
            chunk: kind,
            cookie: self.head.cookie,
            offset: self.offset(),
            length,
        })
        .encode(&mut bytes);
        bytes.to_vec()
    }

    /// Data; a simple reply has no offset of its own.
    pub(crate) fn data(&self, offset: u64, data: &[u8], flags: ReplyFlags) -> Vec<u8> {
        if self.style == ReplyStyle::Simple {
            let data = Bytes::copy_from_slice(data);
            return encode(&Reply::simple(self.head.cookie, Errno::OK, data));
        }
        self.chunk(Kind::OFFSET_DATA, data_body(offset, data), flags)
    }

    pub(crate) fn hole(&self, offset: u64, length: u32, flags: ReplyFlags) -> Vec<u8> {
        let body = hole_body(Hole { offset, length });
        self.chunk(Kind::OFFSET_HOLE, body, flags)
    }

    pub(crate) fn none(&self) -> Vec<u8> {
        self.chunk(Kind::NONE, Bytes::new(), DONE)
    }

    /// Success of a command without content.
    pub(crate) fn success(&self) -> Vec<u8> {
        match self.style {
            ReplyStyle::Simple => self.simple(Errno::OK),
            _ => self.none(),
        }
    }

    /// An error; the message goes with chunks only.
    pub(crate) fn error(&self, errno: Errno, message: &str, flags: ReplyFlags) -> Vec<u8> {
        if self.style == ReplyStyle::Simple {
            return self.simple(errno);
        }
        self.chunk(Kind::ERROR, error_body(errno, message, None), flags)
    }

    pub(crate) fn error_at(&self, errno: Errno, offset: u64) -> Vec<u8> {
        let body = error_body(errno, "", Some(offset));
        self.chunk(Kind::ERROR_OFFSET, body, DONE)
    }

    /// The kind of status chunk that the style has.
    pub(crate) const fn status_kind(&self) -> Kind {
        match self.style {
            ReplyStyle::Extended => Kind::BLOCK_STATUS_EXT,
            _ => Kind::BLOCK_STATUS,
        }
    }

    pub(crate) fn status(&self, id: u32, extents: &[(u64, u64)], flags: ReplyFlags) -> Vec<u8> {
        let body = status_body(self.style == ReplyStyle::Extended, id, extents);
        self.chunk(self.status_kind(), body, flags)
    }
}

pub(crate) fn encode(reply: &Reply) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    reply.encode(&mut bytes);
    bytes.to_vec()
}
