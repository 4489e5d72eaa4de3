//! Archives on an export: tar and zip.

use std::io::{Read, Seek, Write};

use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use crate::files;
use crate::places::{Place, places};
use crate::volumes::{File, Volume, connect, runtime};
use crate::watchdog::within;

/// Where tar archives start, and how far behind they are written, in bytes: not at all, and far.
/// Each has a place of its own, so that what is lost of one is not there from the other.
const TARS: [(u64, usize); 2] = [(0, 0), (8 << 20, 1 << 20)];

#[test]
fn a_tar_archive_is_written_and_read_by_async_code() {
    within(|| {
        for place in places() {
            runtime().block_on(write_and_read_async_tar(&place));
        }
    });
}

async fn write_and_read_async_tar(place: &Place) {
    let (conn, name) = (connect(place).await, &place.name);
    for (start, behind) in TARS {
        let mut builder =
            tokio_tar::Builder::new(conn.cursor().range(start..).write_behind(behind));
        for (path, content) in files() {
            let mut header = tokio_tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            let appended = builder.append_data(&mut header, &path, &content[..]);
            appended.await.unwrap();
        }
        // `into_inner` waits for the answers of all writes, and only `shutdown` makes them durable.
        let mut cursor = builder.into_inner().await.unwrap();
        assert!(conn.has_unflushed_writes(), "{name}");
        cursor.shutdown().await.unwrap();
        assert!(!conn.has_unflushed_writes(), "{name}");
        let mut archive = tokio_tar::Archive::new(conn.cursor().range(start..));
        let mut entries = archive.entries().unwrap();
        for (path, content) in files() {
            let mut entry = entries.next().await.unwrap().unwrap();
            assert_eq!(entry.path().unwrap().to_str().unwrap(), path, "{name}");
            let mut found = Vec::new();
            entry.read_to_end(&mut found).await.unwrap();
            assert!(found == content, "{path} {name}");
        }
        assert!(entries.next().await.is_none());
    }
}

fn a_tar_archive_is_written_and_read<V: Volume>() {
    for place in places() {
        let (volume, name) = (V::open(&place), &place.name);
        for (start, behind) in TARS {
            let mut builder = tar::Builder::new(volume.file(start.., behind));
            for (path, content) in files() {
                let mut header = tar::Header::new_gnu();
                header.set_size(content.len() as u64);
                header.set_mode(0o644);
                builder
                    .append_data(&mut header, &path, &content[..])
                    .unwrap();
            }
            builder.into_inner().unwrap().sync_all().unwrap();
            let mut archive = tar::Archive::new(volume.file(start.., 0));
            let mut entries = archive.entries_with_seek().unwrap();
            for (path, content) in files() {
                let mut entry = entries.next().unwrap().unwrap();
                assert_eq!(entry.path().unwrap().to_str().unwrap(), path, "{name}");
                let mut found = Vec::new();
                entry.read_to_end(&mut found).unwrap();
                assert!(found == content, "{path} {name}");
            }
            assert!(entries.next().is_none());
        }
    }
}
both_volumes!(a_tar_archive_is_written_and_read);

fn a_zip_archive_is_written_and_read<V: Volume>() {
    for place in places() {
        let volume = V::open(&place);
        let mut zip = ZipWriter::new(volume.file(.., 0));
        for (path, content) in files() {
            zip.start_file(path, SimpleFileOptions::default()).unwrap();
            zip.write_all(&content).unwrap();
        }
        let mut file = zip.finish().unwrap();
        file.flush().unwrap();
        // The end of a zip archive is found by searching backwards from the end of the file.
        let length = file.stream_position().unwrap();
        let mut zip = ZipArchive::new(volume.file(..length, 0)).unwrap();
        assert_eq!(zip.len(), files().len());
        // Last first, so that it is sought.
        for (path, content) in files().into_iter().rev() {
            let mut found = Vec::new();
            let mut file = zip.by_name(&path).unwrap();
            file.read_to_end(&mut found).unwrap();
            assert!(found == content, "{path} {}", place.name);
        }
    }
}
both_volumes!(a_zip_archive_is_written_and_read);
