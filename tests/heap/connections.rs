//! Connections that were opened, used, and ended: what they leave behind, and what they hold.

use std::os::unix::net::UnixStream;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use nbd_client::wire::option::Info;
use nbd_client::wire::reply::{Reply, data_body};
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{ChunkType, Command, Errno, ReplyFlags, ReplyStyle};
use nbd_client::{Connection, Result};

use crate::meter::*;
use crate::server::*;

/// An honest answer.
fn answer(style: ReplyStyle, request: &RequestHead) -> Vec<u8> {
    let data = match request.command {
        Command::READ => Some(vec![7; request.length as usize]),
        _ => None,
    };
    let (cookie, done) = (request.cookie, ReplyFlags::DONE);
    let offset = (style == ReplyStyle::Extended).then_some(request.offset);
    let reply = match (style, data) {
        (ReplyStyle::Simple, data) => {
            Reply::simple(cookie, Errno::OK, data.unwrap_or_default().into())
        }
        (_, None) => Reply::chunk(cookie, offset, done, ChunkType::NONE, Bytes::new()),
        (_, Some(data)) => {
            let body = data_body(request.offset, &data);
            Reply::chunk(cookie, offset, done, ChunkType::OFFSET_DATA, body)
        }
    };
    let mut bytes = bytes::BytesMut::new();
    reply.encode(&mut bytes);
    bytes.to_vec()
}

/// Opens a connection whose server answers so many requests; the rest is up to the client.
fn connection<T>(
    style: ReplyStyle,
    answers: usize,
    client: impl AsyncFnOnce(Connection) -> Result<T>,
) -> Result<T> {
    connection_to(Server::new(style), style, answers, client)
}

fn connection_to<T>(
    (server, stream): (Server, UnixStream),
    style: ReplyStyle,
    answers: usize,
    client: impl AsyncFnOnce(Connection) -> Result<T>,
) -> Result<T> {
    let thread = server.spawn(move |mut server| {
        server.handshake();
        let mut left = answers;
        while let Some(request) = server.request() {
            if left > 0 {
                left -= 1;
                server.send(&answer(style, &request));
            }
        }
    });
    let result = run(async {
        let conn = Server::builder(style).build();
        conn.connect_socket(stream).await?;
        client(conn).await
    });
    thread.join().unwrap();
    result
}

async fn use_it(conn: &Connection) -> Result<()> {
    for length in [512, 64 << 10, 1 << 20] {
        conn.write(0, vec![7; length]).await?;
        let data = conn.read(0, length).await?;
        assert!(data.iter().all(|&byte| byte == 7));
    }
    conn.flush().await
}

/// Goes through a hundred connections, of which nothing may be left.
fn nothing_is_left(answers: usize, client: impl AsyncFn(Connection)) {
    for style in STYLES {
        let once = || {
            connection(style, answers, async |conn| {
                client(conn).await;
                Ok(())
            })
            .unwrap();
        };
        // What is set up once stays.
        once();
        let meter = Meter::start();
        (0..100).for_each(|_| once());
        let left = meter.now();
        // Some of it is of the tests that wait for their turn.
        assert!(left <= 16 * KIB, "{left} bytes are left");
    }
}

#[test]
fn a_hundred_connections_that_were_closed_leave_nothing() {
    let _turn = turn();
    nothing_is_left(usize::MAX, async |conn| {
        use_it(&conn).await.unwrap();
        conn.disconnect().await.unwrap();
    });
}

#[test]
fn a_hundred_connections_that_were_dropped_leave_nothing() {
    let _turn = turn();
    nothing_is_left(usize::MAX, async |conn| use_it(&conn).await.unwrap());
}

#[test]
fn a_hundred_connections_that_were_given_up_while_in_use_leave_nothing() {
    let _turn = turn();
    nothing_is_left(2, async |conn| {
        let (read, write) = (conn.read(0, 1 << 20), conn.write(0, vec![7; 1 << 20]));
        tokio::join!(read.into_future(), write.into_future())
            .0
            .unwrap();
        let mut requests: Vec<_> = (0..10)
            .map(|_| conn.read(0, 1 << 20).into_future())
            .collect();
        for request in &mut requests {
            assert!(request.now_or_never().is_none());
        }
    });
}

/// How many bytes more than its data a request takes whose messages have 512 bytes each.
fn overhead(style: ReplyStyle, data: usize, client: impl AsyncFnOnce(&Connection)) -> usize {
    let sizes = Info::BlockSize {
        minimum: 1,
        preferred: 512,
        maximum: 512,
    };
    let server = Server::with_info(style, &[sizes]);
    connection_to(server, style, usize::MAX, async |conn| {
        let meter = Meter::start();
        client(&conn).await;
        Ok(meter.peak().saturating_sub(data))
    })
    .unwrap()
}

#[test]
fn requests_of_very_many_messages_take_little_beyond_their_data() {
    let _turn = turn();
    let length = 16 * MIB;
    for style in STYLES {
        let data = Bytes::from(vec![7; length]);
        let write = overhead(style, 0, async |conn| {
            conn.write(0, data.clone()).await.unwrap();
        });
        let read = overhead(style, length, async |conn| {
            assert_eq!(conn.read(0, length).await.unwrap(), data);
        });
        println!("{} and {} KiB", write / KIB, read / KIB);
        assert!(write.max(read) <= MIB, "{write} and {read} bytes");
    }
}

#[test]
fn a_connection_that_has_ended_holds_little_beside_its_handle() {
    let _turn = turn();
    const READS: usize = 8;
    for style in STYLES {
        connection(style, READS, async |conn| {
            let meter = Meter::start();
            let read = |_| conn.read(0, MIB).into_future();
            let data = join_all((0..READS).map(read)).await;
            conn.disconnect().await?;
            // What is dropped after the end is freed, too.
            drop(data);
            let left = meter.now();
            assert!(left <= 64 * KIB, "{left} bytes are left");
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn k33_an_idle_connection_holds_little() {
    let _turn = turn();
    const COUNT: usize = 50;
    let style = ReplyStyle::Extended;
    let pairs: Vec<_> = (0..COUNT).map(|_| Server::new(style)).collect();
    let (servers, streams): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let threads: Vec<_> = servers
        .into_iter()
        .map(|server| {
            server.spawn(|mut server| {
                server.handshake();
                server.wait();
            })
        })
        .collect();
    run(async {
        let meter = Meter::start();
        let mut connections = Vec::new();
        for stream in streams {
            let conn = Server::builder(style).build();
            conn.connect_socket(stream).await.unwrap();
            connections.push(conn);
        }
        let each = meter.now() / COUNT;
        println!("{each} bytes each");
        assert!(each <= 32 * KIB, "{each} bytes each");
    });
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}
