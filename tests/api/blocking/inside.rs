//! Calls inside a Tokio runtime.

use std::future::poll_fn;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::task::Poll;

use nbd_client::blocking::Disk;
use nbd_client::testing::{Export, Server};
use nbd_client::{Connection, Error, InvalidRequest, InvalidUse, Result, context};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{LocalSet, block_in_place, spawn_blocking, unconstrained};

use crate::shared::process::in_a_process_of_its_own;
use crate::support::*;

use super::{open, open_with_extents, way_to, within};

fn runtimes() -> [Runtime; 2] {
    [
        Builder::new_current_thread().enable_all().build().unwrap(),
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap(),
    ]
}

/// The call that was refused, and its twin.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>) -> (&'static str, &'static str) {
    match result {
        Err(Error::InvalidUse(InvalidUse::InRuntime { call, twin })) => (call, twin),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused_io<T>(result: io::Result<T>) -> (&'static str, &'static str) {
    let error = result.map(drop).unwrap_err();
    let error = error.get_ref().unwrap().downcast_ref::<Error>();
    refused::<()>(Err(error.unwrap().clone()))
}

/// Makes every call where none may wait.
fn all_are_refused(disk: &Disk, server: &Server) {
    let mut buf = [7; 512];
    let mut extents = disk.extents(context::BASE_ALLOCATION, ..);
    let mut cursor = disk.cursor();
    let refusals = [
        refused_io(cursor.read(&mut buf)),
        refused_io(cursor.fill_buf().map(drop)),
        refused_io(cursor.write(&[1; 512])),
        refused_io(cursor.flush()),
        refused_io(cursor.seek(SeekFrom::Start(1))),
        refused_io(cursor.sync_all()),
        refused(disk.read_at(&mut buf, 0)),
        refused(disk.read_exact_at(&mut buf, 0)),
        refused(disk.write_at(&[1; 512], 0)),
        refused(disk.write_all_at(&[1; 512], 0)),
        refused(disk.flush()),
        refused(disk.trim(0, 512)),
        refused(disk.write_zeroes(0, 512)),
        refused(disk.cache(0, 512)),
        refused(disk.request(disk.client().read(0, 512))),
        refused(disk.settled()),
        refused(disk.ping()),
        refused(extents.next().unwrap()),
        refused(disk.close()),
        refused(Disk::open(way_to(server))),
    ];
    assert!(extents.next().is_none());
    assert_eq!(buf, [7; 512]);
    let expected = [
        ("Cursor::read", "AsyncReadExt::read"),
        ("Cursor::fill_buf", "AsyncBufReadExt::fill_buf"),
        ("Cursor::write", "AsyncWriteExt::write"),
        ("Cursor::flush", "AsyncWriteExt::flush"),
        ("Cursor::seek", "AsyncSeekExt::seek"),
        ("Cursor::sync_all", "AsyncWriteExt::shutdown"),
        ("Disk::read_at", "Disk::read"),
        ("Disk::read_exact_at", "Disk::read"),
        ("Disk::write_at", "Disk::write"),
        ("Disk::write_all_at", "Disk::write"),
        ("Disk::flush", "Disk::flush"),
        ("Disk::trim", "Disk::trim"),
        ("Disk::write_zeroes", "Disk::write_zeroes"),
        ("Disk::cache", "Disk::cache"),
        ("Disk::request", "Request"),
        ("Disk::settled", "Disk::settled"),
        ("Disk::ping", "Disk::ping"),
        ("Items::next", "StreamExt::next"),
        ("Disk::close", "Disk::close"),
        ("Disk::open", "Disk::open"),
    ];
    assert_eq!(refusals, expected);
}

/// Polls until the budget of the task is used up, and then goes on.
async fn goes_on() {
    for _ in 0..300 {
        tokio::task::coop::consume_budget().await;
    }
    tokio::time::sleep(std::time::Duration::ZERO).await;
}

#[test]
fn in_async_code_every_call_is_an_error_that_names_the_twin() {
    within(|| {
        let export = Export::new(1 << 20);
        let server = Server::new(export.clone());
        let disk = open_with_extents(&server);
        for runtime in runtimes() {
            runtime.block_on(async {
                all_are_refused(&disk, &server);
                goes_on().await;
                let (disk, server) = (disk.clone(), server.clone());
                let task = tokio::spawn(async move {
                    // Between two awaits as well.
                    tokio::task::yield_now().await;
                    all_are_refused(&disk, &server);
                    goes_on().await;
                });
                task.await.unwrap();
            });
            let local = LocalSet::new();
            local.block_on(&runtime, async {
                let (disk, server) = (disk.clone(), server.clone());
                let task = tokio::task::spawn_local(async move {
                    all_are_refused(&disk, &server);
                });
                task.await.unwrap();
            });
        }
        // Nothing was done.
        disk.read_at(&mut [0; 512], 0).unwrap();
        assert_eq!(export.contents(0, 512), [0; 512]);
    });
}

#[test]
fn a_refusal_is_no_panic() {
    let name = "blocking::inside::a_refusal_is_no_panic";
    if in_a_process_of_its_own(name) {
        return;
    }
    let server = Server::new(Export::new(1 << 20));
    let disk = open_with_extents(&server);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| std::process::exit(9)));
    for runtime in runtimes() {
        runtime.block_on(async { all_are_refused(&disk, &server) });
    }
    std::panic::set_hook(usual);
}

#[test]
fn a_task_without_a_budget_is_found_out_as_well() {
    within(|| {
        let server = Server::new(Export::new(1 << 20));
        let disk = open_with_extents(&server);
        for runtime in runtimes() {
            runtime.block_on(unconstrained(async {
                all_are_refused(&disk, &server);
                let (disk, server) = (disk.clone(), server.clone());
                let task = tokio::spawn(unconstrained(async move {
                    all_are_refused(&disk, &server);
                }));
                task.await.unwrap();
            }));
        }
    });
}

/// Makes calls where they may wait.
fn all_work(disk: &Disk, server: &Server) {
    disk.write_all_at(&[1; 512], 0).unwrap();
    let mut buf = [0; 512];
    disk.read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(buf, [1; 512]);
    disk.flush().unwrap();
    let extents = disk.extents(context::BASE_ALLOCATION, ..);
    assert!(extents.map(Result::unwrap).count() > 0);
    let mut cursor = disk.cursor();
    cursor.write_all(&[2; 100]).unwrap();
    cursor.rewind().unwrap();
    cursor.read_exact(&mut buf).unwrap();
    assert_eq!(buf[..101], [[2].repeat(100), vec![1]].concat());
    cursor.sync_all().unwrap();
    let another = open(server);
    another.read_exact_at(&mut buf, 0).unwrap();
    another.close().unwrap();
}

#[test]
fn on_threads_for_blocking_code_calls_work() {
    within(|| {
        let server = Server::new(Export::new(1 << 20));
        let disk = open_with_extents(&server);
        for runtime in runtimes() {
            runtime.block_on(async {
                for _ in 0..3 {
                    let (disk, server) = (disk.clone(), server.clone());
                    let work = spawn_blocking(move || {
                        all_work(&disk, &server);
                        // A runtime within is one again.
                        Handle::current().block_on(async { all_are_refused(&disk, &server) });
                        all_work(&disk, &server);
                    });
                    work.await.unwrap();
                }
            });
            // A thread that has only entered the runtime.
            let _inside = runtime.enter();
            all_work(&disk, &server);
        }
    });
}

#[test]
fn in_block_in_place_calls_work() {
    within(|| {
        let server = Server::new(Export::new(1 << 20));
        let disk = open_with_extents(&server);
        let [_, runtime] = runtimes();
        runtime.block_on(async {
            block_in_place(|| all_work(&disk, &server));
            all_are_refused(&disk, &server);
            let task = tokio::spawn(async move {
                block_in_place(|| all_work(&disk, &server));
                all_are_refused(&disk, &server);
            });
            task.await.unwrap();
        });
    });
}

#[test]
fn the_connection_of_an_async_program_can_be_a_disk() {
    within(|| {
        let export = Export::new(1 << 20);
        let server = Server::new(export.clone());
        for runtime in runtimes() {
            runtime.block_on(async {
                let conn = Connection::new();
                conn.connect_stream(server.connect()).await.unwrap();
                let disk = Disk::new(conn.clone()).unwrap();
                let work = spawn_blocking(move || {
                    disk.write_all_at(b"hello", 511).unwrap();
                });
                work.await.unwrap();
                assert_eq!(&conn.read(511, 5).await.unwrap()[..], b"hello");
                conn.disconnect().await.unwrap();
            });
            export.fill(0, 1 << 20, 0);
        }
    });
}

#[test]
fn a_disk_whose_runtime_has_gone_fails() {
    within(|| {
        for runtime in runtimes() {
            let server = Server::new(Export::new(1 << 20));
            let conn = runtime.block_on(async {
                let conn = Connection::new();
                conn.connect_stream(server.connect()).await.unwrap();
                conn
            });
            let disk = Disk::new(conn).unwrap();
            server.pause();
            let reader = disk.clone();
            let reading = std::thread::spawn(move || reader.read_at(&mut [0; 512], 0));
            runtime.block_on(server.held(1));
            drop(runtime);
            assert_matches!(reading.join().unwrap(), Err(Error::Disconnected(..)));
            assert_matches!(disk.flush(), Err(Error::Disconnected(..)));
        }
    });
}

#[test]
fn disks_can_be_dropped_anywhere() {
    within(|| {
        for runtime in runtimes() {
            let server = Server::new(Export::new(1 << 20));
            let disks = [(); 3].map(|()| open_with_extents(&server));
            let extents = disks[0].extents(context::BASE_ALLOCATION, ..);
            runtime.block_on(async {
                let [first, second, third] = disks;
                drop(first);
                drop(extents);
                tokio::spawn(async move { drop(second) }).await.unwrap();
                let mut third = Some(third);
                poll_fn(|_| {
                    third = None;
                    Poll::Ready(())
                })
                .await;
                server.connected(0).await;
            });
        }
    });
}

#[tokio::test]
async fn a_connection_that_negotiates_is_not_ready() {
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::builder().opt_mode(true).build();
    conn.connect_stream(server.connect()).await.unwrap();
    // What the server says now may not hold when the export is entered.
    assert_eq!(conn.opt_info().await.unwrap().size(), 1 << 20);
    let error = Disk::new(conn.clone()).map(drop).unwrap_err();
    assert_matches!(
        error,
        Error::Invalid(InvalidRequest::State {
            needed: "ready",
            ..
        })
    );
    assert!(conn.cursor().size().is_err());
    conn.opt_go().await.unwrap();
    assert_eq!(Disk::new(conn).unwrap().size(), 1 << 20);
}
