//! macOS and the BSDs, which lack some things that Linux has.

use std::io;
use std::time::Duration;

use socket2::SockRef;

/// Whether Unix sockets can have abstract names, which are not in the file system.
pub(crate) const ABSTRACT_NAMES: bool = false;

/// Longest path of a Unix socket in bytes, without the NUL that ends it.
pub(crate) const MAX_SOCKET_PATH: usize = 103;

/// Not all of them can tell. A socket that listens has no peer, which is found out anyway.
pub(crate) fn is_listener(_: &SockRef<'_>) -> io::Result<bool> {
    Ok(false)
}

/// Whether there is `TCP_USER_TIMEOUT`.
pub(crate) const USER_TIMEOUT: bool = false;

/// Sets `TCP_USER_TIMEOUT`.
pub(crate) fn set_user_timeout(_: &SockRef<'_>, _: Duration) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
