//! Sockets that the caller connected.

use std::io;
use std::net;

use socket2::{Domain, SockRef, Type};
use tokio::net::TcpStream;

#[cfg(unix)]
use super::unix;
use super::{Transport, tcp};
use crate::error::{Error, InvalidUse, Phase, Reason, Result};
use crate::platform::{self, OwnedSocket};

/// Takes over a connected stream socket of any family.
///
/// It is made non-blocking and close-on-exec here. Being non-blocking is a property of the open
/// socket, not of the descriptor: duplicates that the caller kept change with it (K25).
///
/// The descriptor is closed on failure. Must be called inside a Tokio runtime.
pub(crate) fn adopt(fd: OwnedSocket) -> Result<Transport> {
    let family = family(&fd)?;
    wrap(fd, family).map_err(|error| Error::io(Phase::Connect, error))
}

/// The family of a connected stream socket; everything else is refused (K20 to K23).
///
/// Tokio does not do this: it takes a datagram socket for a `TcpStream`, and a listening socket
/// or a pipe for something that never becomes readable.
fn family(fd: &OwnedSocket) -> Result<Domain> {
    let refuse = |what: &'static str| Err(InvalidUse::NotASocket(what).into());
    let unusable = |error: io::Error| InvalidUse::Socket(Reason(&error).to_string());

    if let Some(what) = platform::other_than_socket(fd).map_err(unusable)? {
        return refuse(what);
    }

    let socket = SockRef::from(fd);
    match socket.r#type().map_err(unusable)? {
        Type::STREAM => {}
        Type::DGRAM => return refuse("a datagram socket"),
        Type::SEQPACKET => return refuse("a seqpacket socket"),
        Type::RAW => return refuse("a raw socket"),
        _ => return refuse("a socket of another type"),
    }
    if platform::is_listener(&socket).map_err(unusable)? {
        return refuse("a listening socket");
    }
    match socket.peer_addr() {
        Ok(peer) => Ok(peer.domain()),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => {
            refuse("a socket without a peer")
        }
        Err(error) => Err(unusable(error).into()),
    }
}

fn wrap(fd: OwnedSocket, family: Domain) -> io::Result<Transport> {
    let socket = SockRef::from(&fd);
    platform::keep_from_children(&socket)?;
    // K24: Tokio panics on a blocking socket in debug builds, and blocks on it in others.
    socket.set_nonblocking(true)?;

    if matches!(family, Domain::IPV4 | Domain::IPV6) {
        // P-004. Not every stream of these families is TCP, and without it all still works.
        let _ = socket.set_tcp_nodelay(true);
        let stream = TcpStream::from_std(net::TcpStream::from(fd))?;
        Ok(tcp::Stream::new(stream).into())
    } else {
        wrap_other(fd)
    }
}

/// Unix, vsock and whatever else: receiving, sending and shutting down are the same calls for all
/// of them.
#[cfg(unix)]
fn wrap_other(fd: OwnedSocket) -> io::Result<Transport> {
    Ok(unix::Stream::new(fd.into())?.into())
}

/// Tokio has only TCP.
#[cfg(not(unix))]
fn wrap_other(_: OwnedSocket) -> io::Result<Transport> {
    let why = "this system has no stream sockets but those of TCP";
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{Read, Write};
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use rustix::fs::{Mode, OFlags, inotify};
    use rustix::io::{FdFlags, fcntl_setfd};
    use socket2::Socket;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn refusal(fd: impl Into<OwnedFd>) -> String {
        match adopt(fd.into()) {
            Ok(_) => "accepted".into(),
            Err(error) => error.to_string(),
        }
    }

    fn socket(domain: Domain, r#type: Type) -> Socket {
        Socket::new(domain, r#type, None).unwrap()
    }

    fn open(path: &str, flags: OFlags) -> OwnedFd {
        rustix::fs::open(path, flags, Mode::empty()).unwrap()
    }

    fn not_connected(what: &str) -> String {
        format!("a connected stream socket is needed, and this is {what}")
    }

    #[tokio::test]
    async fn k20_what_is_no_socket_is_refused_by_name() {
        let (sender, receiver) = tokio::net::unix::pipe::pipe().unwrap();
        let null = open("/dev/null", OFlags::RDWR);
        let terminal = open("/dev/ptmx", OFlags::RDWR | OFlags::NOCTTY);
        let link = open("/proc/self/exe", OFlags::PATH | OFlags::NOFOLLOW);
        let special = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
        for (refused, what) in [
            (refusal(tempfile::tempfile().unwrap()), "a regular file"),
            (refusal(File::open("/").unwrap()), "a directory"),
            (refusal(link), "a symbolic link"),
            (refusal(sender.into_nonblocking_fd().unwrap()), "a pipe"),
            (refusal(receiver.into_blocking_fd().unwrap()), "a pipe"),
            (refusal(null), "a character device"),
            (refusal(terminal), "a terminal"),
            (refusal(special), "a special file such as an eventfd"),
        ] {
            assert_eq!(refused, not_connected(what));
        }
    }

    #[tokio::test]
    async fn k21_sockets_of_other_types_are_refused_by_name() {
        const NETLINK: i32 = 16;
        let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
        connected.connect("127.0.0.1:9").unwrap();
        let local = UnixDatagram::pair().unwrap().0;
        let seqpacket = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap().0;
        let raw = socket(Domain::from(NETLINK), Type::RAW);
        for (refused, what) in [
            (refusal(connected), "a datagram socket"),
            (refusal(local), "a datagram socket"),
            (refusal(seqpacket), "a seqpacket socket"),
            (refusal(raw), "a raw socket"),
        ] {
            assert_eq!(refused, not_connected(what));
        }
    }

    #[tokio::test]
    async fn k22_sockets_that_listen_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let unix = UnixListener::bind(dir.path().join("socket")).unwrap();
        for refused in [refusal(tcp), refusal(unix)] {
            assert_eq!(refused, not_connected("a listening socket"));
        }
    }

    #[tokio::test]
    async fn k23_sockets_without_a_peer_are_refused() {
        for domain in [Domain::IPV4, Domain::IPV6, Domain::UNIX] {
            let refused = refusal(socket(domain, Type::STREAM));
            assert_eq!(refused, not_connected("a socket without a peer"));
        }
    }

    #[tokio::test]
    async fn handle_without_access_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        let refused = refusal(open(path.to_str().unwrap(), OFlags::PATH));
        assert_eq!(refused, "cannot use the socket: bad file descriptor");
    }

    #[tokio::test]
    async fn refused_descriptor_is_closed() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        refusal(theirs);
        let error = ours.send(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    async fn echoes(stream: Transport, mut peer: impl Read + Write) {
        let (mut reader, mut writer) = (stream.read, stream.write);
        peer.write_all(b"ping").unwrap();
        let mut buffer = [0; 4];
        reader.read_exact(&mut buffer).await.unwrap();
        writer.write_all(&buffer).await.unwrap();
        writer.shutdown().await.unwrap();
        let mut echo = Vec::new();
        peer.read_to_end(&mut echo).unwrap();
        assert_eq!(echo, b"ping");
    }

    #[tokio::test]
    async fn k24_blocking_unix_stream_is_adopted() {
        let (ours, theirs) = unix::net::UnixStream::pair().unwrap();
        echoes(adopt(ours.into()).unwrap(), theirs).await;
    }

    #[tokio::test]
    async fn tcp_stream_of_either_family_is_adopted_without_delay() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let ours = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let copy = ours.try_clone().unwrap();
            let theirs = listener.accept().unwrap().0;
            let adopted = adopt(ours.into()).unwrap();
            assert!(copy.nodelay().unwrap());
            drop(copy);
            echoes(adopted, theirs).await;
        }
    }

    #[tokio::test]
    async fn k25_duplicate_becomes_non_blocking_too() {
        let (ours, _theirs) = unix::net::UnixStream::pair().unwrap();
        let mut copy = ours.try_clone().unwrap();
        let _adopted = adopt(ours.into()).unwrap();
        let error = copy.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn k46_adopted_descriptor_is_closed_on_exec() {
        let (ours, _theirs) = unix::net::UnixStream::pair().unwrap();
        fcntl_setfd(&ours, FdFlags::empty()).unwrap();
        let info = format!("/proc/self/fdinfo/{}", ours.as_raw_fd());
        let flags = || {
            let info = fs::read_to_string(&info).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            u32::from_str_radix(flags.unwrap().trim(), 8).unwrap()
        };
        assert_eq!(flags() & OFlags::CLOEXEC.bits(), 0);
        let _adopted = adopt(ours.into()).unwrap();
        assert_ne!(flags() & OFlags::CLOEXEC.bits(), 0);
    }

    #[tokio::test]
    async fn stream_whose_peer_is_gone_is_adopted_and_ends() {
        let (ours, theirs) = unix::net::UnixStream::pair().unwrap();
        drop(theirs);
        let mut reader = adopt(ours.into()).unwrap().read;
        assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);
    }
}
