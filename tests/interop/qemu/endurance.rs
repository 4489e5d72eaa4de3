//! Many connections, and servers that are killed.

#[cfg(feature = "tls")]
use crate::behind_tls;
use crate::durable::{Disk, SIZE};
use crate::nbdkit::baseline::connect_often_unix;
use crate::shared::process::{in_a_process_of_its_own, times};
use crate::shared::random::Random;
use crate::shared::server::{Dir, Server};

// qemu-nbd hands what is written to the system at once: nothing is lost when it is killed, and
// nothing may be torn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k43_what_was_flushed_survives_a_server_that_is_killed() {
    let cycles = times(20);
    let mut disk = Disk::new(Random::new(201));
    let start = |disk: &str| Server::qemu(&["-f", "raw", "--cache=writeback", disk]);
    disk.survive(cycles, start).await;
    println!("reached: {cycles} cycles");
}

#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k43_behind_tls_what_was_flushed_survives_a_server_that_is_killed() {
    let cycles = times(5);
    let mut disk = Disk::new(Random::new(203));
    let start = |disk: &str| behind_tls::qemu(&["-f", "raw", "--cache=writeback", disk]);
    disk.survive(cycles, start).await;
    println!("reached: {cycles} cycles");
}

#[tokio::test]
async fn k46_connections_one_after_the_other_leave_nothing_behind() {
    let name = "qemu::endurance::k46_connections_one_after_the_other_leave_nothing_behind";
    if in_a_process_of_its_own(name) {
        return;
    }
    let dir = Dir::new();
    let server = Server::qemu(&["-f", "raw", &dir.disk("disk", SIZE)]);
    connect_often_unix(times(24_000), &server).await;
}
