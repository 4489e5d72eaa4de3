//! Inputs to start from: one of each message that means something.

use bytes::{BufMut, Bytes, BytesMut};
use nbd_client::wire::option::{ExportInfo, Greeting, Info, OptionReply, OptionRequest};
use nbd_client::wire::reply::{Hole, Reply, data_body, error_body, hole_body, status_body};
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{
    ChunkType, Command, CommandFlags, Errno, HandshakeFlags, InfoType, OptionReplyType, OptionType,
    ReplyFlags, ReplyStyle, Text, TransmissionFlags,
};

use super::server_bytes::record;

/// One input: its target, its name, its bytes.
pub type Seed = (&'static str, &'static str, Vec<u8>);

const EXPORT: ExportInfo = ExportInfo {
    size: 1 << 20,
    flags: TransmissionFlags::all(),
};

/// Every seed.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = greetings();
    seeds.extend(option_replies());
    seeds.extend(infos());
    seeds.extend(replies());
    seeds.extend(chunks());
    seeds.extend(requests());
    seeds.extend(uris());
    for (name, style, knobs) in [
        ("simple", ReplyStyle::Simple, 0),
        ("structured", ReplyStyle::Structured, 0),
        ("extended", ReplyStyle::Extended, 0),
        ("options", ReplyStyle::Extended, 0x10),
    ] {
        seeds.push(("server_bytes", name, record(style, knobs)));
    }
    seeds.push(("server_script", "empty", vec![0; 64]));
    seeds.push(("session", "empty", vec![0; 64]));
    seeds
}

fn bytes(encode: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(&mut out);
    out.to_vec()
}

fn greetings() -> Vec<Seed> {
    let newstyle = Greeting::Newstyle(HandshakeFlags::all());
    vec![
        ("greeting", "newstyle", bytes(|out| newstyle.encode(out))),
        (
            "greeting",
            "oldstyle",
            bytes(|out| Greeting::Oldstyle(EXPORT).encode(out)),
        ),
        ("greeting", "export", bytes(|out| EXPORT.encode(true, out))),
        ("greeting", "ssh", b"SSH-2.0-x\r\n".to_vec()),
    ]
}

fn option_replies() -> Vec<Seed> {
    use OptionType as O;
    let list = [
        OptionReply::server("disk", "of mine"),
        OptionReply::ack(O::LIST),
    ];
    let contexts = [
        OptionReply::meta_context(O::SET_META_CONTEXT, 0, "base:allocation"),
        OptionReply::ack(O::SET_META_CONTEXT),
    ];
    let go: Vec<_> = all_infos()
        .iter()
        .map(|info| OptionReply::info(O::GO, info))
        .collect();
    let long = [OptionReply::server("disk", &"x".repeat(4097))];
    let refused = [OptionReply::error(
        O::GO,
        OptionReplyType::ERR_POLICY,
        "not\x1b[1m you",
    )];
    [
        ("list", &list[..]),
        ("contexts", &contexts),
        ("go", &go),
        ("refused", &refused),
        ("long", &long),
    ]
    .map(|(name, replies)| {
        let encode = |out: &mut BytesMut| replies.iter().for_each(|reply| reply.encode(out));
        ("option_reply", name, bytes(encode))
    })
    .into()
}

fn all_infos() -> [Info; 5] {
    [
        Info::Export(EXPORT),
        Info::Name(Some("disk".into())),
        Info::Description(Text::from("of mine")),
        Info::BlockSize {
            minimum: 1,
            preferred: 4096,
            maximum: 1 << 25,
        },
        Info::Unknown(InfoType(77)),
    ]
}

fn infos() -> Vec<Seed> {
    let names = [
        "export",
        "name",
        "description",
        "block_size",
        "unknown",
        "long",
    ];
    let payload = |info| OptionReply::info(OptionType::GO, info).payload.to_vec();
    let long = Info::Description(Text::from("x".repeat(4097).as_str()));
    names
        .into_iter()
        .zip(all_infos().iter().chain([&long]))
        .map(|(name, info)| ("info", name, payload(info)))
        .collect()
}

/// A body of each type of chunk, for a read or a block status at offset 512.
fn bodies() -> [(&'static str, ChunkType, Bytes); 8] {
    let hole = Hole {
        offset: 1024,
        length: 512,
    };
    let extents = [(512, 0), (1024, 3)];
    [
        ("none", ChunkType::NONE, Bytes::new()),
        ("data", ChunkType::OFFSET_DATA, data_body(512, b"some data")),
        ("hole", ChunkType::OFFSET_HOLE, hole_body(hole)),
        (
            "status",
            ChunkType::BLOCK_STATUS,
            status_body(false, 7, &extents),
        ),
        (
            "status_ext",
            ChunkType::BLOCK_STATUS_EXT,
            status_body(true, 7, &extents),
        ),
        (
            "error",
            ChunkType::ERROR,
            error_body(Errno::EIO, "broken", None),
        ),
        (
            "error_offset",
            ChunkType::ERROR_OFFSET,
            error_body(Errno::EIO, "here", Some(600)),
        ),
        (
            "error_unknown",
            ChunkType(0x8077),
            error_body(Errno(99_999), "\u{202e}", None),
        ),
    ]
}

fn replies() -> Vec<Seed> {
    let cookie = 0x0123_4567_89ab_cdef;
    let simple = |out: &mut BytesMut| {
        out.put_u8(0);
        Reply::simple(cookie, Errno::ENOSPC, Bytes::new()).encode(out);
        Reply::simple(cookie, Errno::OK, Bytes::new()).encode(out);
    };
    let chunks = |style, offset| {
        move |out: &mut BytesMut| {
            out.put_u8(style);
            for (_, kind, body) in bodies() {
                Reply::chunk(cookie, offset, ReplyFlags::DONE, kind, body).encode(out);
            }
        }
    };
    vec![
        ("reply", "simple", bytes(simple)),
        ("reply", "structured", bytes(chunks(1, None))),
        ("reply", "extended", bytes(chunks(2, Some(512)))),
    ]
}

fn chunks() -> Vec<Seed> {
    let seed = |(name, kind, body): (_, ChunkType, Bytes)| {
        ("chunk", name, [&kind.0.to_be_bytes(), &body[..]].concat())
    };
    bodies().map(seed).into()
}

fn requests() -> Vec<Seed> {
    let options = |out: &mut BytesMut| {
        out.put_u8(0);
        out.put_u32(3);
        for option in [
            OptionRequest::bare(OptionType::LIST),
            OptionRequest::info(
                OptionType::GO,
                "disk",
                &[InfoType::NAME, InfoType::BLOCK_SIZE],
            ),
            OptionRequest::meta_context(OptionType::SET_META_CONTEXT, "disk", &["base:allocation"]),
            OptionRequest::export_name("disk"),
        ] {
            option.encode(out);
        }
    };
    let heads = |style, extended| {
        move |out: &mut BytesMut| {
            out.put_u8(style);
            for command in [
                Command::READ,
                Command::WRITE,
                Command::BLOCK_STATUS,
                Command::DISC,
            ] {
                let payload: &[u8] = match command {
                    Command::WRITE => b"data",
                    _ => b"",
                };
                let mut flags = CommandFlags::FUA;
                flags.set(CommandFlags::PAYLOAD_LEN, extended && !payload.is_empty());
                let head = RequestHead {
                    flags,
                    command,
                    cookie: 1,
                    offset: 512,
                    length: payload.len() as u64,
                };
                head.encode(extended, out);
                out.put_slice(payload);
            }
        }
    };
    vec![
        ("request", "options", bytes(options)),
        ("request", "compact", bytes(heads(1, false))),
        ("request", "extended", bytes(heads(2, true))),
    ]
}

fn uris() -> Vec<Seed> {
    [
        (
            "tcp",
            "nbds://user@[fe80::1%25eth0]:1/a%20b?tls-type=psk;tls-psk-file=/k",
        ),
        (
            "unix",
            "nbd+unix:///disk?socket=%00name&tls-hostname=h&tls-verify-peer=0",
        ),
        ("vsock", "nbd+vsock://2:10809/?x-a=b&tls-certificates=/c"),
        (
            "ssh",
            "nbds+ssh://u@h:22/x?socket=/s&compress=true&tls-username=u",
        ),
        ("ssh_port", "nbd+ssh://h/?nbd-port=7"),
    ]
    .map(|(name, uri)| ("uri", name, uri.as_bytes().to_vec()))
    .into()
}
