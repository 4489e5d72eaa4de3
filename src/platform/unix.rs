//! What is the same on Linux, macOS and the BSDs, but for how they prevent SIGPIPE.

use std::ffi::OsString;
#[cfg(feature = "tls-psk")]
use std::fs::Metadata;
use std::io::{self, IoSlice};
pub(crate) use std::os::fd::{AsFd as AsSocket, OwnedFd as OwnedSocket};
use std::os::unix::ffi::OsStringExt;
#[cfg(feature = "tls-psk")]
use std::os::unix::fs::MetadataExt;

use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::net::UnixDatagram;

/// Sends as much as fits. Raises no SIGPIPE if the socket was [`silence`]d before.
pub(crate) fn send(socket: impl AsSocket, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut control = SendAncillaryBuffer::default();
    Ok(sendmsg(socket, bufs, &mut control, FLAGS)?)
}

/// Each call prevents SIGPIPE.
#[cfg(not(target_vendor = "apple"))]
const FLAGS: SendFlags = SendFlags::NOSIGNAL;

#[cfg(not(target_vendor = "apple"))]
pub(crate) fn silence(_: &impl AsSocket) {}

/// The socket prevents SIGPIPE.
#[cfg(target_vendor = "apple")]
const FLAGS: SendFlags = SendFlags::empty();

/// Fails only if the peer is gone already.
#[cfg(target_vendor = "apple")]
pub(crate) fn silence(socket: &impl AsSocket) {
    let _ = socket2::SockRef::from(socket).set_nosigpipe(true);
}

/// Makes a socket that can do nothing, of all that need the I/O of Tokio the cheapest.
pub(crate) fn idle_socket() -> io::Result<UnixDatagram> {
    UnixDatagram::unbound()
}

/// Takes bytes for the name of a file, if they can be one.
pub(crate) fn os_string(bytes: Vec<u8>) -> Option<OsString> {
    Some(OsString::from_vec(bytes))
}

/// Who may do what with a file.
#[cfg(feature = "tls-psk")]
pub(crate) fn mode(file: &Metadata) -> u32 {
    file.mode()
}
