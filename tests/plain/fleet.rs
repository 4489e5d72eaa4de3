//! The servers of one visitor. Each is started when it is first needed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use nbd_client::testing::Listening;
use nbd_client::wire::ReplyStyle;
use nbd_client::{Builder, Connection, TlsMode, testing};
use tokio::runtime::{self, Runtime};

use crate::content::{DISK, READ, content};
use crate::shape::{Program, Transport, Way};
use crate::shared::pki;
use crate::shared::server::{Dir, Server};
use crate::watch::{Step, Watch};
use crate::{Outcome, ensure};

/// How much of what is only read is written at a time.
const PIECE: u64 = 4 << 20;

/// How long chunks are where replies come in pieces: more than is received straight into its
/// place, and no multiple of anything.
const CHUNK: u32 = 40_001;

/// Servers that run until this is dropped, or stopped.
pub(crate) struct Fleet(Mutex<Vec<(Key, Arc<Host>)>>);

type Key = (Transport, Program);

/// One server.
struct Host {
    server: Option<Running>,
    /// For children, which have one client each.
    dir: Dir,
    /// How much of what is only read is there.
    filled: AtomicU64,
}

enum Running {
    Process(Box<Server>),
    InProcess(InProcess),
}

/// A server on a runtime of its own.
struct InProcess {
    at: At,
    runtime: Option<Runtime>,
}

enum At {
    Duplex(testing::Server),
    Unix(Listening<PathBuf>),
    Tcp(Listening<SocketAddr>),
}

impl Fleet {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Ends all servers, whoever still waits for them.
    pub(crate) fn stop(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Connects, in the runtime where this is called.
    pub(crate) async fn connect(&self, way: Way) -> Outcome<Connection> {
        let conn = self.host(way).connect(way).await?;
        let protocol = conn.protocol()?;
        let style = match (protocol.structured_replies, protocol.extended_headers) {
            (false, _) => ReplyStyle::Simple,
            (true, false) => ReplyStyle::Structured,
            (true, true) => ReplyStyle::Extended,
        };
        ensure(style == way.style, || format!("the server has {style:?}"))?;
        Ok(conn)
    }

    /// Sees to it that what is to be read is there up to `reach`.
    pub(crate) async fn fill(
        &self,
        conn: &Connection,
        way: Way,
        reach: u64,
        watch: &Watch,
    ) -> Outcome<()> {
        let host = self.host(way);
        // A new disk for each child of nbdkit, which keeps it in memory.
        let is_new = way.transport == Transport::Child && way.program == Program::Nbdkit;
        let mut filled = match is_new {
            true => 0,
            false => host.filled.load(Relaxed),
        };
        while filled < reach {
            let _waiting = watch.step(Step::Fill);
            let piece = PIECE.min(reach - filled);
            let data = content(0, READ + filled, piece as usize);
            conn.write(READ + filled, data).await?;
            filled += piece;
            host.filled.store(filled, Relaxed);
        }
        Ok(())
    }

    /// Starts the server, if it is not there yet. That may take long.
    pub(crate) fn start(&self, way: Way) {
        let _ = self.host(way);
    }

    fn host(&self, way: Way) -> Arc<Host> {
        let key = (way.transport, way.program);
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, host)) = hosts.iter().find(|(known, _)| *known == key) {
            return host.clone();
        }
        let host = Arc::new(Host::start(key));
        hosts.push((key, host.clone()));
        host
    }
}

impl Host {
    fn start((transport, program): Key) -> Self {
        let dir = Dir::new();
        let size = DISK.to_string();
        let memory = ["memory", &size];
        let disk = dir.disk("disk", DISK);
        let qemu = qemu(&disk);
        let good = pki::path("good").display().to_string();
        let process = match (program, transport) {
            (_, Transport::Child) => None,
            (Program::InProcess | Program::InPieces, _) => {
                let server = in_process(program == Program::InPieces);
                let socket = dir.path("socket").into();
                let server = InProcess::start(server, transport, socket);
                return Self::new(Some(Running::InProcess(server)), dir);
            }
            (_, Transport::Duplex) => unreachable!("no process is reached in memory"),
            (Program::Nbdkit, Transport::Unix) => Some(Server::nbdkit(&memory)),
            (Program::Nbdkit, Transport::Tcp) => Some(Server::nbdkit_tcp(&memory)),
            (Program::Nbdkit, Transport::Tls) => {
                let certificates = format!("--tls-certificates={good}");
                let tls = ["--tls=require", &certificates];
                Some(Server::nbdkit_tcp(&[&tls[..], &memory].concat()))
            }
            (Program::Qemu, Transport::Unix) => Some(Server::qemu(&qemu)),
            (Program::Qemu, Transport::Tcp) => Some(Server::qemu_tcp(&qemu)),
            (Program::Qemu, Transport::Tls) => {
                let object =
                    format!("tls-creds-x509,id=tls0,endpoint=server,verify-peer=no,dir={good}");
                let tls = ["--object", &object, "--tls-creds", "tls0"];
                Some(Server::qemu_tcp(&[&tls[..], &qemu].concat()))
            }
        };
        Self::new(process.map(Box::new).map(Running::Process), dir)
    }

    const fn new(server: Option<Running>, dir: Dir) -> Self {
        Self {
            server,
            dir,
            filled: AtomicU64::new(0),
        }
    }

    async fn connect(&self, way: Way) -> Outcome<Connection> {
        let conn = client(way).build();
        match (&self.server, way.transport) {
            (None, _) => match way.program {
                Program::Nbdkit => {
                    let size = DISK.to_string();
                    let argv = ["nbdkit", "-s", "--exit-with-parent", "memory", &size];
                    conn.connect_command(argv).await?;
                }
                _ => {
                    let disk = self.dir.path("disk");
                    let argv = [&["qemu-nbd"][..], &qemu(&disk)].concat();
                    conn.connect_systemd_socket_activation(argv).await?;
                }
            },
            (Some(Running::Process(server)), Transport::Unix) => {
                conn.connect_unix(server.socket()).await?;
            }
            (Some(Running::Process(server)), _) => {
                conn.connect_tcp("127.0.0.1", server.port()).await?;
            }
            (Some(Running::InProcess(server)), _) => server.connect(&conn).await?,
        }
        Ok(conn)
    }
}

/// A disk that is gone with the test has nothing to make durable.
fn qemu(disk: &str) -> [&str; 5] {
    ["-f", "raw", "--cache=unsafe", "--discard=unmap", disk]
}

fn client(way: Way) -> Builder {
    let builder = Connection::builder()
        .meta_context("base:allocation")
        .structured_replies(way.style != ReplyStyle::Simple)
        .extended_headers(way.style == ReplyStyle::Extended);
    match way.transport {
        Transport::Tls => {
            let config = pki::trusting().build().unwrap();
            builder.tls(TlsMode::Require, config.server_name("localhost"))
        }
        _ => builder,
    }
}

fn in_process(is_in_pieces: bool) -> testing::Server {
    let builder = testing::Server::builder().export("", testing::Export::new(DISK));
    match is_in_pieces {
        true => builder
            .read_chunk(CHUNK)
            .interleave_chunks(true)
            .trailing_done(true)
            .build(),
        false => builder.build(),
    }
}

impl InProcess {
    fn start(server: testing::Server, transport: Transport, socket: PathBuf) -> Self {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (tell, told) = mpsc::channel();
        // Not waited for as a task: the caller may be one of another runtime.
        runtime.spawn(async move {
            let at = match transport {
                Transport::Duplex => At::Duplex(server),
                Transport::Unix => At::Unix(server.listen_unix(socket).unwrap()),
                _ => At::Tcp(server.listen_tcp("127.0.0.1:0").await.unwrap()),
            };
            tell.send(at).unwrap();
        });
        Self {
            at: told.recv().unwrap(),
            runtime: Some(runtime),
        }
    }

    async fn connect(&self, conn: &Connection) -> Outcome<()> {
        match &self.at {
            At::Duplex(server) => {
                let stream = {
                    let _there = self.runtime.as_ref().map(Runtime::enter);
                    server.connect()
                };
                conn.connect_stream(stream).await?;
            }
            At::Unix(listening) => conn.connect_unix(listening.path()).await?,
            At::Tcp(listening) => {
                let port = listening.local_addr().port();
                conn.connect_tcp("127.0.0.1", port).await?;
            }
        }
        Ok(())
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        // Not to be waited for in a runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
