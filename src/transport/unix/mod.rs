//! Unix sockets.

mod stream;

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time;

pub(crate) use stream::Stream;

use crate::error::{Error, InvalidUse, Phase, Result, trying, trying_with_hint};
use crate::platform::{ABSTRACT_NAMES, MAX_SOCKET_PATH};

/// The first pause while the listener's queue is full, doubled up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// Connects to the socket at a path, or, if its first byte is NUL, with an abstract name.
///
/// There is no spelling of abstract names with `@`: that is a path like any other.
///
/// Waits for as long as the listener's queue is full; the caller sets the deadline.
///
/// # Cancel safety
///
/// Dropping the future closes the socket.
pub(crate) async fn connect(path: &Path) -> Result<Stream> {
    check(path)?;
    let mut pause = MIN_PAUSE;
    let failed = |error: io::Error| {
        let what = format!("cannot connect to {path:?}");
        let error = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                trying_with_hint(what, error, "is the server running?")
            }
            _ => trying(what, error),
        };
        Error::io(Phase::Connect, error)
    };
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => {
                let stream = stream.into_std().and_then(Stream::new);
                return stream.map_err(failed);
            }
            // The one connect(2) that can fail with EAGAIN: a blocking socket would wait here
            // until the server accepts, and there is nothing to poll for it.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                time::sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Refuses what does not fit into a socket address.
pub(crate) fn check(path: &Path) -> Result<()> {
    let too_long = |what, length| {
        let limit = MAX_SOCKET_PATH;
        Err(InvalidUse::TooLong {
            what,
            length,
            limit,
        }
        .into())
    };
    let bytes = path.as_os_str().as_bytes();
    match bytes {
        [] => Err(InvalidUse::Empty {
            what: "socket path",
        }
        .into()),
        [0, ..] if !ABSTRACT_NAMES => {
            Err(InvalidUse::NotBuilt("this system has no abstract socket names").into())
        }
        // NUL ends a path, but is a byte like any other in an abstract name. That has the same
        // room, because its NUL is in front.
        [0, name @ ..] if name.len() > MAX_SOCKET_PATH => {
            too_long("abstract socket name", name.len())
        }
        [0, ..] => Ok(()),
        path if path.contains(&0) => Err(InvalidUse::ContainsNul {
            what: "socket path",
        }
        .into()),
        path if path.len() > MAX_SOCKET_PATH => too_long("socket path", path.len()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    use futures::FutureExt;
    use socket2::{Domain, SockAddr, Socket, Type};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::error::raw_os_error;
    use crate::transport::Transport;

    fn path(bytes: &[u8]) -> &Path {
        Path::new(OsStr::from_bytes(bytes))
    }

    async fn refusal(bytes: &[u8]) -> String {
        connect(path(bytes)).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_socket_where_nothing_listens_asks_whether_the_server_runs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let missing = connect(&path).await.unwrap_err();
        drop(UnixListener::bind(&path).unwrap());
        let refused = connect(&path).await.unwrap_err();
        for (error, why, number) in [
            (missing, "no such file or directory", 2),
            (refused, "connection refused", 111),
        ] {
            let text = format!("cannot connect to {path:?}: {why} (is the server running?)");
            assert_eq!(error.to_string(), text);
            assert_eq!(error.errno(), Some(number));
        }
    }

    #[tokio::test]
    async fn k38_impossible_paths_are_refused_with_a_reason() {
        assert_eq!(refusal(b"").await, "the socket path is empty");
        assert_eq!(
            refusal(b"/tmp/a\0b").await,
            "the socket path contains a NUL character"
        );
        assert_eq!(
            refusal(&[b'a'; 108]).await,
            "the socket path has 108 bytes, and must not have more than 107"
        );
        let mut name = [b'a'; 109];
        name[0] = 0;
        assert_eq!(
            refusal(&name).await,
            "the abstract socket name has 108 bytes, and must not have more than 107"
        );
    }

    #[tokio::test]
    async fn longest_path_and_name_fit() {
        let error = connect(path(&[b'a'; 107])).await.unwrap_err();
        assert_eq!(error.errno(), Some(2), "{error}");
        let Error::Disconnected(lost, _) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(lost.io().kind(), io::ErrorKind::NotFound);
        assert_eq!(raw_os_error(lost.io()), Some(2));
        assert!(check(path(&[0; 108])).is_ok());
    }

    #[tokio::test]
    async fn failure_names_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let error = connect(&dir.path().join("no\nsocket")).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("/no\\nsocket\": no such file"), "{text}");
    }

    #[tokio::test]
    async fn relative_at_sign_is_a_path() {
        let error = connect(Path::new("@nbd-client")).await.unwrap_err();
        assert!(error.to_string().contains("no such file"), "{error}");
    }

    #[tokio::test]
    async fn abstract_name_is_reached() {
        let name = format!("nbd-client-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let socket = connect(path(format!("\0{name}").as_bytes())).await.unwrap();
        let mut stream = Transport::from(socket).read;
        drop(listener.accept().unwrap());
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn full_queue_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();

        let mut queued = Vec::new();
        let error = loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => queued.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);

        let mut connecting = Box::pin(connect(&path));
        assert!(connecting.as_mut().now_or_never().is_none());
        let accepted = queued.iter().map(|_| listener.accept().unwrap().0);
        drop(accepted.collect::<Vec<_>>());
        let mut stream = Transport::from(connecting.await.unwrap()).write;
        drop(listener.accept().unwrap());
        assert_eq!(
            stream.write(b"x").await.unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}
