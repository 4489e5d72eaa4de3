//! Pairs of TCP sockets.

use std::net::{TcpListener, TcpStream};
use std::sync::{LazyLock, Mutex, PoisonError};

use socket2::SockRef;

/// Each end holds no more than that, whatever the system would let it grow to.
const BUFFER: usize = 128 << 10;

/// A client's end, and the server's, which a runtime must be there for.
pub(crate) fn loopback() -> (TcpStream, tokio::net::TcpStream) {
    static LISTENER: LazyLock<Mutex<TcpListener>> =
        LazyLock::new(|| Mutex::new(TcpListener::bind("127.0.0.1:0").unwrap()));
    // One pair at a time: who is accepted is who has just connected.
    let listener = LISTENER.lock().unwrap_or_else(PoisonError::into_inner);
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    drop(listener);
    for end in [&client, &server] {
        SockRef::from(end).set_recv_buffer_size(BUFFER).unwrap();
        SockRef::from(end).set_send_buffer_size(BUFFER).unwrap();
    }
    server.set_nodelay(true).unwrap();
    server.set_nonblocking(true).unwrap();
    (client, tokio::net::TcpStream::from_std(server).unwrap())
}
