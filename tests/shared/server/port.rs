//! Ports for servers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::TcpSocket;

/// A port that is free, and stays so: it is below those that systems give out by themselves, to
/// whoever connects or asks for any.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 100) as u16 * 200;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 200;
        if is_free(port) {
            return port;
        }
    }
}

/// Whether a server can listen there.
///
/// The socket that finds out is bound and never listens: a process that another thread is starting
/// has a copy of it for a moment, and would be taken for the server.
fn is_free(port: u16) -> bool {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket
        .bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .is_ok()
}
