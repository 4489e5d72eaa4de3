//! Floods, lies and late replies once requests are answered.

use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::future::join_all;
use futures::{FutureExt, StreamExt, TryStreamExt};
use nbd_client::wire::reply::{ChunkHead, Reply, ReplyHead, data_body, error_body, status_body};
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{ChunkType as Kind, Errno, ProtocolError, ReplyFlags, ReplyStyle};
use nbd_client::{Connection, Error, Result};

use crate::meter::*;
use crate::server::*;

const DONE: ReplyFlags = ReplyFlags::DONE;
const MORE: ReplyFlags = ReplyFlags::empty();

/// A chunk for whatever request: its cookie, and its offset where there is one, are put in when
/// it is sent.
pub(crate) struct Chunks {
    bytes: BytesMut,
    starts: Vec<usize>,
}

impl Chunks {
    pub(crate) fn new() -> Self {
        Self {
            bytes: BytesMut::new(),
            starts: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, style: ReplyStyle, flags: ReplyFlags, kind: Kind, body: Bytes) {
        let length = body.len() as u64;
        self.head(style, flags, kind, length);
        self.bytes.put_slice(&body);
    }

    /// The head of a chunk, whose body does not come.
    fn head(&mut self, style: ReplyStyle, flags: ReplyFlags, kind: Kind, length: u64) {
        self.starts.push(self.bytes.len());
        ReplyHead::Chunk(ChunkHead {
            flags,
            chunk: kind,
            cookie: 0,
            offset: (style == ReplyStyle::Extended).then_some(0),
            length,
        })
        .encode(&mut self.bytes);
    }

    /// The same in answer to this request.
    pub(crate) fn answer(&mut self, style: ReplyStyle, request: &RequestHead) -> &[u8] {
        for &start in &self.starts {
            let cookie = start + 8..start + 16;
            self.bytes[cookie].copy_from_slice(&request.cookie.to_be_bytes());
            if style == ReplyStyle::Extended {
                let offset = start + 16..start + 24;
                self.bytes[offset].copy_from_slice(&request.offset.to_be_bytes());
            }
        }
        &self.bytes
    }
}

/// Has the first request answered with these; says what `client` makes of it, with at most so
/// many bytes taken.
fn answered<T>(
    style: ReplyStyle,
    chunks: Chunks,
    most: usize,
    client: impl AsyncFnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    answered_by(Server::new(style), style, chunks, most, client)
}

/// The same by this server.
fn answered_by<T>(
    (server, stream): (Server, UnixStream),
    style: ReplyStyle,
    mut chunks: Chunks,
    most: usize,
    client: impl AsyncFnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    let thread = server.spawn(move |mut server| {
        server.handshake();
        let request = server.request().unwrap();
        server.send(chunks.answer(style, &request));
        while server.request().is_some() {}
    });
    let conn = Server::builder(style).build();
    let result = run(async {
        conn.connect_socket(stream).await.unwrap();
        let meter = Meter::start();
        let result = client(&conn).await;
        meter.assert_peak(most);
        result
    });
    drop(conn);
    thread.join().unwrap();
    result
}

#[track_caller]
fn violation<T: std::fmt::Debug>(result: Result<T>) -> ProtocolError {
    match result {
        Err(Error::Protocol(violation, _)) => violation,
        other => panic!("not a violation: {other:?}"),
    }
}

/// Data in pieces of `size` bytes at these places.
pub(crate) fn pieces(
    style: ReplyStyle,
    places: impl IntoIterator<Item = u64>,
    size: usize,
) -> Chunks {
    let mut chunks = Chunks::new();
    for at in places {
        let body = data_body(at, &vec![7; size]);
        chunks.add(style, MORE, Kind::OFFSET_DATA, body);
    }
    chunks
}

#[test]
fn c43_fragments_of_a_byte_take_little_beyond_the_read() {
    let _turn = turn();
    for style in CHUNKED {
        let every_second = (0..4096).map(|i| 2 * i + 1);
        let chunks = pieces(style, every_second, 1);
        let read = async |conn: &Connection| conn.read(0, MIB).await;
        let result = answered(style, chunks, MIB + SLACK, read);
        assert_eq!(violation(result), ProtocolError::TooFragmented);
    }
}

#[test]
fn c43_fragments_of_a_sector_take_little_beyond_the_read() {
    let _turn = turn();
    let sectors = 2048;
    for style in CHUNKED {
        let halves = [1, 2].map(|first| (0..sectors / 2).map(move |i| sectors - first - 2 * i));
        let places = halves.into_iter().flatten().map(|sector| 512 * sector);
        let mut chunks = pieces(style, places, 512);
        chunks.add(style, DONE, Kind::NONE, Bytes::new());
        let read = async |conn: &Connection| conn.read(0, MIB).await;
        let data = answered(style, chunks, MIB + SLACK, read).unwrap();
        assert!(data.iter().all(|&byte| byte == 7));
    }
}

#[test]
fn c42_pieces_that_nobody_takes_take_little_beyond_the_read() {
    let _turn = turn();
    let length = 64 * KIB;
    // As many as are kept.
    let most = length + 4096 * size_of::<nbd_client::Chunk>() + SLACK;
    for style in CHUNKED {
        let chunks = pieces(style, 0..5000, 1);
        let result = answered(style, chunks, most, async |conn| {
            let mut chunks = conn.read_structured(0, length);
            assert!(chunks.next().now_or_never().is_none());
            conn.closed().await;
            while chunks.try_next().await?.is_some() {}
            Ok(())
        });
        assert_eq!(violation(result), ProtocolError::TooFragmented);
    }
}

#[test]
fn c35_errors_without_end_take_no_more_than_one() {
    let _turn = turn();
    for style in CHUNKED {
        let mut chunks = Chunks::new();
        for _ in 0..65 {
            let body = error_body(Errno::EIO, &"x".repeat(4096), None);
            chunks.add(style, MORE, Kind::ERROR, body);
        }
        let read = async |conn: &Connection| conn.read(0, 512).await;
        let result = answered(style, chunks, SLACK, read);
        assert_eq!(violation(result), ProtocolError::TooManyErrors);
    }
}

#[test]
fn c39_x03_a_length_that_is_a_lie_takes_nothing() {
    let _turn = turn();
    for style in CHUNKED {
        let longest = match style {
            ReplyStyle::Extended => u64::MAX,
            _ => u32::MAX.into(),
        };
        for kind in [0, 1, 2, 5, 6, 77, 0x8001, 0x8002, 0x8077].map(Kind) {
            for length in [longest, 1 << 31, 1 << 26] {
                let lie = || {
                    let mut chunks = Chunks::new();
                    chunks.head(style, DONE, kind, length);
                    chunks
                };
                let read = async |conn: &Connection| conn.read(0, 512).await.map(drop);
                violation(answered(style, lie(), 64 * KIB, read));
                let flush = async |conn: &Connection| conn.flush().await;
                violation(answered(style, lie(), 64 * KIB, flush));
                let status = async |conn: &Connection| conn.block_status(0, MIB as u64).await;
                violation(answered(style, lie(), 64 * KIB, status));
            }
        }
    }
}

/// The answer to a status, of so many extents of a byte each.
fn extents(style: ReplyStyle, count: u64) -> Chunks {
    let mut chunks = Chunks::new();
    add_extents(&mut chunks, style, DONE, CONTEXT.0, count);
    chunks
}

fn add_extents(chunks: &mut Chunks, style: ReplyStyle, flags: ReplyFlags, id: u32, count: u64) {
    let wide = style == ReplyStyle::Extended;
    let kind = match wide {
        true => Kind::BLOCK_STATUS_EXT,
        false => Kind::BLOCK_STATUS,
    };
    let extents: Vec<_> = (0..count).map(|i| (1, i % 2)).collect();
    chunks.add(style, flags, kind, status_body(wide, id, &extents));
}

#[test]
fn b12_a_million_extents_take_little_beyond_themselves() {
    let _turn = turn();
    for style in CHUNKED {
        let wire = if style == ReplyStyle::Extended { 16 } else { 8 };
        let most = (1 << 20) * (wire + size_of::<nbd_client::Extent>());
        let status = async |conn: &Connection| conn.block_status(0, 1 << 20).await;
        let status = answered(style, extents(style, 1 << 20), most + SLACK, status).unwrap();
        assert_eq!(status.get(CONTEXT.1).unwrap().len(), 1 << 20);
    }
}

#[test]
fn b10_extents_that_were_not_asked_for_are_not_kept() {
    let _turn = turn();
    for style in CHUNKED {
        let wire = if style == ReplyStyle::Extended { 16 } else { 8 };
        let most = (1 << 20) * wire;
        let status = async |conn: &Connection| conn.block_status(0, 100).await;
        let status = answered(style, extents(style, 1 << 20), most + SLACK, status).unwrap();
        assert_eq!(status.get(CONTEXT.1).unwrap().len(), 100);
    }
}

#[test]
fn extents_of_contexts_that_were_not_asked_for_take_nothing() {
    let _turn = turn();
    const STRAYS: u32 = 4;
    for style in CHUNKED {
        let mut chunks = Chunks::new();
        for id in (0..STRAYS).map(|i| 100 + i) {
            add_extents(&mut chunks, style, MORE, id, 1 << 20);
        }
        add_extents(&mut chunks, style, DONE, CONTEXT.0, 10);
        let (server, stream) = Server::new(style);
        let server = server.with_strays(STRAYS);
        // A chunk is here in full before it is looked at, and the room for the next one is made
        // before that of this one is given back.
        let wire = if style == ReplyStyle::Extended { 16 } else { 8 };
        let most = 2 * (1 << 20) * wire + SLACK;
        let status = async |conn: &Connection| conn.block_status(0, 1 << 20).await;
        let status = answered_by((server, stream), style, chunks, most, status).unwrap();
        assert_eq!(status.len(), 1);
        assert_eq!(status.get(CONTEXT.1).unwrap().len(), 10);
    }
}

#[test]
fn statuses_at_once_take_no_more_than_may_be_in_flight() {
    let _turn = turn();
    const COUNT: usize = 64;
    const LIMIT: usize = 4 * MIB;
    for style in CHUNKED {
        let (server, stream) = Server::new(style);
        let mut answer = extents(style, 1 << 17);
        let thread = server.spawn(move |mut server| {
            server.handshake();
            while let Some(request) = server.request() {
                server.send(answer.answer(style, &request));
            }
        });
        let conn = Server::builder(style)
            .max_in_flight_bytes(LIMIT as u64)
            .build();
        run(async {
            conn.connect_socket(stream).await.unwrap();
            let meter = Meter::start();
            let statuses =
                join_all((0..COUNT).map(|_| conn.block_status(0, MIB as u64).into_future()));
            // Those that were taken do not count any more, and these are kept here: the first to
            // come has the 64th part of the bound, the last all of it.
            for (status, left) in statuses.await.into_iter().zip((1..=COUNT).rev()) {
                let extents = status.unwrap().get(CONTEXT.1).unwrap().len();
                let share = LIMIT / left / size_of::<nbd_client::Extent>();
                assert!(extents <= share.min(1 << 17), "{extents} of {share}");
            }
            assert!(conn.is_ready());
            meter.assert_peak(6 * LIMIT);
        });
        drop(conn);
        thread.join().unwrap();
    }
}

#[test]
fn r16_late_replies_to_abandoned_reads_take_nothing() {
    let _turn = turn();
    const COUNT: usize = 64;
    for style in STYLES {
        let (server, stream) = Server::new(style);
        let mut data = Chunks::new();
        if style == ReplyStyle::Simple {
            let reply = Reply::simple(0, Errno::OK, Bytes::from(vec![7; MIB]));
            data.starts.push(0);
            reply.encode(&mut data.bytes);
        } else {
            let body = data_body(0, &vec![7; MIB]);
            data.add(style, DONE, Kind::OFFSET_DATA, body);
        }
        let (abandon, is_abandoned) = mpsc::channel();
        let thread = server.spawn(move |mut server| {
            server.handshake();
            let reads: Vec<_> = (0..COUNT).map(|_| server.request().unwrap()).collect();
            is_abandoned.recv().unwrap();
            for read in &reads {
                server.send(data.answer(style, read));
            }
            while server.request().is_some() {}
        });
        let conn = Server::builder(style).build();
        run(async {
            conn.connect_socket(stream).await.unwrap();
            let meter = Meter::start();
            let reads = join_all((0..COUNT).map(|_| conn.read(0, MIB).into_future()));
            // Each is polled once, and sent.
            assert!(reads.now_or_never().is_none());
            abandon.send(()).unwrap();
            while conn.in_flight() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(conn.is_ready());
            meter.assert_peak(SLACK);
        });
        drop(conn);
        thread.join().unwrap();
    }
}
