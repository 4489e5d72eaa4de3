//! Archives on an export: tar and zip.

use std::io::{Read, Write};

use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use crate::{as_file, files, places, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tar_archive_is_written_and_read() {
    for place in places().await {
        let name = &place.name;
        for behind in [0, 1 << 20] {
            let mut builder = tokio_tar::Builder::new(place.conn.cursor().write_behind(behind));
            for (path, content) in files() {
                let mut header = tokio_tar::Header::new_gnu();
                header.set_size(content.len() as u64);
                header.set_mode(0o644);
                within(builder.append_data(&mut header, &path, &content[..]))
                    .await
                    .unwrap();
            }
            let mut cursor = within(builder.into_inner()).await.unwrap();
            within(cursor.shutdown()).await.unwrap();
            let mut archive = tokio_tar::Archive::new(place.conn.cursor());
            let mut entries = archive.entries().unwrap();
            for (path, content) in files() {
                let mut entry = within(entries.next()).await.unwrap().unwrap();
                assert_eq!(entry.path().unwrap().to_str().unwrap(), path, "{name}");
                let mut found = Vec::new();
                within(entry.read_to_end(&mut found)).await.unwrap();
                assert!(found == content, "{path} {name}");
            }
            assert!(within(entries.next()).await.is_none());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zip_archive_is_written_and_read() {
    for place in places().await {
        // The end of a zip archive is found by searching backwards from the end of the file.
        let length = as_file(place.conn.cursor(), |file| {
            let mut zip = ZipWriter::new(file);
            for (path, content) in files() {
                zip.start_file(path, SimpleFileOptions::default()).unwrap();
                zip.write_all(&content).unwrap();
            }
            let mut file = zip.finish().unwrap();
            file.flush().unwrap();
            file.into_inner().position()
        })
        .await;
        as_file(place.conn.cursor().range(..length), move |file| {
            let mut zip = ZipArchive::new(file).unwrap();
            assert_eq!(zip.len(), files().len());
            // Last first, so that it is sought.
            for (path, content) in files().into_iter().rev() {
                let mut found = Vec::new();
                let mut file = zip.by_name(&path).unwrap();
                file.read_to_end(&mut found).unwrap();
                assert!(found == content, "{path} {}", place.name);
            }
        })
        .await;
    }
}
