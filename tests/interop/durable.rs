//! What must be on a disk when its server was killed, and what may be.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use nbd_client::{Connection, ErrorKind};
use tokio::task::JoinSet;

use crate::shared::random::Random;
use crate::shared::server::{Dir, Server};

/// What a server writes as a whole or not at all: a page.
const UNIT: usize = 4096;
/// The largest write is of so many.
const MOST: u64 = 64;
/// Units of one task.
const UNITS: u64 = 256;
const TASKS: u64 = 8;

/// How large the disk is, in bytes.
pub(crate) const SIZE: u64 = TASKS * UNITS * UNIT as u64;

/// The versions of one unit. Each write is a version of its own, in all units that it covers.
#[derive(Clone, Copy, Default)]
struct Versions {
    /// No older one may be found.
    durable: u64,
    /// The last that was acknowledged.
    acknowledged: u64,
    /// The last that was sent, or is about to be.
    newest: u64,
}

/// What is known of the disk.
struct Model {
    units: Vec<Versions>,
    /// The last version there is.
    version: u64,
    /// Units of which an acknowledged version was lost.
    lost: u64,
}

/// The disk, from one server to the next.
pub(crate) struct Disk {
    model: Arc<Mutex<Model>>,
    random: Random,
}

impl Disk {
    /// A disk of zeroes: version 0 of everything.
    pub(crate) fn new(random: Random) -> Self {
        let units = vec![Versions::default(); (TASKS * UNITS) as usize];
        let model = Model {
            units,
            version: 0,
            lost: 0,
        };
        Self {
            model: Arc::new(Mutex::new(model)),
            random,
        }
    }

    /// Kills a server this often while it is busy, and each time looks at what is left of it.
    pub(crate) async fn survive(&mut self, cycles: u64, start: impl Fn(&str) -> Server) -> u64 {
        let dir = Dir::new();
        let disk = dir.disk("disk", SIZE);
        for cycle in 0..cycles {
            let server = start(&disk);
            self.check(&server, cycle).await;
            self.work_until_killed(server).await;
        }
        self.check(&start(&disk), cycles).await;
        self.model().lost
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    /// Reads all of it. What is found is what counts from now on.
    async fn check(&self, server: &Server, cycle: u64) {
        let conn = server.client().build();
        conn.connect_unix(server.socket()).await.unwrap();
        let data = conn.read(0, SIZE as usize).await.unwrap();
        conn.disconnect().await.unwrap();
        let mut model = self.model();
        for (unit, page) in data.chunks(UNIT).enumerate() {
            let found = version(unit as u64, page)
                .unwrap_or_else(|| panic!("cycle {cycle}: unit {unit} is torn"));
            let known = &mut model.units[unit];
            assert!(
                (known.durable..=known.newest).contains(&found),
                "cycle {cycle}: unit {unit} has version {found}, not {} to {}",
                known.durable,
                known.newest
            );
            let lost = found < known.acknowledged;
            *known = Versions {
                durable: found,
                acknowledged: found,
                newest: found,
            };
            model.lost += u64::from(lost);
        }
    }

    /// Eight tasks on one connection, until one of them kills the server.
    async fn work_until_killed(&mut self, server: Server) {
        let conn = server.client().build();
        conn.connect_unix(server.socket()).await.unwrap();
        let fuse = Arc::new(Mutex::new(Fuse {
            left: self.random.below(150),
            server: Some(server),
        }));
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let mut worker = Worker {
                conn: conn.clone(),
                model: self.model.clone(),
                random: self.random.fork(),
                units: task * UNITS..(task + 1) * UNITS,
            };
            let fuse = fuse.clone();
            tasks.spawn(async move {
                let error = loop {
                    match worker.step().await {
                        Ok(()) => fuse.lock().unwrap().burn(),
                        Err(error) => break error,
                    }
                };
                assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
            });
        }
        tasks.join_all().await;
    }
}

/// Kills the server after so many more requests.
struct Fuse {
    left: u64,
    server: Option<Server>,
}

impl Fuse {
    fn burn(&mut self) {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            // It is killed when it is dropped.
            None => drop(self.server.take()),
        }
    }
}

/// One task, with a part of the disk to itself.
struct Worker {
    conn: Connection,
    model: Arc<Mutex<Model>>,
    random: Random,
    units: Range<u64>,
}

impl Worker {
    async fn step(&mut self) -> nbd_client::Result<()> {
        let first = self.units.start + self.random.below(UNITS);
        let most = MOST.min(self.units.end - first);
        let units = first..first + 1 + self.random.below(most);
        match self.random.below(16) {
            0 => self.flush().await,
            1 => self.write(units, true).await,
            2..6 => self.read(units).await,
            _ => self.write(units, false).await,
        }
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    async fn write(&self, units: Range<u64>, fua: bool) -> nbd_client::Result<()> {
        let covered = units.start as usize..units.end as usize;
        let version = {
            let mut model = self.model();
            model.version += 1;
            let version = model.version;
            for unit in &mut model.units[covered.clone()] {
                unit.newest = version;
            }
            version
        };
        let offset = units.start * UNIT as u64;
        let pages: Vec<_> = units.map(|unit| page(unit, version)).collect();
        let write = self.conn.write(offset, pages.concat());
        if fua { write.fua().await } else { write.await }?;
        for unit in &mut self.model().units[covered] {
            unit.acknowledged = version;
            if fua {
                unit.durable = version;
            }
        }
        Ok(())
    }

    async fn read(&self, units: Range<u64>) -> nbd_client::Result<()> {
        let length = (units.end - units.start) as usize * UNIT;
        let data = self.conn.read(units.start * UNIT as u64, length).await?;
        let model = self.model();
        for (unit, page) in units.zip(data.chunks(UNIT)) {
            // Nobody else writes here, and nothing of ours is on its way.
            let expected = model.units[unit as usize].acknowledged;
            assert_eq!(version(unit, page), Some(expected), "unit {unit}");
        }
        Ok(())
    }

    /// A flush is for whatever was acknowledged before it was sent, to any task.
    async fn flush(&self) -> nbd_client::Result<()> {
        let before = self.model().units.clone();
        self.conn.flush().await?;
        for (unit, before) in self.model().units.iter_mut().zip(before) {
            unit.durable = unit.durable.max(before.acknowledged);
        }
        Ok(())
    }
}

/// What a version of a unit looks like: it says so every 32 bytes. Version 0 is zeroes.
fn page(unit: u64, version: u64) -> Vec<u8> {
    let words = match version {
        0 => [0; 4],
        _ => [version, unit, !version, !unit],
    };
    words.map(u64::to_be_bytes).concat().repeat(UNIT / 32)
}

/// Which version of a unit this is, if it is one from its beginning to its end.
fn version(unit: u64, found: &[u8]) -> Option<u64> {
    let version = u64::from_be_bytes(found[..8].try_into().unwrap());
    (found == page(unit, version)).then_some(version)
}
