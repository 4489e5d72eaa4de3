//! Which link takes a read: the one that has written what is not flushed.

use bytes::BytesMut;
use futures::FutureExt as _;
use futures::TryStreamExt as _;
use futures::future::BoxFuture;
use nbd_client::testing::{Export, Server};
use nbd_client::{Chunk, Error, wire::Command};

use super::several::{Busy, over};
use super::*;

const BLOCK: usize = 4096;

/// The ways to read. Each chooses its link itself.
#[derive(Clone, Copy, Debug)]
enum Way {
    Plain,
    Into,
    Chunks,
}

const WAYS: [Way; 3] = [Way::Plain, Way::Into, Way::Chunks];

/// Reads blocks, and returns the first byte of each.
fn blocks(disk: &Disk, way: Way, first: u64, count: usize) -> BoxFuture<'static, Vec<u8>> {
    let (offset, length) = (first * BLOCK as u64, count * BLOCK);
    let disk = disk.clone();
    let read = async move {
        Ok::<_, Error>(match way {
            Way::Plain => disk.read(offset, length).await?.to_vec(),
            Way::Into => {
                let buffer = BytesMut::zeroed(length);
                disk.read_into(offset, buffer).await?.to_vec()
            }
            Way::Chunks => {
                let chunks = disk.read_structured(offset, length);
                let mut bytes = vec![0; length];
                for chunk in chunks.try_collect::<Vec<_>>().await? {
                    if let Chunk::Data { offset: at, data } = chunk {
                        let at = (at - offset) as usize;
                        bytes[at..at + data.len()].copy_from_slice(&data);
                    }
                }
                bytes
            }
        })
    };
    async move {
        let bytes = watch(read).await.unwrap();
        bytes.chunks(BLOCK).map(|block| block[0]).collect()
    }
    .boxed()
}

async fn write(disk: &Disk, block: u64, byte: u8) {
    let write = disk.write(block * BLOCK as u64, vec![byte; BLOCK]);
    watch(write.into_future()).await.unwrap();
}

fn first_byte(export: &Export, block: u64) -> u8 {
    export.contents(block * BLOCK as u64, 1)[0]
}

both_runtimes!(a_read_goes_to_the_link_that_has_written);
async fn a_read_goes_to_the_link_that_has_written() {
    for way in WAYS {
        let exports = [shared(), shared()];
        let servers = exports.clone().map(Server::new);
        let disk = over(builder(), &servers).await;
        write(&disk, 1, 1).await;
        let busy = Busy::link(&disk, &servers[0]).await;
        write(&disk, 2, 2).await;
        let written = [0, 1].map(|at| [1, 2].map(|block| first_byte(&exports[at], block)));
        assert_eq!(written, [[1, 0], [0, 2]]);
        // The second one has less to do, but has not written this.
        let mut read = blocks(&disk, way, 1, 1);
        assert!((&mut read).now_or_never().is_none(), "{way:?}");
        busy.end().await;
        assert_eq!(read.await, [1], "{way:?}");
        // Of two that have nothing to do, the first one would be taken.
        assert_eq!(blocks(&disk, way, 2, 1).await, [2], "{way:?}");
        // What nobody has written is anywhere.
        assert_eq!(blocks(&disk, way, 3, 1).await, [0], "{way:?}");
        let flushes = exports.each_ref().map(|export| export.counters().flushes);
        assert_eq!(flushes, [0, 0], "{way:?}");
        // What is flushed is everywhere.
        watch(disk.flush().into_future()).await.unwrap();
        assert_eq!(blocks(&disk, way, 2, 1).await, [0], "{way:?}");
    }
}

/// A disk over servers that show what was written over the others when any of them is flushed. Each has
/// written the block of its number, except the first one.
async fn caching() -> (Disk, [Export; 3], [Server; 3]) {
    let exports = [shared(), shared(), shared()];
    let servers = exports.clone().map(|export| {
        let all = exports.clone();
        Server::builder()
            .export("", export)
            .fail_with(move |request| {
                if request.command == Command::FLUSH {
                    for (block, from) in all.iter().enumerate() {
                        let at = (block * BLOCK) as u64;
                        let block = from.contents(at, BLOCK);
                        all.iter().for_each(|to| to.write(at, &block));
                    }
                }
                None
            })
            .build()
    });
    let disk = over(builder(), &servers).await;
    let first = Busy::link(&disk, &servers[0]).await;
    write(&disk, 1, 1).await;
    let second = Busy::link(&disk, &servers[1]).await;
    write(&disk, 2, 2).await;
    second.end().await;
    first.end().await;
    let written = [1, 2].map(|at| first_byte(&exports[at], at as u64));
    assert_eq!(written, [1, 2]);
    (disk, exports, servers)
}

fn flushes(exports: &[Export; 3]) -> u64 {
    exports.iter().map(|export| export.counters().flushes).sum()
}

both_runtimes!(what_several_links_have_written_is_flushed_before_it_is_read);
async fn what_several_links_have_written_is_flushed_before_it_is_read() {
    for way in WAYS {
        let (disk, exports, _servers) = caching().await;
        // One of them is enough for what it has written alone.
        assert_eq!(blocks(&disk, way, 1, 1).await, [1], "{way:?}");
        assert_eq!(blocks(&disk, way, 2, 1).await, [2], "{way:?}");
        assert_eq!(flushes(&exports), 0, "{way:?}");
        assert_eq!(blocks(&disk, way, 0, 4).await, [0, 1, 2, 0], "{way:?}");
        assert_eq!(disk.status().unflushed_bytes, 0, "{way:?}");
        // That was the only flush.
        assert_eq!(blocks(&disk, way, 0, 4).await, [0, 1, 2, 0], "{way:?}");
        assert_eq!(flushes(&exports), 1, "{way:?}");
    }
}

both_runtimes!(what_a_lost_link_has_written_is_flushed_before_it_is_read);
async fn what_a_lost_link_has_written_is_flushed_before_it_is_read() {
    for way in WAYS {
        let (disk, exports, servers) = caching().await;
        let mut events = disk.events();
        servers[1].hang_up();
        lost(&mut events).await;
        // The link that is still there needs no flush for what it has written.
        assert_eq!(blocks(&disk, way, 2, 1).await, [2], "{way:?}");
        assert_eq!(flushes(&exports), 0, "{way:?}");
        assert_eq!(blocks(&disk, way, 1, 1).await, [1], "{way:?}");
        assert_eq!(flushes(&exports), 1, "{way:?}");
    }
}
