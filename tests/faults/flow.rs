//! W: pace and order.

use std::time::Duration;

use futures::future::join_all;
use nbd_client::testing::Peer;
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{Command, ReplyStyle};
use nbd_client::{Connection, Delivery, Error, Phase, Result, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::answer::*;
use crate::harness::*;

const MIB: usize = 1 << 20;

/// Data that tells where it is from.
pub(crate) fn pattern(offset: u64, length: u64) -> Vec<u8> {
    let from = |at: u64| (at ^ at >> 8 ^ at >> 16) as u8;
    (offset..offset + length).map(from).collect()
}

/// Reads of 4 KiB, one behind the other.
pub(crate) fn reads(conn: &Connection, count: u64) -> Vec<JoinHandle<Result<bytes::Bytes>>> {
    (0..count)
        .map(|i| tokio::spawn(conn.read(i * 4096, 4096).into_future()))
        .collect()
}

pub(crate) async fn heads(peer: &mut Peer, command: Command, count: usize) -> Vec<RequestHead> {
    let mut heads = Vec::new();
    for _ in 0..count {
        heads.push(peer.expect_command(command).await.unwrap().head);
    }
    heads
}

#[track_caller]
pub(crate) fn is_timeout<T: std::fmt::Debug>(result: Result<T>) {
    assert!(
        matches!(result, Err(Error::Timeout(Phase::Request, _))),
        "{result:?}"
    );
}

#[test]
fn w01_writes_to_a_server_that_never_reads_wait_for_room_until_one_expires() {
    paused(&STYLES, async |style| {
        let builder = Connection::builder();
        let (conn, _peer) = Transport::Duplex.ready(style, builder).await;
        let data = bytes::Bytes::from(vec![7; 64 << 10]);
        let first = conn.write(0, data.clone()).timeout(PATIENCE);
        let first = tokio::spawn(first.into_future());
        settle().await;
        let rest: Vec<_> = (0..10_000)
            .map(|_| tokio::spawn(conn.write(0, data.clone()).into_future()))
            .collect();
        settle().await;
        assert_eq!(conn.in_flight(), 1024);
        let start = Instant::now();
        is_timeout(first.await.unwrap());
        assert_eq!(start.elapsed(), PATIENCE);
        let mut waiting = 0;
        for write in rest {
            let error = write.await.unwrap().unwrap_err();
            // Nothing of what waited for room, or behind a full pipe, has been sent.
            waiting += usize::from(error.delivery() == Delivery::NotSent);
            is_timeout::<()>(Err(error));
        }
        assert!(waiting >= 10_000 - 5, "{waiting}");
        assert_eq!((conn.state(), conn.in_flight()), (State::Dead, 0));
    });
}

#[test]
fn w02_a_server_that_reads_only_once_its_replies_are_taken_is_no_deadlock() {
    // Far more than sockets hold.
    const COUNT: usize = 16;
    each(&STYLES, async |style, transport| {
        let (conn, mut peer) = transport.ready(style, Connection::builder()).await;
        let reads: Vec<_> = (0..COUNT)
            .map(|_| tokio::spawn(conn.read(0, MIB).into_future()))
            .collect();
        let heads = heads(&mut peer, Command::READ, COUNT).await;
        let writes: Vec<_> = (0..COUNT)
            .map(|_| tokio::spawn(conn.write(0, vec![7; MIB]).into_future()))
            .collect();
        settle().await;
        for head in heads {
            let reply = To { style, head }.data(0, &vec![9; MIB], DONE);
            peer.send_bytes(&reply).await.unwrap();
        }
        for read in reads {
            assert!(read.await.unwrap().unwrap().iter().all(|&byte| byte == 9));
        }
        for _ in 0..COUNT {
            let write = peer.expect_command(Command::WRITE).await.unwrap();
            assert!(write.payload.iter().all(|&byte| byte == 7));
            peer.acknowledge(&write.head).await.unwrap();
        }
        for write in writes {
            write.await.unwrap().unwrap();
        }
        goodbye(&conn, peer).await;
    });
}

/// Passes on one byte every 10 ms to the server, and everything at once to the client.
async fn slow(client: DuplexStream, server: DuplexStream) {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let up = async {
        while let Ok(byte) = from_client.read_u8().await {
            sleep(Duration::from_millis(10)).await;
            to_server.write_u8(byte).await.unwrap();
        }
        to_server.shutdown().await.unwrap();
    };
    let down = tokio::io::copy(&mut from_server, &mut to_client);
    let _ = tokio::join!(up, down);
}

#[test]
fn w03_a_server_that_reads_a_byte_at_a_time_holds_up_no_reply() {
    paused(&STYLES, async |style| {
        let (client, near) = duplex(1);
        let (far, server) = duplex(1 << 16);
        tokio::spawn(slow(near, far));
        let conn = Connection::builder().build();
        let connecting = conn.aio_connect_stream(client).unwrap();
        let mut peer = Peer::new(server);
        peer.handshake(style, info(SIZE), &[]).await.unwrap();
        connecting.await.unwrap();
        let start = Instant::now();
        let read = tokio::spawn(conn.read(0, 512).into_future());
        let head = peer.expect_command(Command::READ).await.unwrap().head;
        let write = tokio::spawn(conn.write(0, vec![7; 4096]).into_future());
        settle().await;
        peer.send_data(&head, &[9; 512]).await.unwrap();
        assert_eq!(read.await.unwrap().unwrap()[..], [9; 512]);
        assert!(start.elapsed() < Duration::from_secs(1));
        let request = peer.expect_command(Command::WRITE).await.unwrap();
        assert_eq!(request.payload[..], [7; 4096]);
        assert!(start.elapsed() > Duration::from_secs(40));
        peer.acknowledge(&request.head).await.unwrap();
        write.await.unwrap().unwrap();
        goodbye(&conn, peer).await;
    });
}

#[test]
fn w04_answers_stand_when_the_rest_never_comes() {
    paused(&STYLES, async |style| {
        let builder = Connection::builder();
        let (conn, mut peer) = Transport::Duplex.ready(style, builder).await;
        let reads = reads(&conn, 10);
        let heads = heads(&mut peer, Command::READ, 10).await;
        let last = conn.flush().timeout(PATIENCE);
        let last = tokio::spawn(last.into_future());
        peer.expect_command(Command::FLUSH).await.unwrap();
        for head in heads.iter().filter(|head| head.offset / 4096 % 2 == 0) {
            let data = pattern(head.offset, head.length);
            peer.send_data(head, &data).await.unwrap();
        }
        let start = Instant::now();
        is_timeout(last.await.unwrap());
        assert_eq!(start.elapsed(), PATIENCE);
        for (i, read) in (0..).zip(reads) {
            match i % 2 {
                0 => assert_eq!(read.await.unwrap().unwrap()[..], pattern(i * 4096, 4096)),
                _ => is_timeout(read.await.unwrap()),
            }
        }
        assert_eq!(conn.state(), State::Dead);
    });
}

/// Answers reads in random order, each after a delay of its own, until it hears goodbye.
async fn jittery(mut peer: Peer, mut random: Random) {
    const DELAYS: [Duration; 3] = [
        Duration::from_micros(10),
        Duration::from_millis(10),
        Duration::from_secs(1),
    ];
    let mut due: Vec<(Instant, RequestHead)> = Vec::new();
    loop {
        let next = due.iter().map(|(at, _)| *at).min();
        let far = Instant::now() + Duration::from_secs(3600);
        match timeout_at(next.unwrap_or(far), peer.expect_request()).await {
            Ok(request) => {
                let head = request.unwrap().head;
                if head.command == Command::DISC {
                    return;
                }
                let delay = DELAYS[random.below(3) as usize];
                due.push((
                    Instant::now() + delay * (1 + random.below(100) as u32),
                    head,
                ));
            }
            Err(_) => {
                let now = Instant::now();
                while let Some(at) = due.iter().position(|(at, _)| *at <= now) {
                    let (_, head) = due.swap_remove(at);
                    let data = pattern(head.offset, head.length);
                    peer.send_data(&head, &data).await.unwrap();
                }
            }
        }
    }
}

#[test]
fn w14_delays_of_all_lengths_mix_nothing_up() {
    paused(&STYLES, async |style| {
        let builder = Connection::builder().max_in_flight(64);
        let (conn, peer) = Transport::Duplex.ready(style, builder).await;
        let mut random = Random::seeded();
        let server = tokio::spawn(jittery(peer, random.another()));
        let reads = (0..2000).map(|_| (random.below(SIZE / 2), 1 + random.below(5000)));
        let checks = reads.map(|(offset, length)| {
            let conn = conn.clone();
            async move {
                let data = conn.read(offset, length as usize).await.unwrap();
                assert!(
                    data == pattern(offset, length),
                    "{length} bytes at {offset}"
                );
            }
        });
        join_all(checks).await;
        conn.disconnect().await.unwrap();
        server.await.unwrap();
    });
}

#[test]
fn w15_two_thousand_servers_that_drip_expire_and_hold_up_nobody() {
    paused(&[ReplyStyle::Structured], async |style| {
        let patience = Duration::from_secs(10);
        let start = Instant::now();
        let drips: Vec<_> = (0..2000)
            .map(|_| {
                let (client, mut server) = duplex(64);
                tokio::spawn(async move {
                    let greeting = [b"NBDMAGICIHAVEOPT", &[0u8, 3][..]].concat();
                    for byte in greeting {
                        sleep(Duration::from_secs(1)).await;
                        let _ = server.write_u8(byte).await;
                    }
                });
                let conn = Connection::builder().handshake_timeout(patience).build();
                tokio::spawn(async move { conn.connect_stream(client).await })
            })
            .collect();
        let (conn, mut peer) = Transport::Duplex.ready(style, Connection::builder()).await;
        for second in 1..20 {
            sleep_until(start + Duration::from_secs(second)).await;
            let (flush, ()) = tokio::join!(conn.flush().into_future(), async {
                let head = peer.expect_command(Command::FLUSH).await.unwrap().head;
                peer.acknowledge(&head).await.unwrap();
            });
            flush.unwrap();
            assert_eq!(start.elapsed(), Duration::from_secs(second));
            if second < 10 {
                assert!(drips.iter().all(|drip| !drip.is_finished()));
            }
        }
        for drip in drips {
            let result = drip.await.unwrap();
            assert!(
                matches!(result, Err(Error::Timeout(Phase::Greeting, _))),
                "{result:?}"
            );
        }
        goodbye(&conn, peer).await;
    });
}
