//! Slow and large readers next to others.

use futures::TryStreamExt;
use nbd_client::testing::{Export, Peer, Server};
use nbd_client::wire::option::ExportInfo;
use nbd_client::wire::reply::data_body;
use nbd_client::wire::{ChunkType, Command};

use crate::support::*;

/// A server that sends replies in pieces of 64 KiB, in turns.
fn server(export: &Export) -> Server {
    Server::builder()
        .export("", export.clone())
        .read_chunk(64 << 10)
        .interleave_chunks(true)
        .build()
}

#[tokio::test(start_paused = true)]
async fn k15_a_reader_that_does_not_take_its_chunks_holds_up_nobody() {
    for style in STYLES {
        let export = Export::new(4 << 20);
        export.fill(0, 4 << 20, 5);
        let conn = builder(style).build();
        conn.connect_stream(server(&export).connect())
            .await
            .unwrap();
        let mut chunks = conn.read_structured(0, 2 << 20);
        let first = chunks.try_next().await.unwrap().unwrap();
        // It takes no more for now, and hundreds of others come and go.
        for _ in 0..300 {
            assert_eq!(conn.read(1 << 20, 4096).await.unwrap()[..], [5; 4096]);
        }
        let rest: Vec<_> = chunks.try_collect().await.unwrap();
        let lengths = rest.iter().map(nbd_client::Chunk::length);
        assert_eq!(first.length() + lengths.sum::<u64>(), 2 << 20);
    }
}

// With simple replies a server has no choice but to send each in one piece.
#[tokio::test(start_paused = true)]
async fn k16_small_reads_are_answered_in_the_middle_of_a_large_one() {
    const PIECE: usize = 256 << 10;
    const PIECES: u64 = 64;
    const LARGE: usize = PIECE * PIECES as usize;
    for style in CHUNKED {
        let info = ExportInfo {
            size: LARGE as u64,
            ..INFO
        };
        let (mut peer, stream) = Peer::pair();
        let conn = builder(style).build();
        let greeted = peer.handshake(style, info, &[]);
        let (connected, greeted) = tokio::join!(conn.connect_stream(stream), greeted);
        greeted.unwrap();
        connected.unwrap();
        let large = tokio::spawn(conn.read(0, LARGE).into_future());
        let head = peer.expect_command(Command::READ).await.unwrap().head;
        for piece in 0..PIECES {
            assert!(!large.is_finished());
            let small = tokio::spawn(conn.read(piece, 8).into_future());
            let asked = peer.expect_command(Command::READ).await.unwrap().head;
            let offset = piece * PIECE as u64;
            let body = data_body(offset, &vec![piece as u8; PIECE]);
            let reply = if piece + 1 < PIECES {
                peer.chunk(&head, ChunkType::OFFSET_DATA, body)
            } else {
                peer.last_chunk(&head, ChunkType::OFFSET_DATA, body)
            };
            // The small answer is on its way behind a piece of the large one, and comes before
            // anything else is sent.
            peer.send_reply(reply).await.unwrap();
            peer.send_data(&asked, &[9; 8]).await.unwrap();
            assert_eq!(small.await.unwrap().unwrap()[..], [9; 8]);
        }
        let data = large.await.unwrap().unwrap();
        let mut pieces = data.chunks(PIECE).zip(0u8..);
        assert!(pieces.all(|(piece, fill)| piece.iter().all(|&byte| byte == fill)));
    }
}
