//! Opens byte streams to a server. No NBD message is known here.

use std::any::Any;
#[cfg(unix)]
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::pin::Pin;
#[cfg(unix)]
use std::task::{Context, Poll};

#[cfg(unix)]
use tokio::io::ReadBuf;
use tokio::io::{AsyncRead, AsyncWrite, Join};
use tokio::net::TcpStream;

#[cfg(unix)]
pub(crate) mod activation;
#[cfg(unix)]
pub(crate) mod child;
#[cfg(not(unix))]
#[path = "childless.rs"]
pub(crate) mod child;
#[cfg(unix)]
pub(crate) mod command;
pub(crate) mod fd;
#[cfg(unix)]
mod parent;
#[cfg(unix)]
pub(crate) mod process;
#[cfg(unix)]
pub(crate) mod program;
mod rouse;
#[cfg(unix)]
pub(crate) mod stderr;
pub(crate) mod tcp;
#[cfg(unix)]
mod termination;
pub(crate) mod tls;
#[cfg(unix)]
pub(crate) mod unix;
#[cfg(all(feature = "vsock", target_os = "linux"))]
pub(crate) mod vsock;

pub(crate) use rouse::Rouse;

/// The half of a stream that is read.
pub(crate) type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
/// The half of a stream that is written.
pub(crate) type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// A connected byte stream, as its two halves. Dropping both closes it.
pub(crate) struct Transport {
    pub(crate) read: ReadHalf,
    pub(crate) write: WriteHalf,
    /// Its ends, if it is known to be a TCP connection.
    pub(crate) ends: Option<Ends>,
    /// Has it wake its thread early, if it can.
    pub(crate) rouse: Option<Rouse>,
}

/// The addresses of both ends of a TCP connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
}

impl Ends {
    /// Returns the addresses, if the stream is still connected.
    fn of(stream: &TcpStream) -> Option<Self> {
        Some(Self {
            local: stream.local_addr().ok()?,
            peer: stream.peer_addr().ok()?,
        })
    }
}

/// Both halves as one stream, for the handshake and for TLS.
pub(crate) type Joined = Join<ReadHalf, WriteHalf>;

impl Transport {
    /// Splits any stream, such as one of the caller's.
    pub(crate) fn foreign<S>(stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let tcp = (&stream as &dyn Any).downcast_ref::<TcpStream>();
        let ends = tcp.and_then(Ends::of);
        if let Some(tcp) = tcp {
            // P-004: TCP sends small messages at once. A failure changes nothing else.
            let _ = tcp.set_nodelay(true);
        }
        let (read, write) = tokio::io::split(stream);
        Self {
            read: Box::new(read),
            write: Box::new(write),
            ends,
            rouse: None,
        }
    }

    /// Keeps something until the stream is closed.
    #[cfg(unix)]
    pub(crate) fn keeping(self, kept: impl Send + Unpin + 'static) -> Self {
        let half = self.read;
        let read = Box::new(Keeping { half, _kept: kept });
        Self { read, ..self }
    }

    /// Joins the halves to one stream.
    pub(crate) fn join(self) -> Joined {
        tokio::io::join(self.read, self.write)
    }
}

/// The half of a stream that is read, and something that is dropped with it.
#[cfg(unix)]
struct Keeping<T> {
    half: ReadHalf,
    _kept: T,
}

#[cfg(unix)]
impl<T: Unpin> AsyncRead for Keeping<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.half).poll_read(cx, buf)
    }
}

impl From<Joined> for Transport {
    fn from(joined: Joined) -> Self {
        let (read, write) = joined.into_inner();
        Self {
            read,
            write,
            ends: None,
            rouse: None,
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) mod testing {
    use std::process::Command;
    use std::thread;
    use std::time::{Duration, Instant};
    use std::{env, fs};

    const ALONE: &str = "NBD_CLIENT_TEST_ALONE";

    /// Polls until the condition holds, for at most ten seconds.
    pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds() {
            assert!(Instant::now() < deadline, "not within ten seconds: {what}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether this is the process that runs only this test; if not, runs it.
    ///
    /// For tests of what the whole process shares: descriptors and signal dispositions.
    pub(crate) fn alone(test: &str, env_options: &[&str]) -> bool {
        if env::var_os(ALONE).is_some() {
            return true;
        }
        let output = Command::new("env")
            .args(env_options)
            .arg(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let failure = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}\n{failure}");
        assert!(text.contains("1 passed"), "no test is called {test}");
        false
    }

    /// Whether a server is there to test with.
    pub(super) fn installed(program: &str) -> bool {
        let path = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&path).any(|dir| dir.join(program).is_file());
        if !found {
            eprintln!("skipped: {program} is not installed");
        }
        found
    }

    /// The numbers of this process's open descriptors, and whether a child inherits them.
    pub(super) fn descriptors() -> Vec<(String, bool)> {
        const CLOEXEC: u32 = 0o2_000_000;
        let mut open = Vec::new();
        for entry in fs::read_dir("/proc/self/fdinfo").unwrap() {
            let entry = entry.unwrap();
            // Closed in the meantime.
            let Ok(info) = fs::read_to_string(entry.path()) else {
                continue;
            };
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
            let name = entry.file_name().into_string().unwrap();
            open.push((name, flags & CLOEXEC == 0));
        }
        open
    }
}
