//! Many threads.

use std::sync::Barrier;
use std::thread;

use nbd_client::Error;
use nbd_client::testing::{Export, Server};

use super::{open, open_once, within};
use crate::shared::random::Random;
use crate::support::*;

const THREADS: usize = 8;

#[test]
fn threads_share_a_disk_and_see_their_own_data() {
    within(|| {
        let server = Server::new(Export::new(1 << 20));
        let disk = open(&server);
        let start = Barrier::new(THREADS);
        let mut random = Random::new(17);
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (disk, start, mut random) = (&disk, &start, random.fork());
                scope.spawn(move || {
                    let (base, room) = (number << 17, 1 << 17);
                    let mut model = vec![0; room];
                    start.wait();
                    for _ in 0..200 {
                        let length = random.below(5000) as usize;
                        let at = random.below((room - length) as u64) as usize;
                        let data = random.bytes(length);
                        disk.write_all_at(&data, (base + at) as u64).unwrap();
                        model[at..at + length].copy_from_slice(&data);
                    }
                    disk.flush().unwrap();
                    let mut read = vec![0; room];
                    disk.read_exact_at(&mut read, base as u64).unwrap();
                    assert!(read == model, "thread {number}");
                });
            }
        });
    });
}

#[test]
fn calls_of_several_threads_are_under_way_at_the_same_time() {
    within(|| {
        let server = Server::new(Export::new(1 << 20));
        let disk = open(&server);
        server.pause();
        thread::scope(|scope| {
            let reading: Vec<_> = (0..THREADS)
                .map(|_| scope.spawn(|| disk.clone().read_at(&mut [0; 512], 0)))
                .collect();
            block_on(server.held(THREADS));
            server.resume();
            for reading in reading {
                assert_eq!(reading.join().unwrap().unwrap(), 512);
            }
        });
    });
}

#[test]
fn disks_are_opened_by_many_threads_at_once() {
    within(|| {
        let server = Server::new(Export::new(1 << 20));
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    let disk = open(&server);
                    disk.read_at(&mut [0; 512], 0).unwrap();
                });
            }
        });
        block_on(server.connected(0));
    });
}

#[test]
fn a_call_goes_on_when_other_handles_are_dropped() {
    within(|| {
        let server = Server::new(Export::new(1 << 20));
        let disk = open(&server);
        let reader = disk.clone();
        server.pause();
        let reading = thread::spawn(move || reader.read_at(&mut [0; 512], 0));
        block_on(server.held(1));
        drop(disk);
        assert!(!reading.is_finished());
        server.resume();
        assert_eq!(reading.join().unwrap().unwrap(), 512);
        block_on(server.connected(0));
    });
}

#[test]
fn calls_that_wait_end_with_their_connection() {
    within(|| {
        let server = Server::new(Export::new(1 << 20));
        let disk = open_once(&server);
        server.pause();
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..THREADS)
                .map(|_| scope.spawn(|| disk.write_all_at(&[1; 512], 0)))
                .collect();
            block_on(server.held(1));
            server.hang_up();
            for waiting in waiting {
                // One was sent.
                assert_matches!(
                    waiting.join().unwrap(),
                    Err(Error::Disconnected(..) | Error::OutcomeUnknown(_))
                );
            }
        });
    });
}
