//! connect-tcp6, aio-connect-port, get-size, export-name.

use std::process::{Child, Command, Stdio};

use nbd_client::{AddressFamily, Connection};

use crate::shared::server::port::free_port;
use crate::shared::server::{Dir, Server};

/// nbdkit on a port of `::1`.
struct Tcp6(Child, u16);

impl Tcp6 {
    async fn start() -> Self {
        let port = free_port();
        let child = Command::new("nbdkit")
            .args(["-f", "--exit-with-parent", "-i", "::1", "-p"])
            .args([&port.to_string(), "memory", "1M"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self(child, port);
        while tokio::net::TcpStream::connect(("::1", port)).await.is_err() {
            tokio::task::yield_now().await;
        }
        server
    }
}

impl Drop for Tcp6 {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

both_runtimes!(server_is_reached_over_ipv6);
async fn server_is_reached_over_ipv6() {
    let server = Tcp6::start().await;
    let uri = format!("nbd://[::1]:{}/", server.1);
    let conn = Connection::builder()
        .address_family(AddressFamily::V6)
        .build();
    conn.connect_tcp("::1", server.1).await.unwrap();
    assert_eq!(conn.size().unwrap(), 1 << 20);
    conn.disconnect().await.unwrap();
    let conn = Connection::connect(&*uri).await.unwrap();
    assert_eq!(conn.uri().unwrap().to_string(), uri);
    assert_eq!(conn.size().unwrap(), 1 << 20);
}

both_runtimes!(numeric_address_comes_back_in_the_uri);
async fn numeric_address_comes_back_in_the_uri() {
    let server = Server::nbdkit_tcp(&["memory", "1M"]);
    let conn = Connection::new();
    conn.connect_tcp("127.0.0.1", server.port()).await.unwrap();
    let uri = format!("nbd://127.0.0.1:{}/", server.port());
    assert_eq!(conn.uri().unwrap().to_string(), uri);
    conn.read(0, 512).await.unwrap();
}

both_runtimes!(abstract_socket_is_reached_and_named);
async fn abstract_socket_is_reached_and_named() {
    // libnbd cannot do either.
    let dir = Dir::new();
    let name = format!("\0{}", dir.path("abstract"));
    let server = nbd_client::testing::Server::new(nbd_client::testing::Export::new(4096));
    let _listening = server.listen_unix(&*name).unwrap();
    let conn = Connection::new();
    conn.connect_unix(&*name).await.unwrap();
    let uri = conn.uri().unwrap();
    assert!(uri.to_string().contains("socket=%00/"), "{uri}");
    let again = Connection::connect(uri).await.unwrap();
    assert_eq!(again.size().unwrap(), 4096);
}

both_runtimes!(name_of_the_export_can_be_set_and_asked);
async fn name_of_the_export_can_be_set_and_asked() {
    let server = Server::nbdkit(&["--filter=exportname", "memory", "1M", "exportname=a"]);
    let conn = Connection::builder().export_name("a").build();
    assert_eq!(conn.export_name(), "a");
    conn.set_export_name("").unwrap();
    assert_eq!(conn.export_name(), "");
    conn.set_export_name("a").unwrap();
    conn.connect_unix(server.socket()).await.unwrap();
    assert_eq!(conn.export().unwrap().name(), "a");
    assert_eq!(conn.size().unwrap(), 1 << 20);
}
