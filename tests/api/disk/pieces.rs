//! Structured reads, over connections that a script plays the server of.

use futures::StreamExt;
use nbd_client::testing::Peer;
use nbd_client::wire::option::ExportInfo;
use nbd_client::wire::reply::{data_body, error_body};
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{ChunkType, Command, Errno, ReplyStyle, TransmissionFlags as Flags};
use nbd_client::{Chunk, Error};
use tokio::sync::mpsc;

use super::*;
use crate::support::assert_matches;

/// A connector, and the peers that its connections talk to.
fn peers() -> (Connector, mpsc::UnboundedReceiver<Peer>) {
    let (sender, peers) = mpsc::unbounded_channel();
    let connector = Connector::stream(move || {
        let (peer, stream) = Peer::pair();
        sender.send(peer).unwrap();
        async move { Ok(stream) }
    });
    (connector, peers)
}

async fn serve(peers: &mut mpsc::UnboundedReceiver<Peer>) -> Peer {
    let mut peer = watch(peers.recv()).await.unwrap();
    let (size, flags) = (SIZE, Flags::HAS_FLAGS);
    let export = ExportInfo { size, flags };
    let handshake = peer.handshake(ReplyStyle::Structured, export, &[]);
    watch(handshake).await.unwrap();
    peer
}

async fn asked(peer: &mut Peer) -> RequestHead {
    let request = watch(peer.expect_command(Command::READ)).await;
    request.unwrap().head
}

/// Sends a block of data, and an error at a place.
async fn answer(peer: &mut Peer, head: &RequestHead, data: u64, bad: u64) {
    let data = data_body(data, &[1; 512]);
    let data = peer.chunk(head, ChunkType::OFFSET_DATA, data);
    let bad = error_body(Errno::EIO, "bad sector", Some(bad));
    let bad = peer.chunk(head, ChunkType::ERROR_OFFSET, bad);
    peer.send_reply(data).await.unwrap();
    peer.send_reply(bad).await.unwrap();
}

both_runtimes!(a_structured_read_has_the_pieces_before_an_error);
async fn a_structured_read_has_the_pieces_before_an_error() {
    let (connector, mut peers) = peers();
    let (disk, mut first) = tokio::join!(builder().open(connector), serve(&mut peers));
    let disk = disk.unwrap();
    let mut chunks = disk.read_structured(4096, 2048);
    let reading = begun(async move {
        let items: Vec<_> = chunks.by_ref().collect().await;
        assert!(chunks.next().await.is_none());
        items
    });
    // The pieces of a connection that is lost are dropped, and the next one is asked for all.
    let head = asked(&mut first).await;
    answer(&mut first, &head, 4096, 5120).await;
    first.close();
    let mut second = serve(&mut peers).await;
    let head = asked(&mut second).await;
    assert_eq!((head.offset, head.length), (4096, 2048));
    answer(&mut second, &head, 4608, 5632).await;
    let end = second.last_chunk(&head, ChunkType::NONE, bytes::Bytes::new());
    second.send_reply(end).await.unwrap();
    let items = watch(reading).await.unwrap();
    assert_eq!(items.len(), 3, "{items:?}");
    assert_matches!(&items[0], Ok(Chunk::Data { offset: 4608, .. }));
    assert_matches!(&items[1], Ok(Chunk::Error { offset: 5632, .. }));
    assert_matches!(&items[2], Err(Error::Request(error)) if error.failed_at() == Some(5632));
}
