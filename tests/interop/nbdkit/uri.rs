//! Servers named by URI, and what libnbd's `nbdinfo` makes of the URIs of this client.

use nbd_client::{Connection, Error};

use crate::shared::server::{Dir, Server, run};

/// Names that a URI cannot hold as they are, and the sizes of the exports.
const NAMES: [(&str, u64); 5] = [
    ("disk0", 4096),
    ("a b+c", 8192),
    ("100%", 512),
    ("über?ß#", 1024),
    ("a&b=c", 2048),
];

/// A server with an export of each name.
fn server() -> (Server, Dir) {
    let dir = Dir::new();
    for (name, size) in NAMES {
        dir.disk(name, size);
    }
    let server = Server::nbdkit(&["file", &format!("dir={}", dir.path(""))]);
    (server, dir)
}

// U-04: a Unix socket needs its parameter; U-09: the path without exactly one slash.
both_runtimes!(a_uri_names_socket_and_export);
async fn a_uri_names_socket_and_export() {
    let (server, _dir) = server();
    let socket = server.socket();
    let uri = format!(
        "nbd+unix:///%C3%BCber%3F%C3%9F%23?socket={}",
        socket.display()
    );
    let conn = Connection::connect(uri.as_str()).await.unwrap();
    assert_eq!(conn.export_name(), "über?ß#");
    assert_eq!(conn.size().unwrap(), 1024);
    conn.disconnect().await.unwrap();
}

// U-05: a Unix socket has no authority; U-07: the default port is 10809.
both_runtimes!(a_uri_names_host_and_port);
async fn a_uri_names_host_and_port() {
    let server = Server::nbdkit_tcp(&["memory", "1M"]);
    for host in ["localhost", "127.0.0.1"] {
        let uri = format!("nbd://{host}:{}/any", server.port());
        let conn = Connection::connect(uri.as_str()).await.unwrap();
        assert_eq!(conn.size().unwrap(), 1 << 20);
        assert_eq!(conn.uri().unwrap().to_string(), uri);
    }
}

both_runtimes!(the_uri_of_a_connection_leads_nbdinfo_to_the_same_export);
async fn the_uri_of_a_connection_leads_nbdinfo_to_the_same_export() {
    let (server, _dir) = server();
    for (name, size) in NAMES {
        let conn = Connection::builder().export_name(name).build();
        conn.connect_unix(server.socket()).await.unwrap();
        let uri = conn.uri().unwrap().to_string();
        let found = run("nbdinfo", &["--size", &uri]);
        assert_eq!(found.trim(), size.to_string(), "{uri}");
    }
}

both_runtimes!(the_uri_of_a_connection_leads_back_to_it);
async fn the_uri_of_a_connection_leads_back_to_it() {
    let (server, _dir) = server();
    for (name, size) in NAMES {
        let conn = Connection::builder().export_name(name).build();
        conn.connect_unix(server.socket()).await.unwrap();
        let again = Connection::connect(conn.uri().unwrap()).await.unwrap();
        assert_eq!(again.export_name(), name);
        assert_eq!(again.size().unwrap(), size);
    }
}

both_runtimes!(a_uri_of_nobody_is_a_lost_connection);
async fn a_uri_of_nobody_is_a_lost_connection() {
    let dir = Dir::new();
    let uri = format!("nbd+unix:///?socket={}", dir.path("nobody"));
    let error = Connection::connect(uri.as_str()).await.unwrap_err();
    assert!(matches!(error, Error::Disconnected(..)), "{error}");
    assert_eq!(error.errno(), Some(2), "{error}");
}
