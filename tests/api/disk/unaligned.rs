//! Changes of parts of blocks, which are several messages.

use nbd_client::Error;
use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Command, Errno};
use tokio::task::JoinHandle;

use super::*;
use crate::support::assert_matches;

const LONG: Duration = Duration::from_secs(3600);

/// An export of blocks of 512 bytes. The first block cannot be read, and what changes the second one
/// takes an hour.
fn server() -> Server {
    Server::builder()
        .export("", Export::new(SIZE).block_sizes(512, 4096, 1 << 20))
        .fail_with(|request| (request.offset == 0).then(|| (Errno::EIO, String::new())))
        .latency_with(|request| match request.offset {
            512 => LONG,
            _ => Duration::ZERO,
        })
        .build()
}

/// A change of the end of the first block, of the second block, and of the start of the third one, whose
/// link is lost before the second one is answered.
async fn fails_in_part(begin: impl FnOnce(&Disk) -> JoinHandle<nbd_client::Result<()>>) {
    let server = server();
    let disk = watch(builder().open(Place::of(&server).connector())).await;
    let disk = disk.unwrap();
    let mut events = disk.events();
    let change = begin(&disk);
    watch(server.received(3)).await;
    // The first block has failed before the connection is lost.
    let failed = || [Command::READ, Command::WRITE].map(|of| disk.stats().command(of).errors);
    watch(async {
        while failed() == [0, 0] {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let next = begun(disk.write(512, vec![2; 512]));
    server.hang_up();
    lost(&mut events).await;
    assert_matches!(watch(change).await.unwrap(), Err(Error::Request(failed)) if failed.errno() == Errno::EIO);
    assert_matches!(watch(next).await.unwrap(), Err(Error::Held { range, .. }) if range == (512..1024));
    // Nobody knows what was read in all blocks: no content is known to be the same.
    assert_eq!(disk.status().held, std::slice::from_ref(&(0..1536)));
    for again in [
        disk.write(512, vec![1; 512]),
        disk.write(1024, vec![1; 512]),
    ] {
        assert_matches!(watch(again.into_future()).await, Err(Error::Held { .. }));
    }
    watch(disk.write(1536, vec![1; 512]).into_future())
        .await
        .unwrap();
}

both_runtimes!(a_part_of_a_change_of_parts_of_blocks_may_be_on_its_way);
async fn a_part_of_a_change_of_parts_of_blocks_may_be_on_its_way() {
    fails_in_part(|disk| begun(disk.write(256, vec![1; 1024]).unaligned())).await;
    fails_in_part(|disk| begun(disk.write_zeroes(256, 1024).unaligned())).await;
}

both_runtimes!(a_change_that_has_failed_as_a_whole_holds_nothing);
async fn a_change_that_has_failed_as_a_whole_holds_nothing() {
    let server = server();
    let disk = watch(builder().open(Place::of(&server).connector())).await;
    let disk = disk.unwrap();
    let mut events = disk.events();
    // The block is read, and nothing is changed; the other block is answered.
    for length in [100, 256] {
        let part = disk.write(256, vec![1; length]).unaligned();
        let error = watch(part.into_future()).await;
        assert_matches!(error, Err(Error::Request(failed)) if failed.errno() == Errno::EIO);
    }
    server.hang_up();
    recovered(&mut events).await;
    assert!(disk.status().held.is_empty());
}
