//! Streams, sinks and cursors whose connections are lost.

use futures::{SinkExt, StreamExt, TryStreamExt};
use nbd_client::testing::Server;
use nbd_client::wire::Command;
use nbd_client::{Changes, Chunk, Connection, Extent, context};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A disk whose links know what is allocated and what a bitmap marks.
async fn informed() -> (Disk, Server) {
    let dirty = context::qemu_dirty_bitmap("b");
    let rest = SIZE - 65536 - 4096;
    let export = Export::new(SIZE).context(dirty.clone(), [(65536, 0), (4096, 1), (rest, 0)]);
    let server = Server::new(export);
    let link = Connection::builder()
        .meta_context(context::BASE_ALLOCATION)
        .meta_context(dirty);
    let builder = builder().changes(Changes::Repeat).link(link);
    let disk = builder.open(Place::of(&server).connector()).await.unwrap();
    disk.write(65536, vec![7; 4096]).await.unwrap();
    (disk, server)
}

/// Takes all items, and cuts the connection after each.
async fn cut_between<T>(
    server: &Server,
    stream: impl futures::Stream<Item = nbd_client::Result<T>> + Unpin,
) -> Vec<T> {
    let cut = stream.inspect_ok(|_| server.hang_up());
    watch(cut.try_collect()).await.unwrap()
}

both_runtimes!(streams_go_on_over_the_next_connection);
async fn streams_go_on_over_the_next_connection() {
    let (disk, server) = informed().await;
    let bytes = disk.read_stream(..).request_size(65536).depth(2);
    let bytes = cut_between(&server, bytes).await.concat();
    assert_eq!(bytes.len() as u64, SIZE);
    assert!(bytes[65536..65536 + 4096].iter().all(|&byte| byte == 7));

    let pieces = cut_between(&server, disk.pieces(..).request_size(1024)).await;
    let data = |piece: &Chunk| matches!(piece, Chunk::Data { data, .. } if data[0] == 7);
    assert_eq!(pieces.iter().filter(|piece| data(piece)).count(), 4);
    assert_eq!(pieces.iter().map(Chunk::length).sum::<u64>(), SIZE);

    let extents = cut_between(&server, disk.allocation(..)).await;
    assert_eq!(extents.len(), 3);
    let dirty = cut_between(&server, disk.dirty_extents("b", ..)).await;
    let marked: Vec<_> = dirty.iter().filter(|extent| extent.is_dirty).collect();
    assert_eq!(
        (marked[0].offset, marked[0].length, marked.len()),
        (65536, 4096, 1)
    );

    let wanted = [(65536, 512), (0, 512), (4096, 512)];
    let wanted = wanted.map(|(at, length)| Ok(Extent::new(at, length, 0)));
    let found = disk.read_extents(futures::stream::iter(wanted)).depth(1);
    let found = cut_between(&server, found).await;
    let at: Vec<_> = found.iter().map(Chunk::offset).collect();
    assert_eq!(at, [65536, 0, 4096]);
    assert!(disk.status().generation > 20, "{:?}", disk.status());
}

both_runtimes!(a_sink_and_a_cursor_write_over_the_next_connection);
async fn a_sink_and_a_cursor_write_over_the_next_connection() {
    let (disk, server) = informed().await;
    let mut sink = disk.write_sink();
    for at in 0..8_u64 {
        let data = vec![at as u8 + 1; 4096].into();
        let offset = at * 4096;
        watch(sink.send(Chunk::Data { offset, data }))
            .await
            .unwrap();
        server.hang_up();
    }
    let hole = Chunk::Hole {
        offset: 65536,
        length: 4096,
    };
    watch(sink.send(hole)).await.unwrap();
    // The server was not restarted, but the disk cannot know.
    let closed = watch(sink.close()).await;
    assert!(closed.is_ok() || closed.unwrap_err().has_unflushed_writes());
    let mut cursor = disk.cursor();
    let mut bytes = vec![0; 8 * 4096];
    watch(cursor.read_exact(&mut bytes)).await.unwrap();
    for (at, block) in bytes.chunks(4096).enumerate() {
        assert!(block.iter().all(|&byte| byte == at as u8 + 1), "{at}");
    }
    server.hang_up();
    watch(cursor.write_all(b"file")).await.unwrap();
    watch(cursor.flush()).await.unwrap();
    assert_eq!(&disk.read(8 * 4096, 4).await.unwrap()[..], b"file");
    let end = watch(disk.read_stream(SIZE - 1..).collect::<Vec<_>>()).await;
    assert_eq!(end.len(), 1);
}

both_runtimes!(counts_of_lost_connections_stay);
async fn counts_of_lost_connections_stay() {
    let (disk, server) = informed().await;
    disk.flush().await.unwrap();
    let mut events = disk.events();
    for _ in 0..3 {
        watch(disk.read(0, 512).into_future()).await.unwrap();
        server.hang_up();
        recovered(&mut events).await;
    }
    watch(disk.read(0, 512).into_future()).await.unwrap();
    let reads = disk.stats().command(Command::READ);
    assert_eq!((reads.requests, reads.errors, reads.bytes), (4, 0, 2048));
    watch(disk.close()).await.unwrap();
    assert_eq!(disk.stats().command(Command::WRITE).requests, 1);
    assert_eq!(disk.stats().command(Command::READ).requests, 4);
}
