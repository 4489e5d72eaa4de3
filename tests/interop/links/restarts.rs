//! Servers that are killed and started again under a verified load.

use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nbd_client::{Changes, Connection, Disk, Error, Event, Fence};

use tokio::task::JoinHandle;

use super::wire::Proxy;
use crate::shared::process::{eventually, times};
use crate::shared::random::Random;
use crate::shared::server::Dir;

const TASKS: u64 = 8;
const REGION: u64 = 256 << 10;

/// nbdkit on a file, which can be started again.
struct Restarted {
    dir: Dir,
    child: Option<Child>,
    /// How many were started, and how many have ended and were reaped.
    started: Arc<AtomicU64>,
    reaped: Arc<AtomicU64>,
}

impl Restarted {
    fn new() -> Self {
        let dir = Dir::new();
        dir.disk("disk", TASKS * REGION);
        Self {
            dir,
            child: None,
            started: Arc::default(),
            reaped: Arc::default(),
        }
    }

    fn socket(&self) -> String {
        self.dir.path("socket")
    }

    fn start(&mut self) {
        // A server that was killed leaves its socket.
        let _ = std::fs::remove_file(self.socket());
        let mut command = Command::new("nbdkit");
        command.args(["-f", "--exit-with-parent", "-U", &self.socket()]);
        command.args(["file", &self.dir.path("disk")]);
        self.child = Some(command.spawn().unwrap());
        self.started.fetch_add(1, Ordering::SeqCst);
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        let kill = Command::new("kill").args([signal, &pid]).status();
        assert!(kill.unwrap().success());
    }

    fn end(&mut self, signal: &str) {
        self.signal(signal);
        let mut child = self.child.take().unwrap();
        // nbdkit may wait for its clients when it is asked to end.
        let patience = Instant::now() + Duration::from_secs(1);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > patience {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.reaped.fetch_add(1, Ordering::SeqCst);
    }

    /// The servers have no helpers and a file of their own: once one is reaped, nothing of it can
    /// land.
    fn fence(&self) -> Fence {
        let (started, reaped) = (self.started.clone(), self.reaped.clone());
        Fence::by(move |_| {
            let all = started.load(Ordering::SeqCst);
            let reaped = reaped.clone();
            async move {
                eventually("the server is gone", || {
                    reaped.load(Ordering::SeqCst) >= all
                })
                .await;
                Ok(())
            }
        })
    }
}

/// Writes and reads a region of its own, and knows what is in it.
async fn load(disk: Disk, task: u64, is_over: Arc<AtomicBool>) -> u64 {
    let mut random = Random::new(task + 1);
    let mut model = vec![0_u8; REGION as usize];
    let mut done = 0;
    while !is_over.load(Ordering::Relaxed) {
        let length = 512 * (1 + random.below(16)) as usize;
        let at = 512 * random.below((REGION - length as u64) / 512);
        let range = at as usize..at as usize + length;
        let offset = task * REGION + at;
        match random.below(8) {
            0..=3 => {
                let data = random.bytes(length);
                disk.write(offset, data.clone()).await.unwrap();
                model[range].copy_from_slice(&data);
            }
            4 => {
                disk.write_zeroes(offset, length as u64).await.unwrap();
                model[range].fill(0);
            }
            5 => match disk.flush().await {
                // The system keeps what the server wrote, but the disk cannot know.
                Ok(()) | Err(Error::DurabilityUnknown(_)) => {}
                Err(error) => panic!("{error}"),
            },
            _ => {
                let found = disk.read(offset, length).await.unwrap();
                assert!(
                    found == model[range],
                    "{length} bytes at {offset} of task {task}"
                );
            }
        }
        done += 1;
    }
    let found = disk.read(task * REGION, REGION as usize).await.unwrap();
    assert!(found == model, "the region of task {task}");
    done
}

async fn restarts(links: usize, journal: bool) {
    let mut server = Restarted::new();
    server.start();
    let socket = server.socket();
    let proxy = Proxy::to(&socket).await;
    // A server that is stopped is noticed, and waited for.
    let link = Connection::builder().stall_timeout(Duration::from_millis(100));
    let mut disk = Disk::builder()
        .link(link)
        .drain(Duration::from_secs(60))
        .connections(links)
        .retry_first(true)
        .changes(Changes::Repeat)
        .fence(server.fence());
    if journal {
        disk = disk.journal(1 << 20);
    }
    let disk = disk.open(proxy.connector()).await.unwrap();
    let mut events = disk.events();
    let is_over = Arc::new(AtomicBool::new(false));
    let tasks = (0..TASKS).map(|task| tokio::spawn(load(disk.clone(), task, is_over.clone())));
    let tasks: Vec<_> = tasks.collect();
    for turn in 0..times(8) {
        // Long enough for the load to find its way back.
        tokio::time::sleep(Duration::from_millis(300)).await;
        match turn % 4 {
            0 => server.end("-KILL"),
            1 => server.end("-TERM"),
            2 => {
                proxy.cut();
                continue;
            }
            _ => {
                server.signal("-STOP");
                tokio::time::sleep(Duration::from_millis(300)).await;
                server.signal("-CONT");
                continue;
            }
        }
        server.start();
    }
    is_over.store(true, Ordering::Relaxed);
    // Whoever waits for the fence of the last server gets on when that one is gone, too.
    let mut turns = 0;
    while !tasks.iter().all(JoinHandle::is_finished) {
        turns += 1;
        assert!(turns < 100, "it waits for ever");
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.end("-KILL");
        server.start();
    }
    let mut done = 0;
    for task in tasks {
        done += task.await.unwrap();
    }
    // The server may have been killed since.
    let _ = disk.close().await;
    let (mut recovered, mut stalled) = (0, 0);
    while let Some(event) = futures::StreamExt::next(&mut events).await {
        recovered += u64::from(matches!(event, Event::Recovered { .. }));
        stalled += u64::from(matches!(event, Event::Stalled { .. }));
    }
    println!("{done} requests, {recovered} recoveries, {stalled} stalls");
    assert!(recovered >= 3, "{recovered}");
    server.end("-KILL");
}

mod nbdkit {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_load_survives_restarts_on_one_link() {
        restarts(1, false).await;
    }

    #[tokio::test]
    async fn a_load_survives_restarts_on_one_link_with_a_journal() {
        restarts(1, true).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_load_survives_restarts_on_four_links() {
        restarts(4, true).await;
    }
}
