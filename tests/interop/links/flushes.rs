//! One flush covers what was written over several links.

use std::fs;

use futures::future::try_join_all;
use nbd_client::{Connector, Disk};

use crate::shared::server::{Dir, Server};

mod nbdkit {
    use super::*;

    /// nbdkit logs each request when it begins, and again with three dots when it is done.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_flush_follows_the_changes_of_all_links() {
        let dir = Dir::new();
        let (log, file) = (dir.path("log"), dir.disk("disk", 1 << 20));
        let to = format!("logfile={log}");
        let server = Server::nbdkit(&[
            "--filter=log",
            "--filter=delay",
            "file",
            &file,
            "wdelay=100ms",
            &to,
        ]);
        let disk = Disk::builder().connections(4);
        let disk = disk.open(Connector::unix(server.socket())).await.unwrap();
        let load = async {
            while disk.status().links < 4 {
                let reads = (0..256).map(|_| disk.read(0, 512).into_future());
                try_join_all(reads).await.unwrap();
            }
        };
        let patience = std::time::Duration::from_secs(60);
        tokio::time::timeout(patience, load)
            .await
            .expect("it opens no more links");
        let write = |at: u64| disk.write(at * 4096, vec![1; 4096]).into_future();
        // With two writes, a link is idle: over that one, a flush could be sent at once.
        for count in [64, 2] {
            // In one task: the flush is begun after the writes, and while they are on their way.
            let writes = try_join_all((0..count).map(write));
            let (writes, flush) = tokio::join!(writes, disk.flush().into_future());
            writes.unwrap();
            flush.unwrap();
        }
        disk.close().await.unwrap();
        let log = fs::read_to_string(&log).unwrap();
        let lines: Vec<&str> = log.lines().collect();
        let is = |word: &'static str| move |line: &&str| line.contains(word);
        let done: Vec<usize> = (lines.iter().enumerate())
            .filter(|(_, line)| is(" Flush ")(line))
            .map(|(at, _)| {
                lines[..at]
                    .iter()
                    .filter(|line| is(" ...Write ")(line))
                    .count()
            })
            .collect();
        assert_eq!(done, [64, 66], "{log}");
        let links: std::collections::BTreeSet<_> = (lines.iter())
            .filter(|line| line.contains(" ...Write "))
            .filter_map(|line| {
                line.split_whitespace()
                    .find(|word| word.starts_with("connection="))
            })
            .collect();
        assert_eq!(links.len(), 4, "{links:?}");
    }
}
