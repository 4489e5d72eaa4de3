//! Several links to one child that listens.

use nbd_client::{Connector, Disk};

use crate::shared::process::is_gone;
use crate::shared::server::Dir;

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
    let patience = std::time::Duration::from_secs(60);
    let loaded = tokio::time::timeout(patience, load).await;
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
