//! Servers that are killed and started again under a verified load.

use std::future::IntoFuture;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nbd_client::{Changes, Connection, Disk, Error, Event, Fence, Result, Retry};

use tokio::task::JoinHandle;

use super::wire::Proxy;
use crate::shared::process::{eventually, times};
use crate::shared::random::Random;
use crate::shared::server::Dir;

const TASKS: u64 = 8;
const REGION: u64 = 256 << 10;

/// nbdkit on a file, which can be started again.
pub(super) struct Restarted {
    dir: Dir,
    child: Option<Child>,
    /// What nbdkit is told besides the file.
    before: &'static [&'static str],
    after: &'static [&'static str],
    /// How many were started, and how many have ended and were reaped.
    started: Arc<AtomicU64>,
    reaped: Arc<AtomicU64>,
}

impl Restarted {
    /// Of `size` bytes; the first words go before the plugin, the others behind the file.
    pub(super) fn new(
        size: u64,
        before: &'static [&'static str],
        after: &'static [&'static str],
    ) -> Self {
        let dir = Dir::new();
        dir.disk("disk", size);
        Self {
            dir,
            child: None,
            before,
            after,
            started: Arc::default(),
            reaped: Arc::default(),
        }
    }

    pub(super) fn socket(&self) -> String {
        self.dir.path("socket")
    }

    pub(super) fn start(&mut self) {
        // A server that was killed leaves its socket.
        let _ = std::fs::remove_file(self.socket());
        let mut command = Command::new("nbdkit");
        command.args(["-f", "--exit-with-parent", "-U", &self.socket()]);
        command.args(self.before);
        command.args(["file", &self.dir.path("disk")]);
        command.args(self.after);
        self.child = Some(command.spawn().unwrap());
        self.started.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        let kill = Command::new("kill").args([signal, &pid]).status();
        assert!(kill.unwrap().success());
    }

    pub(super) fn end(&mut self, signal: &str) {
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
    pub(super) fn fence(&self) -> Fence {
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

/// The result of a request, which is made again if it was on three links that were lost. Of a change, the
/// same bytes pass.
async fn lasting<R: IntoFuture<Output = Result<T>>, T>(request: impl Fn() -> R) -> T {
    loop {
        match request().await {
            Ok(done) => return done,
            Err(Error::OutcomeUnknown(_) | Error::Disconnected(..)) => {}
            Err(error) => panic!("{error}"),
        }
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
                lasting(|| disk.write(offset, data.clone())).await;
                model[range].copy_from_slice(&data);
            }
            4 => {
                lasting(|| disk.write_zeroes(offset, length as u64)).await;
                model[range].fill(0);
            }
            5 => match disk.flush().await {
                // The system keeps what the server wrote, but the disk cannot know.
                Ok(()) | Err(Error::DurabilityUnknown(_) | Error::Disconnected(..)) => {}
                Err(error) => panic!("{error}"),
            },
            _ => {
                let found = lasting(|| disk.read(offset, length)).await;
                assert!(
                    found == model[range],
                    "{length} bytes at {offset} of task {task}"
                );
            }
        }
        done += 1;
    }
    let found = lasting(|| disk.read(task * REGION, REGION as usize)).await;
    assert!(found == model, "the region of task {task}");
    done
}

/// How a server is made to fail.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Kill,
    Term,
    /// The connections are cut, and the server lives.
    Cut,
    /// The server is stopped, and goes on after a while.
    Stop,
}

pub(super) const ALL: &[Way] = &[Way::Kill, Way::Term, Way::Cut, Way::Stop];

impl Restarted {
    pub(super) async fn fail(&mut self, way: Way, proxy: &Proxy) {
        match way {
            Way::Kill => self.end("-KILL"),
            Way::Term => self.end("-TERM"),
            Way::Cut => return proxy.cut(),
            Way::Stop => {
                self.signal("-STOP");
                tokio::time::sleep(Duration::from_millis(300)).await;
                return self.signal("-CONT");
            }
        }
        self.start();
    }

    /// Whoever waits for the fence of the last server gets on when that one is gone, too.
    pub(super) async fn end_until<T>(&mut self, tasks: &[JoinHandle<T>]) {
        let mut turns = 0;
        while !tasks.iter().all(JoinHandle::is_finished) {
            turns += 1;
            assert!(turns < 100, "it waits for ever");
            tokio::time::sleep(Duration::from_millis(300)).await;
            self.end("-KILL");
            self.start();
        }
    }
}

/// Lets a server fail so often, in these ways in turn, each second in a long run.
async fn restarts(links: usize, journal: bool, ways: &[Way], turns: u64) {
    let mut server = Restarted::new(TASKS * REGION, &[], &[]);
    server.start();
    let socket = server.socket();
    let proxy = Proxy::to(&socket).await;
    // A server that is stopped is noticed, and waited for.
    let link = Connection::builder().stall_timeout(Duration::from_millis(100));
    let mut disk = Disk::builder()
        .link(link)
        .drain(Duration::from_secs(60))
        .connections(links)
        // A server that is never up for long is looked for as often.
        .retry(Retry::default().most(Duration::from_millis(100)))
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
    // Long enough for the load to find its way back.
    let period = match times(1) {
        1 => Duration::from_millis(300),
        _ => Duration::from_secs(1),
    };
    for way in ways.iter().cycle().take(times(turns) as usize) {
        tokio::time::sleep(period).await;
        server.fail(*way, &proxy).await;
    }
    is_over.store(true, Ordering::Relaxed);
    server.end_until(&tasks).await;
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
    let turns = times(turns);
    println!(
        "reached: {ways:?} {turns} times on {links} links: {done} requests, {recovered} recoveries, \
         {stalled} stalls, no wrong byte"
    );
    assert!(recovered + stalled >= turns / 2, "{recovered} {stalled}");
    server.end("-KILL");
}

mod nbdkit {
    use super::*;

    /// A load that survives a server that fails in these ways, on one link and on four.
    macro_rules! survives {
        ($($name:ident: $journal:expr, $ways:expr, $turns:expr;)*) => {
            $(mod $name {
                use super::*;

                async fn one_link() {
                    restarts(1, $journal, $ways, $turns).await;
                }

                async fn four_links() {
                    restarts(4, $journal, $ways, $turns).await;
                }

                both_runtimes!(one_link);
                both_runtimes!(four_links);
            })*
        };
    }

    survives! {
        a_load_survives_restarts: false, ALL, 8;
        a_load_survives_restarts_with_a_journal: true, ALL, 8;
        a_load_survives_sigkill: true, &[Way::Kill], 2;
        a_load_survives_sigterm: true, &[Way::Term], 2;
        a_load_survives_sigstop: true, &[Way::Stop], 2;
        // What is fenced is fenced by the end of the server.
        a_load_survives_cuts: true, &[Way::Cut, Way::Kill], 2;
    }
}
