//! A disk whose links lead to different servers, so that a link is known by its bytes.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::try_join_all;
use nbd_client::testing::Server;
use nbd_client::{DiskPending, op};

use super::*;

/// Where no test writes.
const APART: u64 = SIZE / 2;

/// Leads each connection to another server, in order. Later ones are refused.
pub(super) fn in_turn(servers: &[Server]) -> Connector {
    let (servers, next) = (servers.to_vec(), AtomicUsize::new(0));
    Connector::stream(move || {
        let server = servers.get(next.fetch_add(1, Ordering::SeqCst)).cloned();
        async move {
            let nobody = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            server.map(|server| server.connect()).ok_or_else(nobody)
        }
    })
}

/// Waits until the link of this generation is ready.
pub(super) async fn connected(events: &mut Events, generation: u64) {
    let is_it = |event| matches!(event, Event::Connected { generation: of } if of == generation);
    event(events, |event| is_it(event).then_some(())).await;
}

/// Opens a disk that has a link to each of the servers, the first one first.
pub(super) async fn over(builder: DiskBuilder, servers: &[Server]) -> Disk {
    let builder = builder.connections(servers.len());
    let disk = watch(builder.open(in_turn(servers))).await.unwrap();
    let mut events = disk.events();
    for generation in 2..=servers.len() as u64 {
        // In one task: none of them is over before all have begun.
        let reads = (0..64).map(|_| disk.read(APART, 512).into_future());
        watch(try_join_all(reads)).await.unwrap();
        connected(&mut events, generation).await;
    }
    disk
}

/// A link that is kept busy by a read.
pub(super) struct Busy<'a> {
    server: &'a Server,
    read: DiskPending<op::Read>,
}

impl<'a> Busy<'a> {
    /// Makes a request on the least busy link, which leads to `server`, and holds the answer back.
    pub(super) async fn link(disk: &Disk, server: &'a Server) -> Self {
        server.pause();
        // It has chosen its link when it was polled, whatever else is held back there.
        let mut read = disk.read(APART, 512).into_future();
        assert!((&mut read).now_or_never().is_none());
        watch(server.held(1)).await;
        Self { server, read }
    }

    pub(super) async fn end(self) {
        self.server.resume();
        watch(self.read).await.unwrap();
    }
}
