//! Exports and files over them, as code that is not async has them: two kinds of each.

use std::fmt::Debug;
use std::io::{Read, Result, Seek, Write};
use std::ops::RangeBounds;

#[cfg(feature = "blocking")]
use nbd_client::blocking;
use nbd_client::{Connection, Cursor};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::io::SyncIoBridge;

use crate::places::Place;

/// An export that is connected to.
pub(crate) trait Volume: 'static {
    type File: File;

    fn open(place: &Place) -> Self;

    /// Opens a part of the export as a file, which writes so many bytes behind.
    fn file(&self, range: impl RangeBounds<u64>, behind: usize) -> Self::File;

    /// Fills a buffer with what is at this offset of the export.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> nbd_client::Result<()>;
}

/// A file over a part of an export.
pub(crate) trait File: Read + Write + Seek + Debug + 'static {
    /// Makes durable what was written.
    fn sync_all(&mut self) -> Result<()>;
}

/// The runtime of a test.
pub(crate) fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// Connects to a place, which has blocks of the size that it is meant to have.
pub(crate) async fn connect(place: &Place) -> Connection {
    let conn = Connection::builder().connect(&place.connector).await;
    let conn = conn.unwrap();
    assert!(conn.read(0, 511).await.is_err(), "nothing unaligned");
    conn
}

/// Async calls for which a thread waits that has entered a runtime.
pub(crate) struct Bridged {
    conn: Connection,
    runtime: Handle,
}

impl Volume for Bridged {
    type File = SyncIoBridge<Cursor>;

    fn open(place: &Place) -> Self {
        let runtime = Handle::current();
        let conn = runtime.block_on(connect(place));
        Self { conn, runtime }
    }

    fn file(&self, range: impl RangeBounds<u64>, behind: usize) -> Self::File {
        SyncIoBridge::new(self.conn.cursor().range(range).write_behind(behind))
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> nbd_client::Result<()> {
        let read = self.conn.read(offset, buf.len()).unaligned();
        let content = self.runtime.block_on(read.into_future())?;
        buf.copy_from_slice(&content);
        Ok(())
    }
}

impl File for SyncIoBridge<Cursor> {
    fn sync_all(&mut self) -> Result<()> {
        self.shutdown()
    }
}

#[cfg(feature = "blocking")]
impl Volume for blocking::Disk {
    type File = blocking::Cursor;

    fn open(place: &Place) -> Self {
        let disk = Self::open(&place.connector).unwrap();
        let sizes = disk.export().block_size().unwrap();
        assert_eq!(sizes.minimum, place.block);
        disk
    }

    fn file(&self, range: impl RangeBounds<u64>, behind: usize) -> Self::File {
        self.cursor().range(range).write_behind(behind)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> nbd_client::Result<()> {
        self.read_exact_at(buf, offset)
    }
}

#[cfg(feature = "blocking")]
impl File for blocking::Cursor {
    fn sync_all(&mut self) -> Result<()> {
        self.sync_all()
    }
}

/// Makes two tests of a `fn` for any kind of volume: `NAME::bridged` and `NAME::blocking`.
macro_rules! both_volumes {
    ($name:ident) => {
        mod $name {
            #[test]
            fn bridged() {
                $crate::watchdog::within(|| {
                    let runtime = $crate::volumes::runtime();
                    let _entered = runtime.enter();
                    super::$name::<$crate::volumes::Bridged>();
                });
            }

            #[cfg(feature = "blocking")]
            #[test]
            fn blocking() {
                $crate::watchdog::within(super::$name::<nbd_client::blocking::Disk>);
            }
        }
    };
}
