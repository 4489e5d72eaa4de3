//! The servers of these tests.

use crate::shared::server::{Dir, Over, Server};

/// nbdkit, which tells what it does.
pub(crate) fn nbdkit(over: Over, args: &[&str]) -> Server {
    Server::nbdkit_over(over, &[&["-v"], args].concat())
}

/// qemu-nbd with a disk of this size called `disk`, and TLS credentials.
pub(crate) fn qemu(over: Over, size: u64, credentials: &str) -> Server {
    let dir = Dir::new();
    let disk = dir.disk("disk", size);
    let object = format!("{credentials},id=tls0,endpoint=server");
    let tls = ["--tls-creds", "tls0", "--object", &object];
    let image = ["-f", "raw", "-x", "disk", &disk];
    Server::qemu_over(over, &[&tls[..], &image].concat()).keep(dir)
}

/// nbd-server with a disk of this size called `disk`, for one client; `generic` is added to that
/// section of its configuration.
pub(crate) fn nbd_server(over: Over, size: u64, generic: &str) -> Server {
    let dir = Dir::new();
    let export = format!("[disk]\nexportname = {}\n", dir.disk("disk", size));
    Server::nbd_server_over(over, generic, &export).keep(dir)
}
