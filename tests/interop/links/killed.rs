//! A client with a disk that is killed: its servers end with it.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use nbd_client::{Changes, Connector, Disk, Retry};
use tokio::task::JoinSet;

use crate::shared::process::{again, eventually, has_ended, is_alone, times};
use crate::shared::random::Random;
use crate::shared::server::Dir;

/// Runs what it is given, and writes down first which process that is.
const SHELL: &str = "echo $$ >> $NBD_TEST_PIDS; exec \"$@\"";

/// The processes that were servers, the newest one last.
fn servers(pids: &str) -> Vec<u32> {
    let text = std::fs::read_to_string(pids).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Loads a disk whose child has been replaced once, and prints a line for every few requests, for
/// ever.
async fn be_killed(pids: &str) {
    let is_command = std::env::var("NBD_TEST_WAY").unwrap() == "command";
    let server: &[&str] = match is_command {
        true => &["-s"],
        false => &["-f", "--exit-with-parent"],
    };
    let words = ["sh", "-c", SHELL, "sh", "nbdkit"];
    let words: Vec<_> = words
        .iter()
        .chain(server)
        .chain(&["memory", "16M"])
        .collect();
    let words: Vec<String> = words.into_iter().map(|word| (*word).to_owned()).collect();
    let connector = match is_command {
        true => Connector::command(words),
        false => Connector::socket_activation(words),
    };
    let retry = Retry::default().most(Duration::from_millis(10));
    let disk = Disk::builder().connections(4).changes(Changes::Repeat);
    let disk = disk.retry(retry).open(connector).await.unwrap();
    let first = servers(pids)[0].to_string();
    let mut kill = std::process::Command::new("kill");
    assert!(kill.args(["-KILL", &first]).status().unwrap().success());
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let disk = disk.clone();
        tasks.spawn(async move {
            loop {
                for block in 0..4 {
                    let offset = (task * 4 + block) << 18;
                    disk.write(offset, vec![1; 1 << 18]).await.unwrap();
                    disk.read(offset, 1 << 18).await.unwrap();
                }
                println!("busy");
            }
        });
    }
    tasks.join_all().await;
}

mod nbdkit {
    use super::*;

    const VICTIM: &str =
        "links::killed::nbdkit::a_client_that_is_killed_leaves_no_server_of_its_disk";

    #[tokio::test]
    async fn a_client_that_is_killed_leaves_no_server_of_its_disk() {
        if is_alone() {
            be_killed(&std::env::var("NBD_TEST_PIDS").unwrap()).await;
        }
        let cycles = times(6);
        let mut random = Random::new(51);
        let dir = Dir::new();
        let (temporary, pids) = (dir.path("tmp"), dir.path("pids"));
        std::fs::create_dir(&temporary).unwrap();
        for cycle in 0..cycles {
            let _ = std::fs::remove_file(&pids);
            let way = ["command", "activation"][cycle as usize % 2];
            let mut client = again(&[], VICTIM)
                .env("NBD_TEST_WAY", way)
                .env("NBD_TEST_PIDS", &pids)
                .env("TMPDIR", &temporary)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(client.stdout.take().unwrap())
                .lines()
                .map(Result::unwrap);
            for _ in 0..=random.below(20) {
                lines.find(|line| line.contains("busy")).unwrap();
            }
            client.kill().unwrap();
            client.wait().unwrap();
            let servers = servers(&pids);
            assert_eq!(servers.len(), 2, "the first was replaced");
            for server in servers {
                eventually("the server has ended", || has_ended(server)).await;
            }
            // No socket, and no directory that was made for one.
            assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
        }
        println!("reached: {cycles} clients killed, by command and by socket activation");
    }
}
