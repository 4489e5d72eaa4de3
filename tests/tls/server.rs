//! Servers as processes of their own, each in a directory of its own.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::{Connection, Result};
use tempfile::TempDir;

#[path = "../shared/listening.rs"]
mod listening;
#[path = "../shared/port.rs"]
mod port;

use listening::{listens_tcp, listens_unix};

/// How long a server may take until it listens, or ends; far more than any needs.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often to look whether it does.
const POLL: Duration = Duration::from_millis(5);

/// The way to a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Over {
    Tcp,
    Unix,
}

/// A server that listens until it is dropped.
pub(crate) struct Server {
    child: Child,
    dir: TempDir,
    over: Over,
    port: u16,
    /// Only to be dropped with it.
    _kept: Option<TempDir>,
}

impl Server {
    /// nbdkit.
    pub(crate) fn nbdkit(over: Over, args: &[&str]) -> Self {
        Self::start(over, |socket, port, _| {
            let mut command = Command::new("nbdkit");
            command.args(["-f", "-v", "--exit-with-parent"]);
            match over {
                Over::Tcp => command.args(["-i", "127.0.0.1", "-p", port]),
                Over::Unix => command.args(["-U", socket]),
            };
            command.args(args);
            command
        })
    }

    /// qemu-nbd with a disk of this size called `disk`, and TLS credentials.
    pub(crate) fn qemu(over: Over, size: u64, credentials: &str) -> Self {
        Self::start(over, |socket, port, dir| {
            let disk = dir.join("disk");
            File::create(&disk).unwrap().set_len(size).unwrap();
            let mut command = Command::new("qemu-nbd");
            command.args([
                "-t",
                "-e",
                "0",
                "-f",
                "raw",
                "-x",
                "disk",
                "--tls-creds",
                "tls0",
            ]);
            command.args([
                "--object",
                &format!("{credentials},id=tls0,endpoint=server"),
            ]);
            match over {
                Over::Tcp => command.args(["-b", "127.0.0.1", "-p", port]),
                Over::Unix => command.args(["-k", socket]),
            };
            command.arg(disk);
            command
        })
    }

    /// nbd-server with a disk of this size called `disk`, for one client; `generic` is added to
    /// that section of its configuration.
    pub(crate) fn nbd_server(over: Over, size: u64, generic: &str) -> Self {
        Self::start(over, |socket, port, dir| {
            let disk = dir.join("disk");
            File::create(&disk).unwrap().set_len(size).unwrap();
            let place = match over {
                Over::Tcp => format!("listenaddr = 127.0.0.1\nport = {port}\n"),
                Over::Unix => format!("unixsock = {socket}\n"),
            };
            let config = dir.join("config");
            let disk = disk.display();
            let text = format!("[generic]\n{place}{generic}[disk]\nexportname = {disk}\n");
            fs::write(&config, text).unwrap();
            let mut command = Command::new("nbd-server");
            // It stays in the foreground only with `-d`, which also ends it after one client.
            command.arg("-d").arg("-C").arg(config);
            command.arg("-p").arg(dir.join("pid"));
            command
        })
    }

    fn start(over: Over, command: impl FnOnce(&str, &str, &std::path::Path) -> Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let socket = socket.to_str().unwrap();
        let port = port::free_port();
        let mut command = command(socket, &port.to_string(), dir.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.path().join("stderr")).unwrap());
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs {command:?}: {error}"));
        let listens = || match over {
            Over::Tcp => listens_tcp(port),
            Over::Unix => listens_unix(socket),
        };
        let mut server = Self {
            child,
            over,
            port,
            dir,
            _kept: None,
        };
        server.wait_until("listens", listens);
        server
    }

    /// Keeps a directory for as long as the server runs.
    #[cfg(feature = "tls-psk")]
    pub(crate) fn keep(mut self, dir: TempDir) -> Self {
        self._kept = Some(dir);
        self
    }

    /// Waits until this holds.
    fn wait_until(&mut self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", self.stderr());
            }
            assert!(Instant::now() < deadline, "never {what}: {}", self.stderr());
            thread::sleep(POLL);
        }
    }

    /// Connects to it; over TCP by this host name.
    pub(crate) async fn connect_as(&self, conn: &Connection, host: &str) -> Result<()> {
        match self.over {
            Over::Tcp => conn.connect_tcp(host, self.port).await,
            Over::Unix => conn.connect_unix(self.socket()).await,
        }
    }

    /// Connects to it; over TCP as `localhost`.
    pub(crate) async fn connect(&self, conn: &Connection) -> Result<()> {
        self.connect_as(conn, "localhost").await
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// What it wrote to its standard error so far.
    pub(crate) fn stderr(&self) -> String {
        let bytes = fs::read(self.dir.path().join("stderr")).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
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

/// Runs a program to its end.
pub(crate) fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("this test needs {program:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program}: {}: {text}",
        output.status
    );
}
