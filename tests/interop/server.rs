//! Servers as processes of their own, each in a directory of its own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::{Builder, Connection};
use tempfile::TempDir;

#[path = "../shared/listening.rs"]
mod listening;
#[path = "../shared/port.rs"]
mod port;

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

/// A server that listens until it is dropped.
pub(crate) struct Server {
    child: Child,
    dir: Dir,
    port: Option<u16>,
    client: Builder,
}

impl Server {
    /// nbdkit on a Unix socket.
    pub(crate) fn nbdkit(args: &[&str]) -> Self {
        let dir = Dir::new();
        let socket = dir.path("socket");
        let mut command = Command::new("nbdkit");
        command.args(["-f", "--exit-with-parent", "-U", &socket]);
        command.args(args);
        Self::start(command, dir)
    }

    /// nbdkit on a TCP port.
    pub(crate) fn nbdkit_tcp(args: &[&str]) -> Self {
        let dir = Dir::new();
        let port = port::free_port();
        let mut command = Command::new("nbdkit");
        command.args(["-f", "--exit-with-parent", "-i", "127.0.0.1", "-p"]);
        command.arg(port.to_string()).args(args);
        Self::start_tcp(command, dir, port)
    }

    /// qemu-nbd on a Unix socket, for any number of clients.
    pub(crate) fn qemu(args: &[&str]) -> Self {
        let dir = Dir::new();
        let socket = dir.path("socket");
        let mut command = Command::new("qemu-nbd");
        command.args(["-t", "-e", "0", "-k", &socket]).args(args);
        Self::start(command, dir)
    }

    /// qemu-nbd on a TCP port, for any number of clients.
    #[allow(dead_code, reason = "only tests/plain needs it")]
    pub(crate) fn qemu_tcp(args: &[&str]) -> Self {
        let dir = Dir::new();
        let port = port::free_port();
        let mut command = Command::new("qemu-nbd");
        command.args(["-t", "-e", "0", "-b", "127.0.0.1", "-p"]);
        command.arg(port.to_string()).args(args);
        Self::start_tcp(command, dir, port)
    }

    /// nbd-server on a Unix socket, for one client; `exports` are sections of its configuration.
    pub(crate) fn nbd_server(exports: &str) -> Self {
        let dir = Dir::new();
        let socket = dir.path("socket");
        let generic = format!("[generic]\nunixsock = {socket}\nallowlist = true\n");
        let command = nbd_server(&dir, &generic, exports);
        Self::start(command, dir)
    }

    /// nbd-server on a TCP port, for one client.
    pub(crate) fn nbd_server_tcp(exports: &str) -> Self {
        let dir = Dir::new();
        let port = port::free_port();
        let generic = format!("[generic]\nlistenaddr = 127.0.0.1\nport = {port}\n");
        let command = nbd_server(&dir, &generic, exports);
        Self::start_tcp(command, dir, port)
    }

    fn start(command: Command, dir: Dir) -> Self {
        let socket = dir.path("socket");
        let mut server = Self {
            child: spawn(command, &dir),
            dir,
            port: None,
            client: Connection::builder(),
        };
        server.wait_until(|| listens_unix(&socket));
        server
    }

    fn start_tcp(command: Command, dir: Dir, port: u16) -> Self {
        let mut server = Self {
            child: spawn(command, &dir),
            dir,
            port: Some(port),
            client: Connection::builder(),
        };
        server.wait_until(|| listens_tcp(port));
        server
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
        let pid = self.child.id().to_string();
        run("kill", &["-TERM", &pid]);
        self.child.wait().unwrap();
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

/// It stays in the foreground only with `-d`, which also ends it after one client.
fn nbd_server(dir: &Dir, generic: &str, exports: &str) -> Command {
    let config = dir.file("config", format!("{generic}{exports}"));
    let mut command = Command::new("nbd-server");
    command.args(["-d", "-C", &config, "-p", &dir.path("pid")]);
    command
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
