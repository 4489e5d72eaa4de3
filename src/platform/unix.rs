//! What is the same on Linux, macOS and the BSDs, but for how they prevent SIGPIPE.

use std::ffi::OsString;
#[cfg(feature = "tls-psk")]
use std::fs::Metadata;
use std::io::{self, IoSlice, IsTerminal};
pub(crate) use std::os::fd::{AsFd as AsSocket, OwnedFd as OwnedSocket};
use std::os::unix::ffi::OsStringExt;
#[cfg(feature = "tls-psk")]
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use socket2::SockRef;
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
    let _ = SockRef::from(socket).set_nosigpipe(true);
}

/// Makes a socket that can do nothing, of all that need the I/O of Tokio the cheapest.
pub(crate) fn idle_socket() -> io::Result<UnixDatagram> {
    UnixDatagram::unbound()
}

/// What a descriptor is, if it is no socket.
pub(crate) fn other_than_socket(fd: &OwnedSocket) -> io::Result<Option<&'static str>> {
    Ok(Some(match FileType::from_raw_mode(fstat(fd)?.st_mode) {
        FileType::Socket => return Ok(None),
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a pipe",
        FileType::CharacterDevice if fd.is_terminal() => "a terminal",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        // Linux: eventfd, epoll, timerfd and so on have no type.
        FileType::Unknown => "a special file such as an eventfd",
    }))
}

/// Keeps a socket from the programs that are started meanwhile.
pub(crate) fn keep_from_children(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_cloexec(true)
}

/// The error of a TCP port that nobody listens on.
pub(crate) fn refusal() -> io::Error {
    Errno::CONNREFUSED.into()
}

/// Whether a process was ended by a signal.
pub(crate) fn is_death_by_signal(status: ExitStatus) -> bool {
    status.signal().is_some()
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
