//! Structured reads whose answers come and are not taken.

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use nbd_client::wire::reply::error_body;
use nbd_client::wire::{ChunkType as Kind, Errno, ReplyFlags, ReplyStyle};

use crate::meter::*;
use crate::server::*;
use crate::transmission::{Chunks, pieces};

const COUNT: usize = 64;
const LIMIT: usize = 4 * MIB;

/// Begins the reads and takes nothing, while the server answers each with these; says how much that
/// takes.
fn peak(style: ReplyStyle, mut chunks: Chunks) -> usize {
    let (server, stream) = Server::new(style);
    let thread = server.spawn(move |mut server| {
        server.handshake();
        let reads: Vec<_> = (0..COUNT).map(|_| server.request().unwrap()).collect();
        for read in &reads {
            server.send(chunks.answer(style, read));
        }
        // If it is asked for more, all that was sent has been taken in when that is answered.
        if let Some(flush) = server.request() {
            let mut end = Chunks::new();
            end.add(style, ReplyFlags::DONE, Kind::NONE, Bytes::new());
            server.send(end.answer(style, &flush));
        }
        server.wait();
    });
    let conn = Server::builder(style)
        .max_in_flight_bytes(LIMIT as u64)
        .build();
    let peak = run(async {
        conn.connect_socket(stream).await.unwrap();
        let meter = Meter::start();
        let mut reads: Vec<_> = (0..COUNT)
            .map(|_| conn.read_structured(0, 4 * KIB))
            .collect();
        for read in &mut reads {
            assert!(read.next().now_or_never().is_none());
        }
        // It is an error if the connection has ended.
        let _ = conn.flush().await;
        meter.peak()
    });
    drop(conn);
    thread.join().unwrap();
    peak
}

#[test]
fn pieces_of_many_reads_take_no_more_than_may_be_in_flight() {
    let _turn = turn();
    for style in CHUNKED {
        // As many as may wait, and too many.
        for each in [LIMIT / COUNT / 160, 4000] {
            let peak = peak(style, pieces(style, 0..each as u64, 1));
            println!("{} KiB", peak / KIB);
            assert!(peak <= LIMIT + SLACK, "{peak} bytes for {each} of each");
        }
    }
}

#[test]
fn messages_of_many_reads_take_no_more_than_one_of_each() {
    let _turn = turn();
    for style in CHUNKED {
        let mut chunks = Chunks::new();
        for _ in 0..60 {
            let body = error_body(Errno::EIO, &"x".repeat(4096), None);
            chunks.add(style, ReplyFlags::empty(), Kind::ERROR, body);
        }
        let peak = peak(style, chunks);
        println!("{} KiB", peak / KIB);
        assert!(peak <= COUNT * 16 * KIB + SLACK, "{peak} bytes");
    }
}
