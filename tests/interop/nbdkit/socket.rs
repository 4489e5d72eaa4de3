//! Sockets that somebody else has connected.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use nbd_client::{Connection, IntoSocket};

use crate::shared::server::Server;

/// Takes the socket over and uses it.
async fn connect(socket: impl IntoSocket) {
    let conn = Connection::new();
    conn.connect_socket(socket).await.unwrap();
    conn.write(4096, vec![6; 300_000]).await.unwrap();
    assert_eq!(conn.read(4096, 300_000).await.unwrap(), vec![6; 300_000]);
    conn.disconnect().await.unwrap();
}

both_runtimes!(a_tcp_stream_is_taken_over);
async fn a_tcp_stream_is_taken_over() {
    let server = Server::nbdkit_tcp(&["memory", "1M"]);
    let stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    connect(stream).await;
}

both_runtimes!(a_unix_stream_is_taken_over);
async fn a_unix_stream_is_taken_over() {
    let server = Server::nbdkit(&["memory", "1M"]);
    connect(UnixStream::connect(server.socket()).unwrap()).await;
}

both_runtimes!(a_stream_of_tokio_is_taken_over);
async fn a_stream_of_tokio_is_taken_over() {
    let server = Server::nbdkit(&["memory", "1M"]);
    let stream = tokio::net::UnixStream::connect(server.socket()).await;
    connect(stream.unwrap().into_std().unwrap()).await;
}

both_runtimes!(a_stream_of_tokio_is_used_as_it_is);
async fn a_stream_of_tokio_is_used_as_it_is() {
    let server = Server::nbdkit(&["memory", "1M"]);
    let stream = tokio::net::UnixStream::connect(server.socket()).await;
    let conn = Connection::new();
    conn.connect_stream(stream.unwrap()).await.unwrap();
    conn.read(0, 512).await.unwrap();
    conn.disconnect().await.unwrap();
}

both_runtimes!(one_end_of_a_socket_pair_is_taken_over);
async fn one_end_of_a_socket_pair_is_taken_over() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let theirs = OwnedFd::from(theirs);
    let mut server = Command::new("nbdkit")
        .args(["-s", "memory", "1M"])
        .stdin(Stdio::from(theirs.try_clone().unwrap()))
        .stdout(Stdio::from(theirs))
        .spawn()
        .expect("this test needs nbdkit; see tests/run");
    connect(ours).await;
    // It sees the end of its input once nobody holds our end.
    assert!(server.wait().unwrap().success());
}
