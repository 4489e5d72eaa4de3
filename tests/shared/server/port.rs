//! Ports for servers.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::TcpSocket;

/// How many ports one process has.
const RANGE: u16 = 200;

/// A port that is free, and stays so: it is below those that systems give out by themselves, to
/// whoever connects or asks for any, and of a range that other processes with tests leave alone.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static FIRST: LazyLock<(TcpListener, u16)> = LazyLock::new(claim);
    let (_claim, first) = &*FIRST;
    loop {
        let port = first + 1 + NEXT.fetch_add(1, Ordering::Relaxed) % (RANGE - 1);
        if is_free(port) {
            return port;
        }
    }
}

/// A range of ports: whoever has its first one has all.
fn claim() -> (TcpListener, u16) {
    let mut ranges = (0..100).map(|number| (number + std::process::id() % 100) % 100);
    let claim = |number| {
        let first = 10_000 + number as u16 * RANGE;
        let claim = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).ok()?;
        Some((claim, first))
    };
    ranges.find_map(claim).expect("all ports are taken")
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
