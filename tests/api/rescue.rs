//! Structured reads of a disk with bad places.

use futures::StreamExt;
use nbd_client::wire::reply::{data_body, error_body};
use nbd_client::wire::{ChunkType, Errno};
use nbd_client::{Chunk, Error};

use crate::support::*;

both_runtimes!(every_error_of_a_structured_read_is_told_with_its_place);
async fn every_error_of_a_structured_read_is_told_with_its_place() {
    for style in CHUNKED {
        let (conn, mut peer) = ready(style).await;
        let mut chunks = conn.read_structured(4096, 2048);
        let reading = tokio::spawn(async move {
            let mut items = Vec::new();
            while let Some(item) = chunks.next().await {
                items.push(item);
            }
            assert!(chunks.next().await.is_none());
            items
        });
        let head = peer.expect_request().await.unwrap().head;
        let bad = |errno, message: &str, at| {
            let kind = match at {
                Some(_) => ChunkType::ERROR_OFFSET,
                None => ChunkType::ERROR,
            };
            peer.chunk(&head, kind, error_body(errno, message, at))
        };
        let mut replies = vec![
            peer.chunk(&head, ChunkType::OFFSET_DATA, data_body(4096, &[1; 512])),
            bad(Errno::EIO, "bad sector", Some(4608)),
            peer.chunk(&head, ChunkType::OFFSET_DATA, data_body(5120, &[2; 512])),
            bad(Errno(117), "", Some(5632)),
            // A place outside the read is none.
            bad(Errno::EIO, "", Some(1 << 20)),
            bad(Errno::ENOMEM, "the rest", None),
        ];
        replies.push(peer.last_chunk(&head, ChunkType::NONE, bytes::Bytes::new()));
        for reply in replies {
            peer.send_reply(reply).await.unwrap();
            // Each piece wakes the reader by itself.
            settle().await;
        }
        let items = reading.await.unwrap();
        let (end, pieces) = items.split_last().unwrap();
        let pieces: Vec<_> = pieces.iter().map(|item| item.as_ref().unwrap()).collect();
        let is_error = |piece: &Chunk, at: u64, number: Errno, text: &str| {
            matches!(
                piece,
                Chunk::Error { offset, errno, message }
                    if *offset == at && *errno == number && *message == text.into()
            ) && piece.offset() == at
                && piece.length() == 0
        };
        assert_eq!(pieces.len(), 6, "{items:?}");
        assert_matches!(pieces[0], Chunk::Data { offset: 4096, .. });
        assert!(is_error(pieces[1], 4608, Errno::EIO, "bad sector"));
        assert_matches!(pieces[2], Chunk::Data { offset: 5120, .. });
        assert!(is_error(pieces[3], 5632, Errno(117), ""));
        assert!(is_error(pieces[4], 4096, Errno::EIO, ""));
        assert!(is_error(pieces[5], 4096, Errno::ENOMEM, "the rest"));
        // The read has failed, with the first error.
        assert_matches!(
            end,
            Err(Error::Request(error))
                if error.errno() == Errno::EIO && error.failed_at() == Some(4608)
        );
        assert_eq!(
            format!("{:?}", pieces[1]),
            "Error { offset: 4608, errno: EIO, message: \"bad sector\" }"
        );
    }
}

#[tokio::test]
async fn an_error_is_there_before_the_read_is_over() {
    for style in CHUNKED {
        let (conn, mut peer) = ready(style).await;
        let mut chunks = conn.read_structured(0, 1024);
        let first = tokio::spawn(async move { chunks.next().await });
        let head = peer.expect_request().await.unwrap().head;
        let body = error_body(Errno::EIO, "", Some(512));
        let reply = peer.chunk(&head, ChunkType::ERROR_OFFSET, body);
        peer.send_reply(reply).await.unwrap();
        let first = first.await.unwrap();
        assert_matches!(first, Some(Ok(Chunk::Error { offset: 512, .. })));
    }
}
