//! What a forked process sees. To fork takes unsafe code, so the test says that it was forked.

use std::io::Read;

use super::runtime::pretend_to_be_forked;
use super::*;
use crate::connection::{Connection, Connector};
use crate::context::BASE_ALLOCATION;
use crate::disk::Disk as AsyncDisk;
use crate::error::{Error, InvalidUse, Result};
use crate::testing;

#[track_caller]
fn is_forked<T: std::fmt::Debug>(result: Result<T>) {
    let is_so = matches!(result, Err(Error::InvalidUse(InvalidUse::Forked)));
    assert!(is_so, "{result:?}");
}

/// The only unit test that uses the background thread: others would see the same.
#[test]
fn in_a_forked_process_calls_fail_and_drops_do_nothing() {
    let server = testing::Server::new(testing::Export::new(1 << 20));
    let connections = server.clone();
    let connector = Connector::stream(move || {
        let stream = server.connect();
        async move { Ok(stream) }
    });
    let link = Connection::builder().meta_context(BASE_ALLOCATION);
    let options = AsyncDisk::builder().link(link);
    let disk = Disk::open_with(options, &connector).unwrap();
    let mut extents = disk.extents(BASE_ALLOCATION, ..);
    let unused = disk.joint_extents(..);
    assert!(extents.next().unwrap().is_ok());
    let mut cursor = disk.cursor();
    cursor.read_exact(&mut [0; 512]).unwrap();

    let forked = pretend_to_be_forked();
    is_forked(disk.read_at(&mut [0; 512], 0));
    is_forked(disk.read_exact_at(&mut [0; 512], 0));
    is_forked(disk.write_at(&[0; 512], 0));
    is_forked(disk.write_all_at(&[0; 512], 0));
    is_forked(disk.flush());
    is_forked(disk.trim(0, 512));
    is_forked(disk.write_zeroes(0, 512));
    is_forked(disk.cache(0, 512));
    is_forked(disk.request(disk.client().read(0, 512).dont_fragment()));
    is_forked(disk.settled());
    is_forked(disk.ping());
    is_forked(disk.close());
    is_forked(disk.extents(BASE_ALLOCATION, ..).next().unwrap());
    is_forked(Disk::open(&connector));
    is_forked(Disk::new(disk.client().clone()));
    assert!(cursor.read(&mut [0; 512]).is_err());
    drop((unused, extents, cursor, disk));
    drop(forked);
    // The last handle was dropped, but not of the connection, which belongs to the parent.
    assert!(Disk::open(&connector).unwrap().close().is_ok());
    assert_eq!(connections.connections(), 1);
}
