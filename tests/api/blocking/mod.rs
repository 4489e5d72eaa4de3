//! Disks for programs that are not async.

mod cursors;
mod end;
mod inside;
mod threads;

use std::io::Read;
use std::slice::from_ref;
use std::time::Duration;

use nbd_client::blocking::Disk;
use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Command, CommandFlags, Errno};
use nbd_client::{
    Changes, Client, Connection, Disk as AsyncDisk, Error, InvalidRequest, InvalidUse, Phase,
    Retry, context,
};
use tokio::runtime::Runtime;

use crate::shared::in_process::way_to;
use crate::shared::watchdog::within;
use crate::support::*;

fn open(server: &Server) -> Disk {
    Disk::open(way_to(server)).unwrap()
}

/// A disk that has extents.
fn open_with_extents(server: &Server) -> Disk {
    let link = Connection::builder().meta_context(context::BASE_ALLOCATION);
    Disk::open_with(AsyncDisk::builder().link(link), way_to(server)).unwrap()
}

/// A disk that ends with its connection.
fn open_once(server: &Server) -> Disk {
    let options = AsyncDisk::builder().retry(Retry::never());
    Disk::open_with(options, way_to(server)).unwrap()
}

/// A disk with extents that is one connection, which lives on `runtime`.
fn of_one_connection(runtime: &Runtime, server: &Server) -> Disk<Connection> {
    let options = Connection::builder().meta_context(context::BASE_ALLOCATION);
    let connection = runtime.block_on(options.connect(way_to(server)));
    Disk::new(connection.unwrap()).unwrap()
}

#[test]
fn calls_read_and_write_any_range() {
    within(|| {
        let export = Export::new(10_000).block_sizes(512, 4096, 1 << 20);
        let server = Server::new(export.clone());
        let disk = open(&server);
        assert_eq!(disk.size(), 10_000);
        assert_eq!(disk.export().size(), 10_000);

        disk.write_all_at(b"hello", 1000).unwrap();
        assert_eq!(disk.write_at(b" world", 1005).unwrap(), 6);
        assert_eq!(export.contents(1000, 11), b"hello world");
        let mut text = [0; 11];
        disk.read_exact_at(&mut text, 1000).unwrap();
        assert_eq!(&text, b"hello world");
        disk.write_zeroes(1002, 2).unwrap();
        assert_eq!(disk.read_at(&mut text, 1000).unwrap(), 11);
        assert_eq!(&text, b"he\0\0o world");
        disk.trim(512, 1024).unwrap();
        disk.flush().unwrap();
        disk.close().unwrap();
        let error = disk.flush().unwrap_err();
        assert_matches!(error, Error::Closed(_));
    });
}

#[test]
fn reads_and_writes_are_cut_short_at_the_end_of_the_export() {
    within(|| {
        let export = Export::new(10_000);
        let server = Server::new(export.clone());
        let disk = open(&server);
        let mut buf = [7; 100];
        assert_eq!(disk.read_at(&mut buf, 9990).unwrap(), 10);
        assert_eq!(buf[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 7]);
        assert_eq!(disk.write_at(&buf, 9990).unwrap(), 10);
        for offset in [10_000, 10_001, u64::MAX] {
            assert_eq!(disk.read_at(&mut buf, offset).unwrap(), 0);
            assert_eq!(disk.write_at(&buf, offset).unwrap(), 0);
            // Nothing is read from nowhere.
            disk.read_exact_at(&mut [], offset.min(10_000)).unwrap();
        }
        export.fill(0, 10_000, 1);
        for offset in [9901, 10_000, u64::MAX] {
            let read = disk.read_exact_at(&mut buf, offset).unwrap_err();
            let written = disk.write_all_at(&buf, offset).unwrap_err();
            for (error, of) in [(read, Command::READ), (written, Command::WRITE)] {
                let Error::Invalid(InvalidRequest::OutOfBounds { command, .. }) = error else {
                    panic!("{error}");
                };
                assert_eq!(command, of);
            }
        }
        assert_eq!(export.contents(9000, 1000), [1; 1000]);
    });
}

#[test]
fn more_than_one_request_takes_is_divided() {
    within(|| {
        let length = (32 << 20) + 4097;
        let export = Export::new(length as u64 + 3);
        let server = Server::new(export);
        let disk = open(&server);
        let data: Vec<u8> = (0..length as u32).map(|i| (i % 251) as u8).collect();
        disk.write_all_at(&data, 3).unwrap();
        let mut read = vec![0; length];
        disk.read_exact_at(&mut read, 3).unwrap();
        assert!(read == data);
        let cut = disk.read_at(&mut read, 3).unwrap();
        assert_eq!(cut, 32 << 20);
        assert_eq!(disk.write_at(&data, 0).unwrap(), 32 << 20);
    });
}

#[test]
fn errors_of_the_server_are_errors_of_the_call() {
    within(|| {
        let server = Server::builder()
            .export("", Export::new(1 << 20))
            .fail_with(|_| Some((Errno::ENOSPC, "no room".into())))
            .build();
        let disk = open(&server);
        let error = disk.write_all_at(&[1; 512], 0).unwrap_err();
        assert_matches!(&error, Error::Request(request) if request.errno() == Errno::ENOSPC);
        let error = std::io::Error::from(error);
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    });
}

#[test]
fn extents_come_in_order_and_end_after_an_error() {
    within(|| {
        let export = Export::new(1 << 20);
        let server = Server::new(export);
        let disk = open_with_extents(&server);
        disk.write_all_at(&[1; 65536], 131_072).unwrap();
        let extents: Vec<_> = disk
            .extents(context::BASE_ALLOCATION, ..)
            .map(Result::unwrap)
            .map(|extent| (extent.offset, extent.length, extent.is_hole()))
            .collect();
        let after = 131_072 + 65536;
        assert_eq!(
            extents,
            [
                (0, 131_072, true),
                (131_072, 65536, false),
                (after, (1 << 20) - after, true)
            ]
        );
        for (context, range) in [("x:y", 0..512), (context::BASE_ALLOCATION, 0..2 << 20)] {
            let mut extents = disk.extents(context, range);
            assert_matches!(extents.next(), Some(Err(Error::Invalid(_))));
            assert!(extents.next().is_none());
            assert!(extents.next().is_none());
        }
    });
}

type Call<C> = fn(&Disk<C>) -> nbd_client::Result<()>;

/// Every call that makes a request, and its command.
fn calls<C: Client>() -> [(Command, Call<C>); 7] {
    [
        (Command::READ, |disk| disk.read_exact_at(&mut [0; 512], 0)),
        (Command::WRITE, |disk| disk.write_at(&[0; 512], 0).map(drop)),
        (Command::FLUSH, |disk| disk.flush()),
        (Command::TRIM, |disk| disk.trim(0, 512)),
        (Command::WRITE_ZEROES, |disk| disk.write_zeroes(0, 512)),
        (Command::CACHE, |disk| disk.cache(0, 512)),
        (Command::BLOCK_STATUS, |disk| {
            let mut extents = disk.extents(context::BASE_ALLOCATION, ..);
            extents.next().unwrap().map(drop)
        }),
    ]
}

#[test]
fn a_call_past_its_deadline_fails() {
    within(|| {
        let limit = Duration::from_millis(20);
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        for (command, call) in calls() {
            let server = Server::new(Export::new(1 << 20));
            let disk = of_one_connection(&runtime, &server);
            let patient = disk.clone();
            patient.flush().unwrap();
            server.pause();
            let disk = disk.timeout(limit);
            let error = call(&disk).unwrap_err();
            assert_matches!(error, Error::Timeout(Phase::Request, _));
            assert!(error.to_string().contains(&command.to_string()), "{error}");
            let error = std::io::Error::from(error);
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
            // As the documentation of a timeout says, the connection has ended.
            assert_matches!(patient.flush(), Err(Error::Timeout(..)));
        }
    });
}

#[test]
fn a_disk_goes_on_after_the_deadline_of_a_call() {
    within(|| {
        let limit = Duration::from_millis(20);
        for (command, call) in calls() {
            let server = Server::new(Export::new(1 << 20));
            let disk = open_with_extents(&server);
            server.pause();
            let error = call(&disk.clone().timeout(limit)).unwrap_err();
            match command {
                Command::WRITE | Command::TRIM | Command::WRITE_ZEROES => {
                    assert_matches!(error, Error::OutcomeUnknown(_));
                }
                _ => assert_matches!(error, Error::Timeout(Phase::Request, _)),
            }
            assert!(error.to_string().contains(&command.to_string()), "{error}");
            server.resume();
            call(&disk).unwrap();
        }
    });
}

#[test]
fn a_wait_that_is_no_request_has_a_deadline_too() {
    within(|| {
        let server = Server::new(Export::new(1 << 20));
        let disk = open(&server);
        let writer = disk.clone();
        disk.settled().unwrap();
        disk.ping().unwrap();
        server.pause();
        let writing = std::thread::spawn(move || writer.write_all_at(&[1; 512], 0));
        block_on(server.held(1));
        let limit = Duration::from_millis(20);
        let disk = disk.timeout(limit);
        assert_matches!(disk.settled(), Err(Error::Timeout(Phase::Request, _)));
        assert_matches!(disk.ping(), Err(Error::Timeout(Phase::Request, _)));
        server.resume();
        writing.join().unwrap().unwrap();
        let disk = disk.timeout(Duration::MAX);
        disk.settled().unwrap();
        disk.ping().unwrap();
    });
}

#[test]
fn any_request_is_carried_out_with_its_flags() {
    within(|| {
        let export = Export::new(1 << 20);
        let server = Server::new(export.clone());
        let disk = open(&server);
        let client = disk.client();
        disk.request(client.write(0, "hello").fua()).unwrap();
        assert_eq!(export.counters().fua, 1);
        disk.request(client.write_zeroes(1, 1).fast_zero().no_hole())
            .unwrap();
        let read = disk.request(client.read(0, 5).dont_fragment()).unwrap();
        assert_eq!(&read[..], b"h\0llo");
        disk.cache(0, 512).unwrap();
        let refused = disk.request(client.flush().flags(CommandFlags::DF));
        assert_matches!(
            refused,
            Err(Error::Invalid(InvalidRequest::WrongFlags { .. }))
        );

        // The deadline of a request comes first, and then that of the handle.
        server.pause();
        let short = Duration::from_millis(20);
        let impatient = disk.clone().timeout(short);
        let late = impatient.request(client.read(0, 5));
        assert_matches!(late, Err(Error::Timeout(..)));
        let patient = disk.clone().timeout(Duration::MAX);
        let late = patient.request(client.read(0, 5).timeout(short));
        assert_matches!(late, Err(Error::Timeout(..)));
    });
}

#[test]
fn streams_are_iterators() {
    within(|| {
        let server = Server::new(Export::new(1 << 20));
        let disk = open_with_extents(&server);
        disk.write_all_at(&[1; 65536], 131_072).unwrap();
        let holes = |extents: &[(u64, bool)]| {
            assert_eq!(extents, [(131_072, true), (65536, false), (851_968, true)]);
        };
        let joint = disk.joint_extents(..).map(Result::unwrap);
        let of = |extent: nbd_client::JointExtent| {
            let extent = extent.get(context::BASE_ALLOCATION).unwrap();
            (extent.length, extent.is_hole())
        };
        holes(&joint.map(of).collect::<Vec<_>>());
        let allocations = disk.items(disk.client().allocation(..)).map(Result::unwrap);
        assert_eq!(allocations.count(), 3);
        let stream = disk.client().read_stream(131_000..131_200);
        let data: Vec<_> = disk.items(stream).map(Result::unwrap).collect();
        assert_eq!(data.concat(), [[0].repeat(72), [1].repeat(128)].concat());
        let mut outside = disk.items(disk.client().pieces(..2 << 20));
        assert_matches!(outside.next(), Some(Err(Error::Invalid(_))));
        assert!(outside.next().is_none());
    });
}

#[test]
fn closing_has_a_deadline_too() {
    within(|| {
        let server = Server::new(Export::new(1 << 20));
        let disk = open(&server);
        server.pause();
        let reader = disk.clone();
        let reading = std::thread::spawn(move || reader.read_at(&mut [0; 512], 0));
        block_on(server.held(1));
        let closed = disk.timeout(Duration::from_millis(20)).close();
        assert_matches!(closed, Err(Error::Timeout(Phase::Shutdown, _)));
        assert!(reading.join().unwrap().is_err());

        let limit = Duration::from_millis(20);
        let options = AsyncDisk::builder().close_timeout(limit);
        let disk = Disk::open_with(options, way_to(&server)).unwrap();
        let reader = disk.clone();
        let reading = std::thread::spawn(move || reader.read_at(&mut [0; 512], 0));
        block_on(server.held(2));
        assert_matches!(disk.close(), Err(Error::Timeout(Phase::Shutdown, _)));
        assert!(reading.join().unwrap().is_err());
    });
}

#[test]
fn what_is_not_ready_is_no_disk() {
    within(|| {
        let server = Server::new(Export::new(1 << 20));
        let link = Connection::builder().opt_mode(true);
        let opened = Disk::open_with(AsyncDisk::builder().link(link), way_to(&server));
        assert_matches!(opened, Err(Error::Invalid(InvalidRequest::State { .. })));
        let opened = Disk::new(Connection::new());
        assert_matches!(opened, Err(Error::Invalid(InvalidRequest::State { .. })));
        let opened = Disk::open("http://host");
        assert_matches!(opened, Err(Error::InvalidUse(InvalidUse::Uri { .. })));
    });
}

#[test]
fn calls_go_on_over_a_new_connection() {
    within(|| {
        let server = Server::new(Export::from_contents([7; 1 << 20]));
        let link = Connection::builder().meta_context(context::BASE_ALLOCATION);
        let soon = Retry::default().most(Duration::from_millis(1));
        // A write may be on its way when the connection is lost.
        let options = AsyncDisk::builder()
            .link(link)
            .retry(soon)
            .changes(Changes::Repeat);
        let disk = Disk::open_with(options, way_to(&server)).unwrap();
        let mut cursor = disk.cursor();
        let mut read = [0; 4096];
        let mut stream = disk.items(disk.client().read_stream(..));
        // A request fails when it was lost three times.
        for _ in 0..2 {
            server.hang_up();
            disk.write_all_at(&[8; 512], 0).unwrap();
            server.hang_up();
            disk.read_exact_at(&mut read, 0).unwrap();
            assert_eq!(read[511..513], [8, 7]);
            server.hang_up();
            assert!(
                disk.extents(context::BASE_ALLOCATION, ..)
                    .all(|e| e.is_ok())
            );
            server.hang_up();
            cursor.read_exact(&mut read).unwrap();
            stream.next().unwrap().unwrap();
        }
        // The last two may have had what they read.
        disk.read_exact_at(&mut read, 0).unwrap();
        assert!(disk.client().status().generation > 3);
        // What was written was never flushed.
        let lost = disk.close().unwrap_err();
        assert!(
            matches!(lost, Error::DurabilityUnknown(lost) if lost.ranges() == from_ref(&(0..512)))
        );
    });
}
