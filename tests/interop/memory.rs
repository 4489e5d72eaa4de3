//! Many connections in one process, with servers in memory: what they cost.

use std::future::IntoFuture;

use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use nbd_client::testing::{Export, Peer, Server};
use nbd_client::wire::option::ExportInfo;
use nbd_client::wire::{Command, HandshakeFlags, ReplyStyle, TransmissionFlags};
use nbd_client::{Connecting, Connection};
use tokio::io::{AsyncWriteExt, DuplexStream};

use crate::shared::process::{Baseline, in_a_process_of_its_own, memory, times};

/// What one connection may cost, with the buffers of its server.
const EACH: u64 = 64 << 10;
/// What a pipe between the two holds.
const PIPE: usize = 4096;

/// What a connection is doing, and who keeps it there.
enum Stuck {
    Connecting(Connection, Connecting, DuplexStream),
    Negotiating(Connection, Connecting, Peer),
    Ready(Connection, Peer),
}

/// A connection whose server stops at one point of many.
async fn stuck(number: u64) -> Stuck {
    let (ours, mut theirs) = tokio::io::duplex(PIPE);
    let conn = Connection::builder().structured_replies(true).build();
    let connecting = conn.aio_connect_stream(ours).unwrap();
    match number % 4 {
        // Says nothing, or half of a word.
        0 => Stuck::Connecting(conn, connecting, theirs),
        1 => {
            theirs.write_all(b"NBDMAGICIHAVEO").await.unwrap();
            Stuck::Connecting(conn, connecting, theirs)
        }
        2 => {
            let mut peer = Peer::new(theirs);
            peer.greet(HandshakeFlags::all()).await.unwrap();
            peer.expect_option().await.unwrap();
            Stuck::Negotiating(conn, connecting, peer)
        }
        _ => {
            let mut peer = Peer::new(theirs);
            let info = ExportInfo {
                size: 1 << 20,
                flags: TransmissionFlags::HAS_FLAGS,
            };
            let greeted = peer.handshake(ReplyStyle::Simple, info, &[]);
            let (greeted, connected) = tokio::join!(greeted, connecting);
            greeted.unwrap();
            connected.unwrap();
            // Promises a reply, and does not keep it.
            let mut read = Box::pin(conn.read(0, 4096).into_future());
            assert!((&mut read).now_or_never().is_none());
            let head = peer.expect_command(Command::READ).await.unwrap().head;
            let mut reply = b"\x67\x44\x66\x98\0\0\0\0".to_vec();
            reply.extend(head.cookie.to_be_bytes());
            peer.send_bytes(&reply).await.unwrap();
            Stuck::Ready(conn, peer)
        }
    }
}

#[tokio::test]
async fn k33_hostile_servers_that_keep_a_thousand_connections_waiting_cost_little() {
    let name = "memory::k33_hostile_servers_that_keep_a_thousand_connections_waiting_cost_little";
    if in_a_process_of_its_own(name) {
        return;
    }
    let count = times(1000);
    let (before, used) = (Baseline::now(), memory());
    let all = join_all((0..count).map(stuck)).await;
    let cost = memory().saturating_sub(used);
    println!("reached: {count} at once, {} bytes each", cost / count);
    assert!(cost <= count * EACH, "{} bytes each", cost / count);
    for stuck in all {
        match stuck {
            Stuck::Connecting(conn, connecting, stream) => {
                assert!(conn.is_connecting());
                drop((conn, stream));
                connecting.await.unwrap_err();
            }
            Stuck::Negotiating(conn, connecting, peer) => {
                assert!(conn.is_connecting());
                drop((conn, peer));
                connecting.await.unwrap_err();
            }
            Stuck::Ready(conn, peer) => {
                assert_eq!(conn.in_flight(), 1);
                drop((conn, peer));
            }
        }
    }
    before.returns().await;
}

#[tokio::test]
async fn k33_two_thousand_idle_connections_fit_into_128_mib() {
    let name = "memory::k33_two_thousand_idle_connections_fit_into_128_mib";
    if in_a_process_of_its_own(name) {
        return;
    }
    let count = times(2000);
    let server = Server::new(Export::new(1 << 20));
    let (before, used) = (Baseline::now(), memory());
    let connect = async |_| {
        let conn = Connection::new();
        let stream = server.connect_with_capacity(PIPE);
        conn.connect_stream(stream).await.unwrap();
        conn.read(0, 4096).await.unwrap();
        conn
    };
    let all = join_all((0..count).map(connect)).await;
    let cost = memory().saturating_sub(used);
    println!("reached: {count} at once, {} bytes each", cost / count);
    assert!(cost <= count * EACH, "{} bytes each", cost / count);
    drop(all);
    before.returns().await;
}

#[tokio::test]
async fn k33_what_is_in_flight_is_bounded_whatever_is_asked_for() {
    const BOUND: u64 = 16 << 20;
    const LENGTH: usize = 64 << 10;
    let name = "memory::k33_what_is_in_flight_is_bounded_whatever_is_asked_for";
    if in_a_process_of_its_own(name) {
        return;
    }
    let export = Export::new(1 << 20);
    export.fill(0, 1 << 20, 1);
    let server = Server::new(export);
    let conn = Connection::builder().max_in_flight_bytes(BOUND).build();
    conn.connect_stream(server.connect()).await.unwrap();
    let count = times(10_000);
    let used = memory();
    let reads = (0..count).map(|i| {
        let conn = conn.clone();
        async move {
            let data = conn.read((i % 16) << 16, LENGTH).await.unwrap();
            assert_eq!(data.len(), LENGTH);
            assert!((conn.in_flight() * LENGTH) as u64 <= BOUND);
        }
    });
    let reads = futures::stream::iter(reads).buffer_unordered(count as usize);
    reads.for_each(|()| std::future::ready(())).await;
    let cost = memory().saturating_sub(used);
    // What is on its way on this side, and once more what the server has ready; and the futures.
    let bound = 2 * BOUND + count * 4096;
    println!("reached: {count} queued at once, {cost} bytes");
    assert!(cost <= bound, "{cost} bytes, more than {bound}");
}
