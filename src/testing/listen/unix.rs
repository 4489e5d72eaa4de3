//! Serving on Unix sockets.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::task::Poll;

use tokio::net::UnixListener;

use super::{Listening, Server};

impl Listening<PathBuf> {
    /// The path of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.address
    }

    /// The NBD URI of the default export.
    #[must_use]
    pub fn uri(&self) -> String {
        let mut uri = String::from("nbd+unix:///?socket=");
        for byte in self.address.as_os_str().as_encoded_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                    uri.push(char::from(*byte));
                }
                _ => drop(write!(uri, "%{byte:02X}")),
            }
        }
        uri
    }
}

impl Server {
    /// Listens on a new Unix socket at `path`.
    ///
    /// # Errors
    /// If the socket cannot be made, for instance because the path exists.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn listen_unix(&self, path: impl AsRef<Path>) -> io::Result<Listening<PathBuf>> {
        let path = path.as_ref().to_owned();
        let listener = UnixListener::bind(&path)?;
        let task = self.accept(move |cx| match listener.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(accepted.map(|(stream, _)| stream)),
            Poll::Pending => Poll::Pending,
        });
        Ok(Listening {
            address: path.clone(),
            socket: Some(path),
            task,
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    use super::super::tests::greeting;
    use super::*;
    use crate::testing::Export;

    #[tokio::test]
    async fn a_unix_socket_is_served_and_gone_with_its_guard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a socket");
        let server = Server::new(Export::new(0));
        let listening = server.listen_unix(&path).unwrap();
        assert!(listening.uri().ends_with("/a%20socket"));
        let mut stream = UnixStream::connect(listening.path()).await.unwrap();
        assert_eq!(&greeting(&mut stream).await, b"NBDMAGIC");
        drop(listening);
        assert!(!path.exists());
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest.len(), 10, "the rest of the greeting, and the end");
        server.connected(0).await;
    }
}
