//! Servers as processes of their own, each in a directory of its own.

use std::any::Any;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::{Builder, Connection, Result};
use tempfile::TempDir;

mod listening;
pub(crate) mod port;

use listening::{listens_tcp, listens_unix};

/// How long a server may take until it listens; far more than any needs.
const READY: Duration = Duration::from_secs(30);
/// How often to look whether it does.
const POLL: Duration = Duration::from_millis(5);

/// A directory that goes away with the test.
pub(crate) struct Dir(TempDir);

impl Dir {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The path of a file that may not exist yet.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// A file with this content.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A file of `size` zeroes.
    pub(crate) fn disk(&self, name: &str, size: u64) -> String {
        let path = self.path(name);
        File::create(&path).unwrap().set_len(size).unwrap();
        path
    }
}

/// The way to a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Over {
    Tcp,
    Unix,
}

/// A server that listens until it is dropped.
pub(crate) struct Server {
    child: Child,
    dir: Dir,
    port: Option<u16>,
    client: Builder,
    /// What must be there for as long as the server runs.
    kept: Vec<Box<dyn Any + Send + Sync>>,
}

impl Server {
    /// nbdkit on a Unix socket.
    pub(crate) fn nbdkit(args: &[&str]) -> Self {
        Self::nbdkit_over(Over::Unix, args)
    }

    /// nbdkit on a TCP port.
    pub(crate) fn nbdkit_tcp(args: &[&str]) -> Self {
        Self::nbdkit_over(Over::Tcp, args)
    }

    /// nbdkit.
    pub(crate) fn nbdkit_over(over: Over, args: &[&str]) -> Self {
        Self::start(over, |dir, port| {
            let mut command = Command::new("nbdkit");
            command.args(["-f", "--exit-with-parent"]);
            match port {
                Some(port) => command.args(["-i", "127.0.0.1", "-p", &port.to_string()]),
                None => command.args(["-U", &dir.path("socket")]),
            };
            command.args(args);
            command
        })
    }

    /// qemu-nbd on a Unix socket, for any number of clients.
    pub(crate) fn qemu(args: &[&str]) -> Self {
        Self::qemu_over(Over::Unix, args)
    }

    /// qemu-nbd on a TCP port, for any number of clients.
    pub(crate) fn qemu_tcp(args: &[&str]) -> Self {
        Self::qemu_over(Over::Tcp, args)
    }

    /// qemu-nbd, for any number of clients.
    pub(crate) fn qemu_over(over: Over, args: &[&str]) -> Self {
        Self::start(over, |dir, port| {
            let mut command = Command::new("qemu-nbd");
            command.args(["-t", "-e", "0"]);
            match port {
                Some(port) => command.args(["-b", "127.0.0.1", "-p", &port.to_string()]),
                None => command.args(["-k", &dir.path("socket")]),
            };
            command.args(args);
            command
        })
    }

    /// nbd-server on a Unix socket, for one client; `exports` are sections of its configuration.
    pub(crate) fn nbd_server(exports: &str) -> Self {
        Self::nbd_server_over(Over::Unix, "allowlist = true\n", exports)
    }

    /// nbd-server on a TCP port, for one client.
    /// It keeps the list of its exports to itself.
    pub(crate) fn nbd_server_tcp(exports: &str) -> Self {
        Self::nbd_server_over(Over::Tcp, "", exports)
    }

    /// nbd-server, for one client; `generic` is added to that section of its configuration.
    pub(crate) fn nbd_server_over(over: Over, generic: &str, exports: &str) -> Self {
        Self::start(over, |dir, port| {
            let place = match port {
                Some(port) => format!("listenaddr = 127.0.0.1\nport = {port}\n"),
                None => format!("unixsock = {}\n", dir.path("socket")),
            };
            let config = format!("[generic]\n{place}{generic}{exports}");
            let config = dir.file("config", config);
            let mut command = Command::new("nbd-server");
            // It stays in the foreground only with `-d`, which also ends it after one client.
            command.args(["-d", "-C", &config, "-p", &dir.path("pid")]);
            command
        })
    }

    /// Starts what `command` makes of the server's directory and, over TCP, its port.
    fn start(over: Over, command: impl FnOnce(&Dir, Option<u16>) -> Command) -> Self {
        let dir = Dir::new();
        let port = (over == Over::Tcp).then(port::free_port);
        let command = command(&dir, port);
        let socket = dir.path("socket");
        let mut server = Self {
            child: spawn(command, &dir),
            dir,
            port,
            client: Connection::builder(),
            kept: Vec::new(),
        };
        server.wait_until(|| match port {
            Some(port) => listens_tcp(port),
            None => listens_unix(&socket),
        });
        server
    }

    /// Keeps something, such as a directory, for as long as the server runs.
    pub(crate) fn keep(mut self, what: impl Any + Send + Sync) -> Self {
        self.kept.push(Box::new(what));
        self
    }

    /// Connects to it; over TCP by this host name.
    pub(crate) async fn connect_as(&self, conn: &Connection, host: &str) -> Result<()> {
        match self.port {
            Some(port) => conn.connect_tcp(host, port).await,
            None => conn.connect_unix(self.socket()).await,
        }
    }

    /// Connects to it; over TCP as `localhost`.
    pub(crate) async fn connect(&self, conn: &Connection) -> Result<()> {
        self.connect_as(conn, "localhost").await
    }

    /// Waits until it listens.
    fn wait_until(&mut self, is_ready: impl Fn() -> bool) {
        let deadline = Instant::now() + READY;
        while !is_ready() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", self.stderr());
            }
            assert!(
                Instant::now() < deadline,
                "the server does not listen: {}",
                self.stderr()
            );
            thread::sleep(POLL);
        }
    }

    /// Says what connects to it, if not just any client does.
    #[cfg(feature = "tls")]
    pub(crate) fn with_client(mut self, client: Builder) -> Self {
        self.client = client;
        self
    }

    /// What connects to it.
    pub(crate) fn client(&self) -> Builder {
        self.client.clone()
    }

    /// The path of its Unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        PathBuf::from(self.dir.path("socket"))
    }

    /// Its TCP port.
    pub(crate) fn port(&self) -> u16 {
        self.port.expect("a server on TCP")
    }

    /// What it wrote to its standard error so far.
    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path("stderr")).unwrap()
    }

    /// Ends it gently, so that it writes out what it holds, and waits for it.
    pub(crate) fn stop(mut self) {
        self.send("TERM");
        self.child.wait().unwrap();
    }

    /// Sends it a signal, such as `STOP`.
    pub(crate) fn send(&self, signal: &str) {
        run("kill", &["-s", signal, &self.child.id().to_string()]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the server's standard error:\n{}", self.stderr());
        }
    }
}

fn spawn(mut command: Command, dir: &Dir) -> Child {
    let stderr = File::create(dir.path("stderr")).unwrap();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr);
    let child = command.spawn();
    child.unwrap_or_else(|error| cannot_run(command.get_program(), &error))
}

/// Runs a program to its end, and returns what it printed.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| cannot_run(OsStr::new(program), &error));
    assert!(
        output.status.success(),
        "{program} {args:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn cannot_run(program: &OsStr, error: &std::io::Error) -> ! {
    panic!("this test needs {program:?}, which cannot be run ({error}); see tests/run")
}
