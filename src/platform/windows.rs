//! Windows, which lacks more than it has of what this library uses on Unix.

use std::ffi::OsString;
#[cfg(feature = "tls-psk")]
use std::fs::Metadata;
use std::io::{self, IoSlice};
use std::net;
pub(crate) use std::os::windows::io::{AsSocket, OwnedSocket};
use std::process::ExitStatus;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::UdpSocket;

/// `WSAECONNREFUSED`
const REFUSED: i32 = 10061;

/// There is no way to tell without `unsafe`. A socket that listens has no peer, which is found out
/// anyway.
pub(crate) fn is_listener(_: &SockRef<'_>) -> io::Result<bool> {
    Ok(false)
}

/// Whether there is `TCP_USER_TIMEOUT`.
pub(crate) const USER_TIMEOUT: bool = false;

/// Sets `TCP_USER_TIMEOUT`.
pub(crate) fn set_user_timeout(_: &SockRef<'_>, _: Duration) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Sends as much as fits.
pub(crate) fn send(socket: impl AsSocket, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    SockRef::from(&socket).send_vectored(bufs)
}

/// The error of a socket of a family that this system does not have: `WSAEAFNOSUPPORT`.
pub(crate) const NO_SUCH_FAMILY: i32 = 10_047;

/// The processor time of a thread is counted in ticks of many milliseconds.
pub(crate) fn thread_time() -> Option<Duration> {
    None
}

/// There is no SIGPIPE.
pub(crate) fn silence(_: &impl AsSocket) {}

/// Makes a socket that can do nothing, of all that need the I/O of Tokio the cheapest.
pub(crate) fn idle_socket() -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(net::UdpSocket::from(socket))
}

/// A handle on a socket is nothing else.
pub(crate) fn other_than_socket(_: &OwnedSocket) -> io::Result<Option<&'static str>> {
    Ok(None)
}

/// Keeps a socket from the programs that are started meanwhile.
pub(crate) fn keep_from_children(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_no_inherit(true)
}

/// The error of a TCP port on which no server listens.
pub(crate) fn refusal() -> io::Error {
    io::Error::from_raw_os_error(REFUSED)
}

/// There are no signals.
pub(crate) fn is_death_by_signal(_: ExitStatus) -> bool {
    false
}

/// Takes bytes for the name of a file, if they can be one.
pub(crate) fn os_string(bytes: Vec<u8>) -> Option<OsString> {
    String::from_utf8(bytes).ok().map(OsString::from)
}

/// Who may do what with a file is not said by these bits.
#[cfg(feature = "tls-psk")]
pub(crate) fn mode(_: &Metadata) -> u32 {
    0
}

/// The directories that may have certificates for TLS: libnbd is not for Windows.
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
pub(crate) const fn certificate_directories() -> Vec<std::path::PathBuf> {
    Vec::new()
}
