//! The end of a thread, and of the process.

use std::cell::RefCell;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::blocking::Disk;
use nbd_client::testing::{Export, Server};
use nbd_client::{Error, InvalidUse};

use super::{open, within};
use crate::shared::process::{again, is_alone};
use crate::support::*;

/// Flushes when its thread ends.
struct Flushed(Disk, std::sync::mpsc::Sender<nbd_client::Result<()>>);

impl Drop for Flushed {
    fn drop(&mut self) {
        let _ = self.1.send(self.0.flush());
    }
}

thread_local! {
    static BEFORE: RefCell<Option<Flushed>> = const { RefCell::new(None) };
    static AFTER: RefCell<Option<Flushed>> = const { RefCell::new(None) };
}

#[test]
fn destructors_of_a_thread_get_an_answer() {
    within(|| {
        let server = Server::new(Export::new(1 << 20));
        let disk = open(&server);
        let (sender, results) = std::sync::mpsc::channel();
        let keep = move |disk: &Disk| Some(Flushed(disk.clone(), sender.clone()));
        let ending = thread::spawn(move || {
            BEFORE.set(keep(&disk));
            disk.flush().unwrap();
            AFTER.set(keep(&disk));
        });
        ending.join().unwrap();
        for result in results {
            // Whether Tokio still works there depends on the order of the destructors.
            if result.is_err() {
                assert_matches!(result, Err(Error::InvalidUse(InvalidUse::NoRuntime(_))));
            }
        }
    });
}

/// Leaves a disk idle, and one with a call under way that is never answered.
fn leave_disks_open() {
    let server = Server::new(Export::new(1 << 20));
    let idle = open(&server);
    idle.write_all_at(&[1; 512], 0).unwrap();
    let busy = open(&server);
    server.pause();
    thread::spawn(move || busy.read_at(&mut [0; 512], 0));
    block_on(server.held(1));
    std::mem::forget(idle);
}

/// Waits for the end of a process.
fn ends(mut child: Child) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the process does not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_process_ends_with_open_disks() {
    if is_alone() {
        return leave_disks_open();
    }
    let name = "blocking::end::a_process_ends_with_open_disks";
    let child = again(&[], name).spawn().unwrap();
    assert_eq!(ends(child), Some(0));
}

#[test]
fn a_process_exits_with_open_disks() {
    if is_alone() {
        leave_disks_open();
        std::process::exit(7);
    }
    let name = "blocking::end::a_process_exits_with_open_disks";
    let child = again(&[], name).spawn().unwrap();
    assert_eq!(ends(child), Some(7));
}
