//! Disks for programs that are not async, on qemu-nbd.

use crate::blocking::{
    calls_end_when_the_server_is_killed, calls_survive_restarts, is_a_disk, open,
};
use crate::shared::server::{Dir, Server};
use crate::shared::watchdog::within;

fn server() -> Server {
    let dir = Dir::new();
    let disk = dir.disk("disk", 16 << 20);
    Server::qemu(&["-f", "raw", &disk]).keep(dir)
}

#[test]
fn blocking_calls_do_what_they_say() {
    within(|| is_a_disk(&open(&server())));
}

#[test]
fn blocking_calls_end_when_qemu_nbd_is_killed() {
    within(|| calls_end_when_the_server_is_killed(server()));
}

#[test]
fn blocking_calls_survive_restarts_of_qemu_nbd() {
    within(|| calls_survive_restarts(|file| Server::qemu(&["-f", "raw", file])));
}
