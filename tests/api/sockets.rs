//! Sockets that others have, had, or will have.

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use nbd_client::testing::{Export, Server};
use nbd_client::{Connection, Error, IntoSocket, InvalidUse};

use crate::support::*;

both_runtimes!(k18_children_of_the_program_have_no_part_in_its_connections);
async fn k18_children_of_the_program_have_no_part_in_its_connections() {
    let export = Export::new(1 << 20);
    let server = Server::new(export.clone());
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let theirs = tokio::net::UnixStream::from_std(theirs).unwrap();
    let serving = tokio::spawn(async move { server.serve(theirs).await });
    let conn = Connection::new();
    conn.connect_socket(ours).await.unwrap();
    let mut child = Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    for _ in 0..4 {
        assert!(Command::new("true").status().unwrap().success());
        conn.write(0, vec![1; 512]).await.unwrap();
    }
    // No goodbye but ours, and the end although a child still runs.
    assert_eq!(export.counters().disconnects, 0);
    conn.disconnect().await.unwrap();
    serving.await.unwrap().unwrap();
    assert_eq!(export.counters().disconnects, 1);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

both_runtimes!(k26_a_socket_that_is_in_use_already_is_a_violation);
async fn k26_a_socket_that_is_in_use_already_is_a_violation() {
    for pending in [
        // Somebody else has read the beginning of the greeting.
        &b"IHAVEOPT\0\x03"[..],
        b"DMAGICIHAVEOPT\0\x03",
        // It is beyond that: the reply to an option, or to a request.
        b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\0\0\0\x01\0\0\0\0",
        b"\x67\x44\x66\x98\0\0\0\0\0\0\0\0\0\0\0\x01and data",
    ] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(pending).unwrap();
        theirs.write_all(&[0; 18]).unwrap();
        let conn = Connection::new();
        let error = conn.connect_socket(ours).await.unwrap_err();
        assert_matches!(error, Error::Protocol(..));
        assert!(conn.is_dead());
    }
}

/// The states of the TCP sockets that have this port on either side, as the kernel numbers them.
fn states(port: u16) -> Vec<u8> {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let is_ours = |address: &str| address.ends_with(&format!(":{port:04X}"));
    let state = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let is_ours = is_ours(words[1]) || is_ours(words[2]);
        is_ours.then(|| u8::from_str_radix(words[3], 16).unwrap())
    };
    sockets.lines().skip(1).filter_map(state).collect()
}

both_runtimes!(k50_ended_connections_leave_no_socket_that_takes_part);
async fn k50_ended_connections_leave_no_socket_that_takes_part() {
    const TIME_WAIT: u8 = 6;
    const LISTEN: u8 = 10;
    let server = Server::new(Export::new(1 << 20));
    let listening = server.listen_tcp("127.0.0.1:0").await.unwrap();
    let port = listening.local_addr().port();
    for round in 0..20 {
        // The same address again and again, though the last connection has only just ended.
        let conn = Connection::builder()
            .bind_address([127, 0, 0, 5].into())
            .build();
        conn.connect_tcp("127.0.0.1", port).await.unwrap();
        conn.write(0, vec![1; 512]).await.unwrap();
        match round % 2 {
            0 => conn.disconnect().await.unwrap(),
            _ => drop(conn),
        }
    }
    server.connected(0).await;
    // What the kernel remembers of them is all there is: nothing is half closed.
    let is_over = || {
        states(port)
            .iter()
            .all(|&state| [TIME_WAIT, LISTEN].contains(&state))
    };
    let patience = async {
        while !is_over() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let patience = tokio::time::timeout(Duration::from_secs(30), patience);
    patience
        .await
        .unwrap_or_else(|_| panic!("{:?}", states(port)));
}

/// A duplicate, which shares the options of the socket.
fn duplicate(socket: impl AsFd) -> std::net::TcpStream {
    socket.as_fd().try_clone_to_owned().unwrap().into()
}

fn connected(address: SocketAddr) -> std::net::TcpStream {
    std::net::TcpStream::connect(address).unwrap()
}

/// Connects, and shows that requests are answered.
async fn works(conn: &Connection, connecting: impl Future<Output = nbd_client::Result<()>>) {
    let used = async {
        connecting.await.unwrap();
        conn.write(0, vec![1; 512]).await.unwrap();
        conn.disconnect().await.unwrap();
    };
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, used).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_sockets_send_small_messages_at_once_whatever_holds_them() {
    async fn held_in(socket: impl IntoSocket + AsFd) {
        let copy = duplicate(&socket);
        assert!(!copy.nodelay().unwrap());
        let conn = Connection::new();
        works(&conn, conn.connect_socket(socket)).await;
        assert!(copy.nodelay().unwrap());
    }
    let server = Server::new(Export::new(1 << 20));
    let listening = server.listen_tcp("127.0.0.1:0").await.unwrap();
    let address = listening.local_addr();
    held_in(connected(address)).await;
    held_in(OwnedFd::from(connected(address))).await;
    held_in(socket2::Socket::from(connected(address))).await;
    let tokio = tokio::net::TcpStream::connect(address).await.unwrap();
    held_in(tokio).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_sockets_send_small_messages_at_once_even_as_mere_streams() {
    let server = Server::new(Export::new(1 << 20));
    let listening = server.listen_tcp("127.0.0.1:0").await.unwrap();
    let stream = tokio::net::TcpStream::connect(listening.local_addr());
    let stream = stream.await.unwrap();
    let copy = duplicate(&stream);
    assert!(!copy.nodelay().unwrap());
    let conn = Connection::new();
    works(&conn, conn.connect_stream(stream)).await;
    assert!(copy.nodelay().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unix_sockets_are_taken_whatever_holds_them() {
    async fn held_in<S: IntoSocket>(server: &Server, hold: impl FnOnce(UnixStream) -> S) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let theirs = tokio::net::UnixStream::from_std(theirs).unwrap();
        let server = server.clone();
        let serving = tokio::spawn(async move { server.serve(theirs).await });
        let conn = Connection::new();
        works(&conn, conn.connect_socket(hold(ours))).await;
        serving.await.unwrap().unwrap();
    }
    let server = Server::new(Export::new(1 << 20));
    held_in(&server, |stream| stream).await;
    held_in(&server, OwnedFd::from).await;
    held_in(&server, socket2::Socket::from).await;
    held_in(&server, |stream| {
        tokio::net::UnixStream::from_std(stream).unwrap()
    })
    .await;
}

#[test]
fn streams_of_tokio_may_outlive_their_runtime() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let running = runtime();
    let server = Server::new(Export::new(1 << 20));
    let listening = running.block_on(server.listen_tcp("127.0.0.1:0")).unwrap();
    for leave in [drop, |runtime: tokio::runtime::Runtime| {
        runtime.shutdown_background()
    }] {
        let first = runtime();
        let stream = tokio::net::TcpStream::connect(listening.local_addr());
        let stream = first.block_on(stream).unwrap();
        leave(first);
        let conn = Connection::new();
        runtime().block_on(works(&conn, conn.connect_socket(stream)));
    }
    // And without any, that is what the error says.
    let stream = tokio::net::TcpStream::connect(listening.local_addr());
    let stream = running.block_on(stream).unwrap();
    let conn = Connection::new();
    let error = conn.aio_connect_socket(stream).unwrap_err();
    assert_matches!(error, Error::InvalidUse(InvalidUse::NoRuntime(_)));
    assert!(conn.is_created());
}
