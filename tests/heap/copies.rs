//! A copy holds what it has in flight, however large the disk and its map are.

use std::future::IntoFuture;
use std::time::Duration;

use nbd_client::testing::{Export, Server};
use nbd_client::{Connection, Copied, Copying, Destination, context, copy};
use tokio::runtime::Builder;

use crate::meter::*;

const BITMAP: &str = "qemu:dirty-bitmap:b";

async fn connect(export: Export) -> Connection {
    let contexts = Connection::builder().meta_context(context::BASE_ALLOCATION);
    let connection = contexts.meta_context(BITMAP).build();
    // As many as qemu-nbd sends at a time.
    let server = Server::builder().export("", export).max_extents(65536);
    let server = server.build();
    connection.connect_stream(server.connect()).await.unwrap();
    connection
}

/// Copies what `make` sets up, and returns the most memory that there was.
fn peak<F: Future<Output = Copying>>(make: impl FnOnce() -> F) -> (Copied, usize) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let copying = make().await;
        let meter = Meter::start();
        let copying = tokio::time::timeout(Duration::from_secs(120), copying.into_future());
        let copied = copying.await.expect("it hangs").unwrap();
        (copied, meter.peak())
    })
}

#[test]
fn a_tebibyte_of_holes_takes_no_memory() {
    let _turn = turn();
    let (copied, peak) = peak(async || {
        let source = connect(Export::new(1 << 40)).await;
        let destination = Export::new(1 << 40);
        // It is not known to be zero from there on.
        destination.fill(0, 4096, 1);
        copy(source, connect(destination).await).checkpoints(|_| Ok(()))
    });
    assert_eq!(copied.zeroes, 1 << 40);
    println!("{} KiB", peak / KIB);
    assert!(peak < MIB, "{peak}");
}

#[test]
fn a_long_map_is_not_collected() {
    let extents = std::env::var("NBD_EXTENTS").map_or(200_000, |many| many.parse().unwrap());
    let _turn = turn();
    let (copied, peak) = peak(async move || {
        let map = (0_u64..extents).map(|number| (512, number % 2));
        let source = Export::new(extents * 512).context(BITMAP, map);
        let source = connect(source).await;
        let copying = copy(source, Destination::nothing())
            .only(BITMAP)
            .extents(false);
        copying.checkpoints(|_| Ok(()))
    });
    assert_eq!(copied.data, extents / 2 * 512);
    assert_eq!(copied.skipped, extents / 2 * 512);
    println!("{} KiB", peak / KIB);
    assert!(peak < 8 * MIB, "{peak}");
}

#[test]
fn data_is_held_up_to_the_limit() {
    let _turn = turn();
    let size = 64 << 20;
    let (copied, peak) = peak(async || {
        let source = Export::new(size);
        source.fill(0, size, 1);
        let copying = copy(connect(source).await, Destination::nothing());
        copying.memory(4 << 20).request_size(MIB)
    });
    assert_eq!(copied.data, size);
    println!("{} KiB", peak / KIB);
    // The server is in this process, and holds as much again.
    assert!(peak < 12 * MIB, "{peak}");
}
