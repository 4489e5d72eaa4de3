//! Disks for programs that are not async, on nbdkit.

use nbd_client::blocking::Disk;
use nbd_client::{Connection, Connector, context};

use crate::blocking::{calls_end_when_the_server_is_killed, calls_survive_restarts, is_a_disk};
use crate::shared::process::{eventually, has_ended};
use crate::shared::server::{Dir, Server};
use crate::shared::watchdog::within;

#[test]
fn blocking_calls_do_what_they_say() {
    let server = Server::nbdkit(&["memory", "16M"]);
    within(move || is_a_disk(&crate::blocking::open(&server)));
}

#[test]
fn blocking_calls_do_what_they_say_with_blocks() {
    let args = ["--filter=blocksize-policy", "memory", "16M"];
    let policy = ["blocksize-minimum=4096", "blocksize-error-policy=error"];
    let server = Server::nbdkit(&[&args[..], &policy].concat());
    within(move || is_a_disk(&crate::blocking::open(&server)));
}

#[test]
fn blocking_calls_end_when_nbdkit_is_killed() {
    within(|| calls_end_when_the_server_is_killed(Server::nbdkit(&["memory", "16M"])));
}

#[test]
fn blocking_calls_survive_restarts_of_nbdkit() {
    within(|| calls_survive_restarts(|file| Server::nbdkit(&["file", file])));
}

#[test]
fn a_blocking_disk_runs_its_server() {
    let dir = Dir::new();
    let file = dir.path("pid");
    let link = Connection::builder().meta_context(context::BASE_ALLOCATION);
    let options = nbd_client::Disk::builder().link(link);
    let command = Connector::command(["nbdkit", "-s", "-P", &file, "memory", "16M"]);
    let disk = Disk::open_with(options, command).unwrap();
    let pid = std::fs::read_to_string(file).unwrap();
    let pid: u32 = pid.trim().parse().unwrap();
    assert!(!has_ended(pid));
    within(move || is_a_disk(&disk));
    let gone = eventually("the server has ended", || has_ended(pid));
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(gone);
}
