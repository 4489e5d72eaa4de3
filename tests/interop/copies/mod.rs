//! Copies of whole disks from and to real servers.

mod nbdkit;
mod qemu;

use std::future::IntoFuture;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nbd_client::{Copied, Copying, Result};

use crate::shared::random::Random;
use crate::shared::server::{Dir, Server};

/// Copies, and fails the test if that waits for ever.
async fn run(copying: Copying) -> Result<Copied> {
    let copying = tokio::time::timeout(Duration::from_secs(120), copying.into_future());
    copying.await.expect("it waits for ever")
}

fn uri(socket: impl AsRef<Path>) -> String {
    format!("nbd+unix:///?socket={}", socket.as_ref().display())
}

fn of(server: &Server) -> String {
    uri(server.socket())
}

/// A file with holes: a quarter is data.
fn sparse(dir: &Dir, name: &str, size: usize) -> String {
    use std::os::unix::fs::FileExt;

    let path = dir.disk(name, size as u64);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let mut random = Random::new(20);
    for at in (0..size).step_by(256 << 10) {
        let data = random.bytes((64 << 10).min(size - at));
        file.write_all_at(&data, at as u64).unwrap();
    }
    path
}

fn same(one: &str, other: &str) {
    assert!(
        std::fs::read(one).unwrap() == std::fs::read(other).unwrap(),
        "not equal"
    );
}

/// The room that a file takes, in bytes.
fn room(path: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;

    std::fs::metadata(path).unwrap().blocks() * 512
}

/// nbdkit that can be killed and started again.
struct Mortal {
    args: Vec<String>,
    socket: String,
    child: Child,
}

impl Mortal {
    fn start(socket: String, args: &[&str]) -> Self {
        let args = args.iter().map(ToString::to_string).collect();
        let child = spawn(&socket, &args);
        Self {
            args,
            socket,
            child,
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.socket, &self.args);
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(socket: &str, args: &Vec<String>) -> Child {
    // A server that was killed leaves its socket.
    let _ = std::fs::remove_file(socket);
    let mut command = Command::new("nbdkit");
    command
        .args(["-f", "--exit-with-parent", "-U", socket])
        .args(args);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("this test needs nbdkit")
}
