//! Everything that can be awaited is dropped at each of its polls.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use nbd_client::testing::{Export, Server};
use nbd_client::{Builder, Connecting, Connection, State};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{act, acts, asking};
use crate::support::*;

/// The way to a server.
#[derive(Clone, Copy, Debug)]
enum Line {
    /// In memory, through a pipe of so many bytes.
    Memory(usize),
    /// Through the kernel.
    Unix,
}

/// The narrower a pipe, the more often whoever waits is polled.
const LINES: [Line; 5] = [
    Line::Memory(2),
    Line::Memory(5),
    Line::Memory(60),
    Line::Memory(1 << 16),
    Line::Unix,
];
/// For requests of thousands of bytes.
const WIDE: [Line; 4] = [
    Line::Memory(20),
    Line::Memory(300),
    Line::Memory(1 << 16),
    Line::Unix,
];

impl Line {
    fn connect(self, conn: &Connection, server: &Server) -> Connecting {
        match self {
            Self::Memory(capacity) => {
                let stream = server.connect_with_capacity(capacity);
                conn.aio_connect_stream(stream).unwrap()
            }
            Self::Unix => {
                let (client, far) = UnixStream::pair().unwrap();
                far.set_nonblocking(true).unwrap();
                let far = tokio::net::UnixStream::from_std(far).unwrap();
                let server = server.clone();
                tokio::spawn(async move { server.serve(far).await });
                conn.aio_connect_socket(client).unwrap()
            }
        }
    }

    async fn ready(self, builder: Builder, server: &Server) -> Connection {
        let conn = builder.build();
        self.connect(&conn, server).await.unwrap();
        conn
    }
}

fn disk() -> Server {
    Server::new(Export::new(1 << 17).description("a disk"))
}

/// Runs a test that is polled again after every step of any other task: else many steps would be
/// taken between two polls.
fn step_by_step(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(1)
        .build()
        .unwrap()
        .block_on(test);
}

/// Drops something after 0, 1, 2, … polls, until it is done before; says how often it was not.
async fn at_each_poll(mut attempt: impl AsyncFnMut(usize) -> bool) -> usize {
    let mut polls = 0;
    while !attempt(polls).await {
        polls += 1;
    }
    polls
}

/// Nothing is left of a connection: no request, no task, and no stream, for a task held it.
async fn at_rest(conn: Connection, server: &Server) {
    let rest = async {
        conn.closed().await;
        assert_eq!(conn.in_flight(), 0);
        nothing_left(server).await;
    };
    timeout(Duration::from_secs(60), rest).await.unwrap();
}

async fn nothing_left(server: &Server) {
    // The server is only left when the client's end of the line is closed.
    server.connected(0).await;
    while Handle::current().metrics().num_alive_tasks() > 0 {
        tokio::task::yield_now().await;
    }
}

/// The connection is as good as new.
async fn works(conn: &Connection, fill: u8) {
    conn.write(0, vec![fill; 64]).await.unwrap();
    let data = conn.read(0, 64).await.unwrap();
    assert_eq!(data[..], [fill; 64]);
}

#[test]
fn k01_connecting_goes_on_whenever_its_future_is_dropped() {
    step_by_step(async {
        let mut points = 0;
        for (style, line) in STYLES
            .into_iter()
            .flat_map(|style| LINES.map(|line| (style, line)))
        {
            points += at_each_poll(async |polls| {
                let server = disk();
                let conn = asking(style).build();
                let connecting = line.connect(&conn, &server);
                let done = drop_after(polls, connecting).await;
                conn.ready().await.unwrap();
                works(&conn, polls as u8).await;
                conn.disconnect().await.unwrap();
                at_rest(conn, &server).await;
                done.is_some()
            })
            .await;
        }
        assert!(points >= 900, "{points} points");
    });
}

#[test]
fn k06_connecting_stops_whenever_the_last_handle_is_dropped() {
    step_by_step(async {
        let mut points = 0;
        for (style, line) in STYLES
            .into_iter()
            .flat_map(|style| LINES.map(|line| (style, line)))
        {
            points += at_each_poll(async |polls| {
                let server = disk();
                let conn = asking(style).build();
                let connecting = line.connect(&conn, &server);
                let done = drop_after(polls, async move {
                    let result = connecting.await;
                    drop(conn);
                    result.unwrap();
                });
                let done = done.await.is_some();
                let rest = nothing_left(&server);
                timeout(Duration::from_secs(60), rest).await.unwrap();
                done
            })
            .await;
        }
        assert!(points >= 900, "{points} points");
    });
}

/// Something that option mode offers.
async fn option(conn: &Connection, what: usize) {
    match what {
        0 => assert_eq!(conn.opt_list().await.unwrap().len(), 1),
        1 => assert_eq!(conn.opt_info().await.unwrap().size(), 1 << 17),
        2 => assert!(conn.opt_structured_reply().await.unwrap()),
        3 => assert!(conn.opt_extended_headers().await.unwrap()),
        4 => drop(conn.opt_list_meta_context(["base:"]).await.unwrap()),
        5 => drop(
            conn.opt_set_meta_context(["base:allocation"])
                .await
                .unwrap(),
        ),
        6 => conn.opt_go().await.unwrap(),
        _ => conn.opt_abort().await.unwrap(),
    }
}

#[test]
fn k03_an_option_is_finished_whenever_its_future_is_dropped() {
    step_by_step(async {
        let mut points = 0;
        for (what, line) in (0..8).flat_map(|what| LINES.map(|line| (what, line))) {
            points += at_each_poll(async |polls| {
                let server = disk();
                let builder = Connection::builder()
                    .opt_mode(true)
                    .structured_replies(what != 2 && what != 3)
                    .extended_headers(false);
                let conn = line.ready(builder, &server).await;
                let done = drop_after(polls, option(&conn, what)).await.is_some();
                // Once polled it was begun, and it ends as if it had been waited for.
                match what {
                    6 if polls > 0 => conn.ready().await.unwrap(),
                    7 if polls > 0 => drop(conn.closed().await),
                    _ => {
                        assert_eq!(conn.opt_list().await.unwrap().len(), 1);
                        conn.opt_go().await.unwrap();
                    }
                }
                if conn.state() == State::Ready {
                    works(&conn, polls as u8).await;
                    conn.disconnect().await.unwrap();
                }
                at_rest(conn, &server).await;
                done
            })
            .await;
        }
        assert!(points >= 850, "{points} points");
    });
}

#[test]
fn k01_k02_a_command_leaves_nothing_behind_whenever_its_future_is_dropped() {
    step_by_step(async {
        let mut points = 0;
        for (style, line) in STYLES
            .into_iter()
            .flat_map(|style| WIDE.map(|line| (style, line)))
        {
            let server = disk();
            let conn = line.ready(asking(style), &server).await;
            for what in acts(style) {
                points += at_each_poll(async |polls| {
                    let done = drop_after(polls, act(&conn, what)).await.is_some();
                    // It overlaps what was dropped, and is newer.
                    works(&conn, polls as u8).await;
                    done
                })
                .await;
            }
            conn.disconnect().await.unwrap();
            at_rest(conn, &server).await;
        }
        assert!(points >= 4800, "{points} points");
    });
}

#[test]
fn k05_a_connection_ends_whenever_the_future_of_its_end_is_dropped() {
    step_by_step(async {
        let mut points = 0;
        for (style, line) in STYLES
            .into_iter()
            .flat_map(|style| WIDE.map(|line| (style, line)))
        {
            points += at_each_poll(async |polls| {
                let server = disk();
                let conn = line.ready(asking(style), &server).await;
                // Something is still in flight, some of it abandoned.
                let read = tokio::spawn(conn.read(0, 3000).into_future());
                drop(drop_after(1, conn.write(0, vec![1; 500]).into_future()).await);
                let done = drop_after(polls, conn.disconnect().into_future()).await;
                if polls == 0 {
                    works(&conn, 1).await;
                    conn.disconnect().await.unwrap();
                }
                conn.closed().await;
                assert_eq!(conn.state(), State::Closed);
                // What was asked for before it is answered.
                drop(read.await.unwrap());
                at_rest(conn, &server).await;
                done.is_some()
            })
            .await;
        }
        assert!(points >= 1000, "{points} points");
    });
}
