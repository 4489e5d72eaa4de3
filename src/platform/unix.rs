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
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use socket2::SockRef;
use tokio::net::UnixDatagram;

/// How many slices one call takes; more are an error.
const MAX_SLICES: usize = 1024;

/// Sends as much as fits, without SIGPIPE if the socket was [`silence`]d before.
///
/// Writing to a socket without a peer raises SIGPIPE, which ends a program that has it at its
/// default (K47), as programs have that are not written in Rust and load us as a library. `std`,
/// and with it Tokio, prevents that in some of its calls, but not in any that takes several
/// slices.
pub(crate) fn send(socket: impl AsSocket, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    if let [buf] = bufs {
        // The same with less to copy and to check in the kernel.
        return Ok(rustix::net::send(socket, buf, FLAGS)?);
    }
    let bufs = bufs.get(..MAX_SLICES).unwrap_or(bufs);
    let mut control = SendAncillaryBuffer::default();
    Ok(sendmsg(socket, bufs, &mut control, FLAGS)?)
}

/// The error of a socket of a family that this system does not have.
pub(crate) const NO_SUCH_FAMILY: i32 = Errno::AFNOSUPPORT.raw_os_error();

/// Returns the processor time that this thread has taken, where the system tells.
pub(crate) fn thread_time() -> Option<Duration> {
    #[cfg(any(target_os = "illumos", target_os = "netbsd", target_os = "solaris"))]
    return None;
    #[cfg(not(any(target_os = "illumos", target_os = "netbsd", target_os = "solaris")))]
    {
        use rustix::time::{ClockId, clock_gettime};
        clock_gettime(ClockId::ThreadCPUTime).try_into().ok()
    }
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

/// The error of a TCP port on which no server listens.
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

/// The directories that may have certificates for TLS, as for libnbd.
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
pub(crate) fn certificate_directories() -> Vec<PathBuf> {
    let is_root = rustix::process::geteuid().is_root();
    certificates_of(is_root, std::env::var_os("HOME"))
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
fn certificates_of(is_root: bool, home: Option<OsString>) -> Vec<PathBuf> {
    if is_root {
        return vec!["/etc/pki/libnbd".into()];
    }
    // A relative one would be wherever the program happens to run.
    let home = home.map(PathBuf::from).filter(|home| home.is_absolute());
    let inside = |home: PathBuf| [".pki/libnbd", ".config/pki/libnbd"].map(|name| home.join(name));
    home.map_or_else(Vec::new, |home| inside(home).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(target_os = "linux", not(shuttle)))]
    #[test]
    fn the_time_of_a_thread_is_told_under_valgrind() {
        let name = "platform::unix::tests::the_time_of_a_thread_is_told_under_valgrind";
        // It ends a program that looks for the vDSO where the kernel has put it.
        let valgrind = ["valgrind", "--quiet", "--tool=none"];
        if crate::transport::testing::alone(name, &valgrind) {
            assert!(thread_time().is_some());
        }
    }

    #[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
    #[test]
    fn certificates_are_looked_for_where_libnbd_does() {
        let of = |is_root, home: &str| certificates_of(is_root, Some(home.into()));
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        let system = paths(&["/etc/pki/libnbd"]);
        assert_eq!(of(true, "/root"), system);
        let own = paths(&["/home/a/.pki/libnbd", "/home/a/.config/pki/libnbd"]);
        assert_eq!(of(false, "/home/a"), own);
        assert!(of(false, "").is_empty() && of(false, "a").is_empty());
        assert!(certificates_of(false, None).is_empty());
    }
}
