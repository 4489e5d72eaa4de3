//! Several links to one child that listens.

use std::future::IntoFuture;
use std::time::Duration;

use futures::StreamExt;
use nbd_client::{Connection, Connector, Disk, Error, Event};

use super::slow::Storage;
use crate::shared::process::{eventually, is_gone};
use crate::shared::server::Dir;

const PATIENCE: Duration = Duration::from_secs(60);

async fn several(server: Vec<String>) {
    let pid = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = pid.clone();
    let disk = Disk::builder().connections(4).identify(move |conn| {
        seen.lock().unwrap().push(conn.child_id());
        async { Ok(()) }
    });
    let disk = disk.open(Connector::socket_activation(server)).await;
    let disk = disk.unwrap();
    disk.write(0, vec![7; 4096]).await.unwrap();
    let load = async {
        while disk.status().links < 4 {
            let reads = (0..256).map(|_| disk.read(0, 4096).into_future());
            for data in futures::future::try_join_all(reads).await.unwrap() {
                assert_eq!(data[..], [7; 4096]);
            }
        }
    };
    let loaded = tokio::time::timeout(PATIENCE, load).await;
    assert!(loaded.is_ok(), "{:?}", disk.status());
    assert_eq!(disk.status().limited_by(), None);
    let writes = (0..64).map(|at| disk.write(at * 4096, vec![at as u8; 4096]).into_future());
    futures::future::try_join_all(writes).await.unwrap();
    disk.flush().await.unwrap();
    disk.close().await.unwrap();
    let pids = pid.lock().unwrap().clone();
    assert!(
        pids.len() == 3 && pids.iter().all(|pid| *pid == pids[0]),
        "{pids:?}"
    );
    assert!(is_gone(pids[0].unwrap()));
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

mod nbdkit {
    use super::*;

    #[tokio::test]
    async fn one_child_serves_several_links() {
        let dir = Dir::new();
        let disk = dir.disk("disk", 1 << 20);
        let args = ["nbdkit", "-f", "--exit-with-parent", "file", &disk];
        several(words(args)).await;
    }

    /// The first link has started the child, and is given up alone: the child ends with the last one.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_child_outlives_the_link_that_has_started_it() {
        let slow = Storage::new();
        let link = Connection::builder().stall_timeout(Duration::from_secs(6));
        let disk = Disk::builder().link(link).connections(2);
        let disk = disk.drain(Duration::from_millis(1));
        let server = Connector::socket_activation(slow.activated());
        let disk = disk.open(server).await.unwrap();
        let pid = slow.pid();
        // In one task: none is over before all have begun.
        let reads = (0..17).map(|_| disk.read(0, 512).into_future());
        futures::future::try_join_all(reads).await.unwrap();
        eventually("there are two links", || disk.status().links == 2).await;
        let mut events = disk.events();
        disk.write(8192, vec![2; 4096]).await.unwrap();
        slow.hold();
        let lost = disk.write(0, vec![1; 4096]).await.unwrap_err();
        assert!(matches!(&lost, Error::OutcomeUnknown(lost) if lost.generation() == Some(1)));
        let is_lost = |event| matches!(event, Event::Lost { generation: 1, .. });
        let over = async { while !is_lost(events.next().await.expect("the disk goes on")) {} };
        let over = tokio::time::timeout(PATIENCE, over).await;
        over.expect("the link is never given up");
        // The same child goes on, and has lost nothing.
        assert_eq!(disk.read(8192, 4096).await.unwrap()[..], [2; 4096]);
        disk.flush().await.unwrap();
        assert_eq!(slow.pid(), pid);
        slow.let_go();
        slow.all_done(2).await;
        disk.close().await.unwrap();
        eventually("the child is gone", || is_gone(pid)).await;
    }

    /// A server on standard input has one connection.
    #[tokio::test]
    async fn a_child_without_a_socket_serves_one_link() {
        let server = Connector::command(["nbdkit", "-s", "memory", "1M"]);
        let disk = Disk::builder().connections(4).open(server).await.unwrap();
        assert!(disk.status().limited_by().unwrap().contains("of its own"));
        disk.close().await.unwrap();
    }
}

mod qemu {
    use super::*;

    #[tokio::test]
    async fn one_child_serves_several_links() {
        let dir = Dir::new();
        let disk = dir.disk("disk", 1 << 20);
        several(words(["qemu-nbd", "-e", "0", "-f", "raw", &disk])).await;
    }
}
