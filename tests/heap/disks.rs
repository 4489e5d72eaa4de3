//! A disk whose connection is lost again and again keeps nothing of the lost ones.

use std::time::Duration;

use nbd_client::testing::{Export, Server};
use nbd_client::{Connector, Disk, Error, Fence, Retry};
use tokio::runtime::Builder;

use crate::meter::*;

/// Loses the connection so often under a read and a write, which is written again.
async fn reconnect(disk: &Disk, server: &Server, times: usize) {
    for _ in 0..times {
        server.pause();
        let write = tokio::spawn(disk.write(0, "always the same").into_future());
        let read = tokio::spawn(disk.read(4096, 512).into_future());
        server.held(2).await;
        server.hang_up();
        server.resume();
        read.await.unwrap().unwrap();
        let lost = write.await.unwrap();
        assert!(matches!(lost, Err(Error::OutcomeUnknown(_))), "{lost:?}");
    }
}

fn flat(fence: Option<Fence>) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::new(Export::new(1 << 20));
        let other = server.clone();
        let connector = Connector::stream(move || {
            let stream = other.connect();
            async move { Ok(stream) }
        });
        let mut disk = Disk::builder().retry(Retry::default().most(Duration::ZERO));
        if let Some(fence) = fence {
            disk = disk.fence(fence);
        }
        let disk = disk.open(connector).await.unwrap();
        reconnect(&disk, &server, 200).await;
        let meter = Meter::start();
        let times = match std::env::var("NBD_LONG") {
            Ok(_) => 10_000,
            Err(_) => 1_000,
        };
        reconnect(&disk, &server, times).await;
        let (now, generation) = (meter.now(), disk.status().generation);
        println!("reached: {now} bytes more after {times} lost connections");
        assert!(generation >= times as u64, "{generation}");
        assert!(now <= 64 * KIB, "{now} bytes more after {times}");
    });
}

#[test]
fn connections_that_are_lost_leave_nothing_behind() {
    let _turn = turn();
    flat(None);
}

/// A fence that proves nothing, and one that is never done.
#[test]
fn connections_that_are_never_fenced_leave_nothing_behind() {
    let _turn = turn();
    flat(Some(Fence::drained_close()));
}
