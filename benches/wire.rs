//! The codec: what one message costs to write and to read.
//!
//! `cargo bench --bench wire`
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nbd_client::wire::codec::{ReplyCodec, RequestCodec};
use nbd_client::wire::option::OptionReply;
use nbd_client::wire::reply::{Reply, ReplyHead, StatusChunk, data_body, status_body};
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{
    ChunkType, Command, CommandFlags, Errno, OptionType, ReplyFlags, ReplyStyle,
};
use tokio_util::codec::{Decoder, Encoder};

const HEAD: RequestHead = RequestHead {
    flags: CommandFlags::empty(),
    command: Command::READ,
    cookie: 0x0123_4567_89ab_cdef,
    offset: 4096,
    length: 4096,
};

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request");
    group.throughput(Throughput::Elements(1));
    for (name, style) in [
        ("compact", ReplyStyle::Simple),
        ("extended", ReplyStyle::Extended),
    ] {
        let mut out = BytesMut::with_capacity(4096);
        group.bench_function(format!("encode_{name}"), |b| {
            b.iter(|| {
                out.clear();
                ReplyCodec::new(style)
                    .encode(black_box(HEAD), &mut out)
                    .unwrap();
            });
        });
        let mut server = RequestCodec::new(style, 1 << 20);
        group.bench_function(format!("decode_{name}"), |b| {
            b.iter(|| {
                let mut input = out.clone();
                black_box(server.decode(&mut input).unwrap())
            });
        });
    }
}

fn replies(c: &mut Criterion) {
    let mut group = c.benchmark_group("reply_head");
    group.throughput(Throughput::Elements(1));
    let chunk = |offset| {
        let body = data_body(4096, &[0; 512]);
        Reply::chunk(7, offset, ReplyFlags::DONE, ChunkType::OFFSET_DATA, body)
    };
    for (name, style, reply) in [
        (
            "simple",
            ReplyStyle::Simple,
            Reply::simple(7, Errno::OK, Bytes::new()),
        ),
        ("structured", ReplyStyle::Structured, chunk(None)),
        ("extended", ReplyStyle::Extended, chunk(Some(4096))),
    ] {
        let mut bytes = BytesMut::new();
        reply.encode(&mut bytes);
        group.bench_function(format!("decode_{name}"), |b| {
            b.iter(|| black_box(ReplyHead::decode(style, black_box(&bytes)).unwrap()));
        });
    }
}

fn extents(c: &mut Criterion) {
    let mut group = c.benchmark_group("status_chunk");
    let extents = vec![(65536, 3); 1024];
    group.throughput(Throughput::Elements(1024));
    for (name, wide) in [("narrow", false), ("wide", true)] {
        let body = status_body(wide, 1, &extents);
        group.bench_function(format!("decode_{name}_1024_extents"), |b| {
            b.iter(|| black_box(StatusChunk::decode(wide, black_box(&body)).unwrap()));
        });
    }
}

fn options(c: &mut Criterion) {
    let mut group = c.benchmark_group("option_reply");
    group.throughput(Throughput::Elements(1));
    let mut bytes = BytesMut::new();
    OptionReply::server("disk0", "a disk").encode(&mut bytes);
    group.bench_function("decode_server", |b| {
        b.iter(|| {
            let mut input = bytes.clone();
            let reply = OptionReply::decode(&mut input).unwrap().unwrap();
            assert_eq!(reply.option, OptionType::LIST);
            black_box(reply.parse_server().unwrap())
        });
    });
}

criterion_group!(benches, requests, replies, extents, options);
criterion_main!(benches);
