//! The addresses of both ends of a connection.

use std::net::SocketAddr;

use nbd_client::testing::{Export, Listening, Server};
use nbd_client::{Connection, Connector, Endpoint};

async fn listening(address: &str) -> Listening<SocketAddr> {
    let server = Server::new(Export::new(1 << 20));
    server.listen_tcp(address).await.unwrap()
}

/// Connects, in each way that leads to a TCP port.
async fn connections(address: SocketAddr) -> Vec<Connection> {
    let uri = format!("nbd://{address}/");
    let host = address.ip().to_string();
    let builder = Connection::builder();
    let mut all = vec![
        builder.connect(&uri).await.unwrap(),
        builder.connect(address).await.unwrap(),
        builder.connect(Connector::from(address)).await.unwrap(),
    ];
    for way in 0..5 {
        let conn = Connection::new();
        match way {
            0 => conn.connect_addr(address).await,
            1 => conn.connect_addr((address.ip(), address.port())).await,
            2 => conn.connect_tcp(&host, address.port()).await,
            3 => {
                let stream = std::net::TcpStream::connect(address).unwrap();
                conn.connect_socket(stream).await
            }
            _ => {
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                conn.connect_stream(stream).await
            }
        }
        .unwrap();
        all.push(conn);
    }
    all
}

both_runtimes!(both_ends_of_a_tcp_connection_are_known);
async fn both_ends_of_a_tcp_connection_are_known() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let server = listening(address).await;
        let address = server.local_addr();
        for conn in connections(address).await {
            assert_eq!(conn.peer_addr(), Some(address));
            let local = conn.local_addr().unwrap();
            assert_eq!(local.ip(), address.ip());
            assert_ne!(local.port(), address.port());
            conn.disconnect().await.unwrap();
            assert_eq!(conn.peer_addr(), Some(address), "after the end");
        }
    }
}

#[tokio::test]
async fn other_streams_have_no_such_ends() {
    let server = Server::new(Export::new(1 << 20));
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let theirs = tokio::net::UnixStream::from_std(theirs).unwrap();
    let unix = Connection::new();
    assert_eq!(unix.peer_addr(), None, "before");
    tokio::spawn(async move { server.serve(theirs).await });
    unix.connect_socket(ours).await.unwrap();
    let pipe = Connection::new();
    let server = Server::new(Export::new(1 << 20));
    pipe.connect_stream(server.connect()).await.unwrap();
    for conn in [unix, pipe] {
        assert_eq!((conn.peer_addr(), conn.local_addr()), (None, None));
    }
}

#[test]
fn zone_of_an_address_is_kept() {
    let with_zone: SocketAddr = "[fe80::1%7]:10809".parse().unwrap();
    for (address, host) in [
        (with_zone, "fe80::1%7"),
        ("[::1]:10809".parse().unwrap(), "::1"),
        ("127.0.0.1:10809".parse().unwrap(), "127.0.0.1"),
    ] {
        let (host, port) = (host.to_owned(), 10809);
        assert_eq!(Endpoint::from(address), Endpoint::Tcp { host, port });
    }
}
