//! The parsers: whatever comes, nothing panics, nothing is taken that is not there, half a message
//! takes nothing at all, and what was understood is written again as it came.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use nbd_client::wire::codec::{
    Expect, OptionCodec, ReplyCodec, Request, RequestCodec, ServerMessage, ServerOptionCodec,
};
use nbd_client::wire::option::{ClientMessage, Info, MAX_INFO, OptionReply};
use nbd_client::wire::reply::{
    ErrorChunk, Hole, Reply, ReplyHead, StatusChunk, error_body, hole_body, status_body,
};
use nbd_client::wire::{ChunkType, HandshakeFlags, OptionReplyType, OptionType, ReplyStyle};
use tokio_util::codec::{Decoder, Encoder};

use super::assert_printable;

/// Most that a server of these tests takes as a payload.
const MAX_PAYLOAD: u64 = 4096;

/// The first message in `data` and its length. Whatever arrived so far, it is the same.
fn first<T: Debug + PartialEq, E: Debug + ToString>(
    data: &[u8],
    mut parse: impl FnMut(&mut BytesMut) -> Result<Option<T>, E>,
) -> Option<(T, usize)> {
    let mut parse = |length: usize| {
        let given = data.get(..length).expect("a part of it");
        let mut rest = BytesMut::from(given);
        let result = parse(&mut rest);
        assert!(given.ends_with(&rest), "it takes from the front");
        (result, length - rest.len())
    };
    let (whole, used) = parse(data.len());
    let cuts = (0..data.len().min(40)).chain(used.saturating_sub(2)..data.len().min(used + 2));
    for cut in cuts {
        match (parse(cut), &whole) {
            ((Ok(None), 0), Ok(None) | Err(_)) => {}
            ((Ok(None), 0), Ok(Some(_))) => assert!(cut < used, "{cut} bytes of {used}"),
            ((Ok(Some(part)), taken), Ok(Some(whole))) => {
                assert_eq!((&part, taken), (whole, used));
            }
            ((Err(_), _), Err(_)) => {}
            (part, whole) => panic!("{part:?} of {whole:?}", part = part.0.ok()),
        }
    }
    match whole {
        Ok(message) => message.map(|message| (message, used)),
        Err(error) => {
            assert_printable(&error.to_string());
            None
        }
    }
}

/// A message as its sender's codec writes it.
fn encoded<C: Encoder<M>, M>(mut codec: C, message: M) -> BytesMut
where
    C::Error: Debug,
{
    let mut out = BytesMut::new();
    codec.encode(message, &mut out).expect("nothing is refused");
    out
}

/// The server's side of the handshake.
fn server() -> ServerOptionCodec {
    ServerOptionCodec::new(HandshakeFlags::all())
}

/// The first message of a server.
pub fn greeting(data: &[u8]) {
    let parse = |src: &mut BytesMut| OptionCodec::default().decode(src);
    if let Some((greeting, used)) = first(data, parse) {
        let mut again = encoded(server(), greeting.clone());
        assert_eq!(again.len(), used);
        assert_eq!(
            parse(&mut again).expect("it is well formed"),
            Some(greeting)
        );
    }
    for padding in [false, true] {
        let mut codec = OptionCodec::default();
        codec.expect(Expect::Export { padding });
        if let Some((ServerMessage::Export(export), used)) = first(data, |src| codec.decode(src)) {
            let mut again = BytesMut::new();
            export.encode(padding, &mut again);
            assert_eq!((&again[..10], again.len()), (&data[..10], used));
            if !padding {
                assert_eq!(encoded(server(), ServerMessage::Export(export)), again);
            }
        }
    }
}

/// Replies to options, one after the other.
pub fn option_reply(mut data: &[u8]) {
    let mut codec = OptionCodec::default();
    codec.expect(Expect::Reply);
    while let Some((ServerMessage::Reply(reply), used)) = first(data, |src| codec.decode(src)) {
        let again = encoded(server(), ServerMessage::Reply(reply.clone()));
        assert_eq!(again, &data[..used]);
        assert!(reply.payload.len() <= MAX_INFO as usize);
        assert_printable(&reply.message().to_string());
        if let Ok((name, description)) = reply.parse_server() {
            assert!(name.len() <= 4096 && !name.contains('\0'));
            assert_printable(&description.to_string());
            if description.as_str().as_bytes() == &reply.payload[4 + name.len()..] {
                let again = OptionReply::server(&name, description.as_str());
                assert_eq!(again.payload, reply.payload);
            }
        }
        if let Ok((id, name)) = reply.parse_meta_context() {
            assert!(name.len() <= 4096 && !name.contains('\0') && name.contains(':'));
            let again = OptionReply::meta_context(reply.option, id, &name);
            assert_eq!(again.payload, reply.payload);
        }
        if reply.reply == OptionReplyType::INFO {
            info(&reply.payload);
        }
        data = &data[used..];
    }
}

/// The payload of an information reply.
pub fn info(data: &[u8]) {
    match Info::decode(data) {
        Err(error) => assert_printable(&error.to_string()),
        Ok(Info::Name(None) | Info::Unknown(_)) => {}
        Ok(info) => {
            assert!(data.len() <= 2 + 4096);
            let again = OptionReply::info(OptionType::GO, &info).payload;
            match &info {
                Info::Description(text) => {
                    assert_printable(&text.to_string());
                    assert_eq!(String::from_utf8_lossy(&data[2..]), text.as_str());
                }
                _ => assert_eq!(again, data),
            }
        }
    }
}

/// Replies of the transmission phase, one after the other; the first byte says in which form.
pub fn reply(data: &[u8]) {
    let Some((style, mut data)) = data.split_first() else {
        return;
    };
    let style = style_of(*style);
    loop {
        let parse = |src: &mut BytesMut| ReplyCodec::new(style).decode(src);
        let Some((head, used)) = first(data, parse) else {
            return;
        };
        let body = Bytes::new();
        let again = encoded(RequestCodec::new(style, 0), Reply { head, body });
        assert_eq!(again, &data[..used]);
        data = &data[used..];
        let ReplyHead::Chunk(head) = head else {
            continue;
        };
        match head.check_length() {
            Ok(()) => {
                let length = usize::try_from(head.length).unwrap_or(usize::MAX);
                let Some((body, rest)) = data.split_at_checked(length) else {
                    return;
                };
                chunk_body(head.chunk, body);
                data = rest;
            }
            Err(error) => assert_printable(&error.to_string()),
        }
    }
}

/// The form of replies that a byte stands for.
pub(super) fn style_of(byte: u8) -> ReplyStyle {
    match byte % 3 {
        0 => ReplyStyle::Simple,
        1 => ReplyStyle::Structured,
        _ => ReplyStyle::Extended,
    }
}

/// The body of a chunk, after two bytes that say of which type.
pub fn chunk(data: &[u8]) {
    if let Some((kind, body)) = data.split_first_chunk() {
        chunk_body(ChunkType(u16::from_be_bytes(*kind)), body);
    }
}

fn chunk_body(kind: ChunkType, body: &[u8]) {
    match kind {
        ChunkType::OFFSET_HOLE => match Hole::decode(body) {
            Ok(hole) => assert_eq!(hole_body(hole), body),
            Err(error) => assert_printable(&error.to_string()),
        },
        ChunkType::BLOCK_STATUS | ChunkType::BLOCK_STATUS_EXT => {
            let wide = kind == ChunkType::BLOCK_STATUS_EXT;
            match StatusChunk::decode(wide, body) {
                Ok(status) => {
                    assert!(!status.extents.is_empty());
                    assert!(status.extents.iter().all(|(length, _)| *length > 0));
                    let again = status_body(wide, status.context, &status.extents);
                    assert_eq!(again, body);
                }
                Err(error) => assert_printable(&error.to_string()),
            }
        }
        _ => match ErrorChunk::decode(kind, body) {
            Ok(chunk) => {
                assert_ne!(chunk.error.0, 0);
                assert!(chunk.message.as_str().len() <= 3 * 4096);
                assert_printable(&chunk.message.to_string());
                assert_printable(&chunk.error.to_string());
                let again = error_body(chunk.error, chunk.message.as_str(), chunk.offset);
                let same = ErrorChunk::decode(kind, &again);
                if chunk.message.as_str().len() <= 4096 {
                    assert_eq!(same, Ok(chunk));
                }
            }
            Err(error) => assert_printable(&error.to_string()),
        },
    }
}

/// What a client sends: options, or requests; the first byte says which.
pub fn request(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    match style_of(*kind) {
        ReplyStyle::Simple => options(data),
        style => requests(style, data),
    }
}

fn options(mut data: &[u8]) {
    let mut codec = server();
    loop {
        // The codec remembers the greeting: each attempt is made with a copy.
        let parse = |src: &mut BytesMut| codec.clone().decode(src);
        let Some((message, used)) = first(data, parse) else {
            return;
        };
        codec.decode(&mut BytesMut::from(data)).expect("once more");
        assert_eq!(message.length(), used);
        if let ClientMessage::Option(option) = &message {
            let again = encoded(OptionCodec::default(), message.clone());
            assert_eq!(again, &data[..used]);
            for error in [option.parse_info().err(), option.parse_meta_context().err()] {
                error.inspect(|error| assert_printable(&error.to_string()));
            }
        }
        data = &data[used..];
    }
}

fn requests(style: ReplyStyle, mut data: &[u8]) {
    loop {
        let parse = |src: &mut BytesMut| RequestCodec::new(style, MAX_PAYLOAD).decode(src);
        let Some((Request { head, payload }, used)) = first(data, parse) else {
            return;
        };
        assert!(payload.len() as u64 <= MAX_PAYLOAD);
        let mut again = encoded(ReplyCodec::new(style), head);
        again.extend_from_slice(&payload);
        assert_eq!(again, &data[..used]);
        data = &data[used..];
    }
}
