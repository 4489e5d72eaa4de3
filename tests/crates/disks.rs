//! Partitions and file systems on an export: GPT, FAT, and ext4.

use std::error::Error;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::Command;

use ext4_view::{Ext4, Ext4Read};
use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::BASIC;
use nbd_client::Cursor;
use tokio_util::io::SyncIoBridge;

use crate::{Place, SIZE, as_file, files, nbdkit, places};

/// The logical block size that goes with the blocks of an export.
fn logical(place: &Place) -> LogicalBlockSize {
    match place.block {
        4096 => LogicalBlockSize::Lb4096,
        _ => LogicalBlockSize::Lb512,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_in_a_partition_is_written_and_read() {
    for place in places().await {
        let (block, logical) = (u64::from(place.block), logical(&place));
        // A partition table.
        as_file(place.conn.cursor(), move |mut file| {
            let blocks = u32::try_from(SIZE / block - 1).unwrap();
            let mbr = ProtectiveMBR::with_lb_size(blocks);
            mbr.overwrite_lba0(&mut file).unwrap();
            let config = GptConfig::new().writable(true).logical_block_size(logical);
            let mut disk = config.create_from_device(file, None).unwrap();
            disk.add_partition("other", 1 << 20, BASIC, 0, None)
                .unwrap();
            disk.add_partition("files", 8 << 20, BASIC, 0, None)
                .unwrap();
            disk.write().unwrap().flush().unwrap();
        })
        .await;
        // Where the second partition is.
        let range = as_file(place.conn.cursor(), move |file| {
            let config = GptConfig::new().logical_block_size(logical);
            let disk = config.open_from_device(file).unwrap();
            let partition = &disk.partitions()[&2];
            assert_eq!(partition.name, "files");
            let start = partition.bytes_start(logical).unwrap();
            start..start + partition.bytes_len(logical).unwrap()
        })
        .await;
        assert_eq!(range.end - range.start, 8 << 20);
        let before = place.conn.read(0, usize::try_from(range.start).unwrap());
        let before = before.await.unwrap();
        // A file system in it. The sectors are those of the file system, whatever the blocks are.
        let partition = || place.conn.cursor().range(range.clone());
        as_file(partition().write_behind(1 << 20), |mut file| {
            fatfs::format_volume(&mut file, FormatVolumeOptions::new()).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            let fs = FileSystem::new(&mut file, FsOptions::new()).unwrap();
            for (path, content) in files() {
                let mut file = fs.root_dir().create_file(&path).unwrap();
                file.write_all(&content).unwrap();
            }
            fs.unmount().unwrap();
            file.flush().unwrap();
            file.shutdown().unwrap();
        })
        .await;
        let name = place.name.clone();
        as_file(partition(), move |file| {
            let fs = FileSystem::new(file, FsOptions::new()).unwrap();
            for (path, content) in files().into_iter().rev() {
                let mut found = Vec::new();
                let mut file = fs.root_dir().open_file(&path).unwrap();
                file.read_to_end(&mut found).unwrap();
                assert!(found == content, "{path} {name}");
            }
        })
        .await;
        let after = place.conn.read(0, before.len()).await.unwrap();
        assert!(before == after, "what is before the partition has changed");
    }
}

/// A cursor as the crate for ext4 wants it.
struct Reader(SyncIoBridge<Cursor>);

impl Ext4Read for Reader {
    fn read(
        &mut self,
        start: u64,
        bytes: &mut [u8],
    ) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        self.0.seek(SeekFrom::Start(start))?;
        self.0.read_exact(bytes)?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ext4_image_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, image) = (dir.path().join("tree"), dir.path().join("image"));
    std::fs::create_dir_all(tree.join("inside")).unwrap();
    for (path, content) in files() {
        std::fs::write(tree.join("inside").join(path), content).unwrap();
    }
    let made = Command::new("mkfs.ext4")
        .env(
            "PATH",
            format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()),
        )
        .args(["-q", "-d"])
        .args([&tree, &image])
        .arg("16M")
        .status();
    assert!(made.expect("mkfs.ext4 is needed").success());
    for block in [512, 4096] {
        let conn = nbdkit(block, &["file", image.to_str().unwrap()]).await;
        as_file(conn.cursor(), move |file| {
            let fs = Ext4::load(Box::new(Reader(file))).unwrap();
            for (path, content) in files() {
                let found = fs.read(&*format!("/inside/{path}")).unwrap();
                assert!(found == content, "{path}, blocks of {block}");
            }
            assert!(fs.read("/inside/nothing").is_err());
        })
        .await;
    }
}
