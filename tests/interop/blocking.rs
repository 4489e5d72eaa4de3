//! Disks for programs that are not async.

use std::io::{Read, Seek, Write};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use nbd_client::blocking::Disk;
use nbd_client::{Connection, Connector, Error, context};

use crate::shared::random::Random;
use crate::shared::server::Server;

/// Calls that wait for longer than that hang.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn open(server: &Server) -> Disk {
    let options = Connection::builder().meta_context(context::BASE_ALLOCATION);
    let disk = Disk::open_with(&options, Connector::unix(server.socket()));
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
    const THREADS: usize = 4;
    let disk = open(&server);
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
            assert!(matches!(error, Error::Disconnected(..)), "{error}");
        }
    });
    let error = disk.read_at(&mut [0; 512], 0).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(disk.close().is_err());
}
