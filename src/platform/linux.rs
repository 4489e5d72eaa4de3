//! Linux, which has some things that other Unix systems do not.

use std::io;
use std::time::Duration;

use socket2::SockRef;

/// Whether Unix sockets can have abstract names, which are not in the file system.
pub(crate) const ABSTRACT_NAMES: bool = true;

/// Longest path of a Unix socket in bytes, without the NUL that ends it.
pub(crate) const MAX_SOCKET_PATH: usize = 107;

/// Whether a socket listens.
pub(crate) fn is_listener(socket: &SockRef<'_>) -> io::Result<bool> {
    socket.is_listener()
}

/// Whether there is `TCP_USER_TIMEOUT`.
pub(crate) const USER_TIMEOUT: bool = true;

/// Sets `TCP_USER_TIMEOUT`.
pub(crate) fn set_user_timeout(socket: &SockRef<'_>, timeout: Duration) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(timeout))
}
