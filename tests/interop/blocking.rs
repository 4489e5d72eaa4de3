//! Disks for programs that are not async.

use std::fs;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::symlink;
use std::sync::Barrier;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use nbd_client::blocking::Disk;
use nbd_client::{Changes, Connection, Connector, DiskBuilder, Error, Retry, context};

use crate::shared::random::Random;
use crate::shared::server::{Dir, Server};

/// Calls that wait for longer than that hang.
const PATIENCE: Duration = Duration::from_secs(60);
const THREADS: usize = 4;

/// A disk over connections with extents.
fn options() -> DiskBuilder {
    let link = Connection::builder().meta_context(context::BASE_ALLOCATION);
    nbd_client::Disk::builder().link(link)
}

pub(crate) fn open(server: &Server) -> Disk {
    let disk = Disk::open_with(options(), Connector::unix(server.socket()));
    disk.unwrap().timeout(PATIENCE)
}

/// Uses an export of 16 MiB that is empty at first.
pub(crate) fn is_a_disk(disk: &Disk) {
    let mut random = Random::new(31);
    let data = random.bytes(100_001);
    disk.write_all_at(&data, 1 << 20).unwrap();
    disk.write_zeroes((1 << 20) + 5, 3).unwrap();
    let mut read = vec![0; data.len()];
    disk.read_exact_at(&mut read, 1 << 20).unwrap();
    let mut model = data;
    model[5..8].fill(0);
    assert!(read == model);
    disk.flush().unwrap();

    let extents = disk.extents(context::BASE_ALLOCATION, ..);
    let extents: Vec<_> = extents.map(Result::unwrap).collect();
    assert!(extents[0].is_hole() && extents[0].length <= 1 << 20);
    assert!(extents.iter().any(|extent| !extent.is_hole()));

    let mut cursor = disk.cursor().range(1 << 20..).write_behind(1 << 20);
    read.clear();
    Read::by_ref(&mut cursor)
        .take(100_001)
        .read_to_end(&mut read)
        .unwrap();
    assert!(read == model);
    cursor.rewind().unwrap();
    for byte in 0..10_000u32 {
        cursor.write_all(&[byte as u8]).unwrap();
    }
    cursor.sync_all().unwrap();
    disk.read_exact_at(&mut read[..10_000], 1 << 20).unwrap();
    assert!((0..10_000).all(|at| read[at] == at as u8));
    disk.close().unwrap();
}

/// Kills a server while threads read, write and flush.
pub(crate) fn calls_end_when_the_server_is_killed(server: Server) {
    let options = options().retry(Retry::never());
    let disk = Disk::open_with(options, Connector::unix(server.socket())).unwrap();
    let disk = disk.timeout(PATIENCE);
    let busy = Barrier::new(THREADS + 1);
    thread::scope(|scope| {
        let working: Vec<_> = (0..THREADS)
            .map(|number| {
                let (disk, busy) = (&disk, &busy);
                scope.spawn(move || {
                    let mut buf = vec![1; 65536];
                    let offset = (number as u64) << 20;
                    for round in 0.. {
                        if round == 10 {
                            busy.wait();
                        }
                        let result = disk
                            .write_all_at(&buf, offset)
                            .and_then(|()| disk.read_exact_at(&mut buf, offset))
                            .and_then(|()| disk.flush());
                        if let Err(error) = result {
                            assert!(round >= 10);
                            return error;
                        }
                    }
                    unreachable!()
                })
            })
            .collect();
        busy.wait();
        drop(server);
        for working in working {
            let error = working.join().unwrap();
            let is_lost = matches!(error, Error::Disconnected(..) | Error::OutcomeUnknown(_));
            assert!(is_lost, "{error}");
        }
    });
    let error = disk.read_at(&mut [0; 512], 0).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(disk.close().is_err());
}

/// The bytes that each thread writes, and how many at a time.
const REGION: usize = 2 << 20;
const BLOCK: usize = 8 << 10;

/// Writes a region from its start to its end and reads what it wrote; no byte is written twice.
fn fill(disk: &Disk, number: usize, progress: &Sender<()>) -> Vec<u8> {
    let start = (number * REGION) as u64;
    let mut random = Random::new(number as u64 + 1);
    let mut model = Vec::new();
    let mut read = [0; BLOCK];
    while model.len() < REGION {
        let data = random.bytes(BLOCK);
        disk.write_all_at(&data, start + model.len() as u64)
            .unwrap();
        model.extend(data);
        let at = random.below((model.len() - BLOCK + 1) as u64);
        disk.read_exact_at(&mut read, start + at).unwrap();
        assert!(model[at as usize..].starts_with(&read));
        match disk.flush() {
            // The system keeps what the server wrote, but the disk cannot know.
            Ok(()) | Err(Error::DurabilityUnknown(_)) => {}
            Err(error) => panic!("{error}"),
        }
        progress.send(()).unwrap();
    }
    model
}

/// Kills a server and starts it again while threads write, read and flush: `start` starts it on a
/// file of 16 MiB.
pub(crate) fn calls_survive_restarts(start: fn(&str) -> Server) {
    let dir = Dir::new();
    let file = dir.disk("disk", 16 << 20);
    let place = dir.path("socket");
    let begin = || {
        let server = start(&file);
        let _ = fs::remove_file(&place);
        symlink(server.socket(), &place).unwrap();
        server
    };
    let mut server = Some(begin());
    let options = options().changes(Changes::Repeat);
    let disk = Disk::open_with(options, Connector::unix(&place)).unwrap();
    let disk = disk.timeout(PATIENCE);
    let mut model = thread::scope(|scope| {
        let (progress, steps) = mpsc::channel();
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let (disk, progress) = (&disk, progress.clone());
                scope.spawn(move || fill(disk, number, &progress))
            })
            .collect();
        drop(progress);
        for _ in 0..3 {
            assert!(steps.iter().take(200).count() == 200);
            drop(server.take());
            server = Some(begin());
        }
        let whole = threads.into_iter().map(|thread| thread.join().unwrap());
        whole.collect::<Vec<_>>().concat()
    });
    assert!(disk.client().status().generation >= 4);

    // A cursor and extents go on as well.
    model.resize(16 << 20, 0);
    let mut cursor = disk.cursor();
    let mut read = vec![0; 1 << 20];
    cursor.read_exact(&mut read).unwrap();
    let mut extents = disk.extents(context::BASE_ALLOCATION, ..);
    let first = extents.next().unwrap().unwrap();
    drop(server);
    let _server = begin();
    cursor.read_to_end(&mut read).unwrap();
    assert!(read == model);
    let end = extents.map(Result::unwrap).last().unwrap_or(first).end();
    assert_eq!(end, 16 << 20);
    disk.close().unwrap();
}
