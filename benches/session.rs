//! The state machine without a socket: what one request costs from its submission to its answer.
//!
//! `cargo bench --bench session`
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::task::{Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nbd_client::session::{
    Answer, Assembly, Bounds, Cookie, Outbox, SLICES, Session, Sink, Submission,
};
use nbd_client::wire::reply::{Reply, data_body};
use nbd_client::wire::request::{RequestHead, header_length};
use nbd_client::wire::{ChunkType, Command, CommandFlags, Errno, ReplyFlags, ReplyStyle};

const STYLES: [(&str, ReplyStyle); 3] = [
    ("simple", ReplyStyle::Simple),
    ("structured", ReplyStyle::Structured),
    ("extended", ReplyStyle::Extended),
];

fn reads(c: &mut Criterion) {
    let mut group = c.benchmark_group("session_read");
    for (name, style) in STYLES {
        for depth in [1, 64, 1024] {
            group.throughput(Throughput::Elements(depth));
            group.bench_function(format!("4k_depth{depth}_{name}"), |b| {
                let mut session = Session::new(style, bounds(), Session::random_cookie());
                b.iter(|| round(&mut session, style, depth));
            });
        }
    }
}

fn bounds() -> Bounds {
    Bounds {
        requests: 4096,
        bytes: 1 << 30,
    }
}

/// Submits `depth` reads, lets a server answer them all, and takes the answers.
fn round(session: &mut Session, style: ReplyStyle, depth: u64) {
    let cookies: Vec<_> = (0..depth).map(|i| submit(session, i * 4096)).collect();
    let mut input = answer(session, style);
    session.receive(&mut input).unwrap();
    for cookie in cookies {
        match session.poll_answer(cookie, Waker::noop()) {
            Poll::Ready(Ok(Answer::Data(data))) => assert_eq!(black_box(data).len(), 4096),
            other => panic!("no data: {other:?}"),
        }
    }
    session.take_woken(&mut Vec::new());
}

fn submit(session: &mut Session, offset: u64) -> Cookie {
    let read = Assembly::new(offset, 4096, BytesMut::new());
    let mut submission = Some(Submission {
        command: Command::READ,
        flags: CommandFlags::empty(),
        offset,
        length: 4096,
        payload: Bytes::new(),
        sink: Sink::Read(read),
    });
    match session.poll_submit(&mut submission, &mut None, Waker::noop()) {
        Poll::Ready(cookie) => cookie.unwrap(),
        Poll::Pending => panic!("no room"),
    }
}

/// What a server answers to all that is queued. Its cost is part of the figures; it is the same
/// for all of them.
fn answer(session: &mut Session, style: ReplyStyle) -> BytesMut {
    let extended = style == ReplyStyle::Extended;
    let mut outbox = Outbox::default();
    session.take_outbox(&mut outbox);
    let mut slices = [std::io::IoSlice::new(&[]); SLICES];
    let used = outbox.slices(&mut slices);
    let mut replies = BytesMut::new();
    for mut slice in slices[..used].iter().map(|slice| &slice[..]) {
        while let Some(head) = RequestHead::decode(extended, slice).unwrap() {
            slice.advance(header_length(extended));
            reply(style, &head).encode(&mut replies);
        }
    }
    // All that was queued counts as written.
    session.set_written(u64::MAX);
    replies
}

fn reply(style: ReplyStyle, head: &RequestHead) -> Reply {
    if style == ReplyStyle::Simple {
        return Reply::simple(head.cookie, Errno::OK, Bytes::from_static(&[7; 4096]));
    }
    let offset = (style == ReplyStyle::Extended).then_some(head.offset);
    let body = data_body(head.offset, &[7; 4096]);
    Reply::chunk(
        head.cookie,
        offset,
        ReplyFlags::DONE,
        ChunkType::OFFSET_DATA,
        body,
    )
}

criterion_group!(benches, reads);
criterion_main!(benches);
