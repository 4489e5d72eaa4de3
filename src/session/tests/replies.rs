//! What a server says, as bytes.

use bytes::{Bytes, BytesMut};

use super::{DONE, EXTENDED, SIMPLE};
use crate::wire::reply::{ChunkHead, Hole, Reply, ReplyHead, data_body, error_body, hole_body};
use crate::wire::request::RequestHead;
use crate::wire::{ChunkType, Errno, ReplyFlags, ReplyStyle};

pub(super) fn simple(head: &RequestHead, error: Errno) -> Vec<u8> {
    encode(&Reply::simple(head.cookie, error, Bytes::new()))
}

/// A chunk with a body, as a server that speaks `style` sends it.
pub(super) fn chunk(
    style: ReplyStyle,
    head: &RequestHead,
    flags: ReplyFlags,
    kind: ChunkType,
    body: impl Into<Bytes>,
) -> Vec<u8> {
    let offset = (style == EXTENDED).then_some(head.offset);
    encode(&Reply::chunk(head.cookie, offset, flags, kind, body.into()))
}

/// The head of a chunk, whose body does not come.
pub(super) fn chunk_head(
    style: ReplyStyle,
    head: &RequestHead,
    kind: ChunkType,
    length: u64,
) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    ReplyHead::Chunk(ChunkHead {
        flags: DONE,
        chunk: kind,
        cookie: head.cookie,
        offset: (style == EXTENDED).then_some(head.offset),
        length,
    })
    .encode(&mut bytes);
    bytes.to_vec()
}

pub(super) fn encode(reply: &Reply) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    reply.encode(&mut bytes);
    bytes.to_vec()
}

/// Data in the form of `style`; simple replies have no offset of their own.
pub(super) fn data(
    style: ReplyStyle,
    head: &RequestHead,
    offset: u64,
    data: &[u8],
    flags: ReplyFlags,
) -> Vec<u8> {
    if style == SIMPLE {
        let data = Bytes::copy_from_slice(data);
        return encode(&Reply::simple(head.cookie, Errno::OK, data));
    }
    let body = data_body(offset, data);
    chunk(style, head, flags, ChunkType::OFFSET_DATA, body)
}

pub(super) fn hole(
    style: ReplyStyle,
    head: &RequestHead,
    offset: u64,
    length: u32,
    flags: ReplyFlags,
) -> Vec<u8> {
    let body = hole_body(Hole { offset, length });
    chunk(style, head, flags, ChunkType::OFFSET_HOLE, body)
}

pub(super) fn none(style: ReplyStyle, head: &RequestHead) -> Vec<u8> {
    chunk(style, head, DONE, ChunkType::NONE, Bytes::new())
}

pub(super) fn error(
    style: ReplyStyle,
    head: &RequestHead,
    errno: Errno,
    message: &str,
    flags: ReplyFlags,
) -> Vec<u8> {
    if style == SIMPLE {
        return simple(head, errno);
    }
    let body = error_body(errno, message, None);
    chunk(style, head, flags, ChunkType::ERROR, body)
}

/// Success of a command without content.
pub(super) fn success(style: ReplyStyle, head: &RequestHead) -> Vec<u8> {
    match style {
        SIMPLE => simple(head, Errno::OK),
        _ => none(style, head),
    }
}
