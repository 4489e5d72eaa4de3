//! What is the same on Linux, macOS and the BSDs, but for how they prevent SIGPIPE.

use std::io::{self, IoSlice};
pub(crate) use std::os::fd::{AsFd as AsSocket, OwnedFd as OwnedSocket};

use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

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
