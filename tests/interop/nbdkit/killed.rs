//! Servers and clients that are killed while they are busy.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nbd_client::Connection;
use tokio::task::JoinSet;

#[cfg(feature = "tls")]
use crate::behind_tls;
use crate::durable::Disk;
use crate::shared::process::{again, eventually, has_ended, is_alone, times};
use crate::shared::random::Random;
use crate::shared::server::{Dir, Server};

// nbdkit keeps what is written to itself until it is flushed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k43_what_was_flushed_survives_a_server_that_is_killed() {
    let cycles = times(200);
    let mut disk = Disk::new(Random::new(200));
    let start = |disk: &str| Server::nbdkit(&["--filter=cache", "file", disk, "cache=writeback"]);
    let lost = disk.survive(cycles, start).await;
    println!("reached: {cycles} cycles; {lost} pages lost that were never flushed");
    // Or it would not matter whether anything was flushed.
    assert!(lost > 0);
}

#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k43_behind_tls_what_was_flushed_survives_a_server_that_is_killed() {
    let cycles = times(10);
    let mut disk = Disk::new(Random::new(202));
    let start =
        |disk: &str| behind_tls::nbdkit(&["--filter=cache", "file", disk, "cache=writeback"]);
    let lost = disk.survive(cycles, start).await;
    println!("reached: {cycles} cycles; {lost} pages lost that were never flushed");
    assert!(lost > 0);
}

const VICTIM: &str =
    "nbdkit::killed::k44_a_client_that_is_killed_leaves_neither_servers_nor_sockets";

/// Prints the number of its server's process, and then a line for every few requests, for ever.
async fn be_killed() {
    let conn = Connection::new();
    if std::env::var("NBD_TEST_WAY").unwrap() == "command" {
        let argv = ["nbdkit", "-s", "memory", "16M"];
        conn.connect_command(argv).await.unwrap();
    } else {
        // A server that listens learns nothing of the end of a client, but of a parent's.
        let argv = ["nbdkit", "-f", "--exit-with-parent", "memory", "16M"];
        conn.connect_systemd_socket_activation(argv).await.unwrap();
    }
    println!("\n{}", conn.child_id().unwrap());
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let conn = conn.clone();
        tasks.spawn(async move {
            loop {
                for block in 0..4 {
                    let offset = (task * 4 + block) << 18;
                    conn.write(offset, vec![1; 1 << 18]).await.unwrap();
                    conn.read(offset, 1 << 18).await.unwrap();
                }
                println!("busy");
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn k44_a_client_that_is_killed_leaves_neither_servers_nor_sockets() {
    if is_alone() {
        be_killed().await;
    }
    let cycles = times(50);
    let mut random = Random::new(50);
    let dir = Dir::new();
    let temporary = dir.path("tmp");
    std::fs::create_dir(&temporary).unwrap();
    for cycle in 0..cycles {
        let way = ["command", "activation"][cycle as usize % 2];
        let mut client = again(&[], VICTIM)
            .env("NBD_TEST_WAY", way)
            .env("TMPDIR", &temporary)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(client.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let server = lines.find_map(|line| line.parse().ok());
        let server = server.expect("the client has ended by itself");
        for _ in 0..random.below(20) {
            lines.find(|line| line.contains("busy")).unwrap();
        }
        client.kill().unwrap();
        client.wait().unwrap();
        eventually("the server has ended", || has_ended(server)).await;
        // No socket, and no directory that was made for one.
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
    }
    println!("reached: {cycles} clients killed, by command and by socket activation");
}
