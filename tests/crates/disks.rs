//! Partitions and file systems on an export: GPT, FAT, and ext4.

use std::error::Error;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use ext4_view::{Ext4, Ext4Read};
use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::BASIC;

use crate::files;
use crate::places::{Place, SIZE, nbdkit, places};
use crate::volumes::{File, Volume};

fn a_file_system_in_a_partition_is_written_and_read<V: Volume>() {
    for place in places() {
        let volume = V::open(&place);
        let range = partition(&volume, &place);
        assert_eq!(range.end - range.start, 8 << 20);
        let mut before = vec![0; usize::try_from(range.start).unwrap()];
        volume.read_exact_at(&mut before, 0).unwrap();
        // The sectors are those of the file system, whatever the blocks are.
        let mut file = volume.file(range.clone(), 1 << 20);
        fatfs::format_volume(&mut file, FormatVolumeOptions::new()).unwrap();
        file.rewind().unwrap();
        let fs = FileSystem::new(&mut file, FsOptions::new()).unwrap();
        for (path, content) in files() {
            let mut file = fs.root_dir().create_file(&path).unwrap();
            file.write_all(&content).unwrap();
        }
        fs.unmount().unwrap();
        file.sync_all().unwrap();
        let fs = FileSystem::new(volume.file(range, 0), FsOptions::new()).unwrap();
        for (path, content) in files().into_iter().rev() {
            let mut found = Vec::new();
            let mut file = fs.root_dir().open_file(&path).unwrap();
            file.read_to_end(&mut found).unwrap();
            assert!(found == content, "{path} {}", place.name);
        }
        let mut after = vec![0; before.len()];
        volume.read_exact_at(&mut after, 0).unwrap();
        assert!(before == after, "what is before the partition has changed");
    }
}
both_volumes!(a_file_system_in_a_partition_is_written_and_read);

/// Writes a partition table, and returns where it says that the second partition is.
fn partition(volume: &impl Volume, place: &Place) -> Range<u64> {
    let logical = match place.block {
        4096 => LogicalBlockSize::Lb4096,
        _ => LogicalBlockSize::Lb512,
    };
    let mut file = volume.file(.., 0);
    let blocks = u32::try_from(SIZE / u64::from(place.block) - 1).unwrap();
    let mbr = ProtectiveMBR::with_lb_size(blocks);
    mbr.overwrite_lba0(&mut file).unwrap();
    let config = GptConfig::new().writable(true).logical_block_size(logical);
    let mut disk = config.create_from_device(file, None).unwrap();
    disk.add_partition("other", 1 << 20, BASIC, 0, None)
        .unwrap();
    disk.add_partition("files", 8 << 20, BASIC, 0, None)
        .unwrap();
    disk.write().unwrap().flush().unwrap();

    let config = GptConfig::new().logical_block_size(logical);
    let disk = config.open_from_device(volume.file(.., 0)).unwrap();
    let partition = &disk.partitions()[&2];
    assert_eq!(partition.name, "files");
    let start = partition.bytes_start(logical).unwrap();
    start..start + partition.bytes_len(logical).unwrap()
}

type Failure = Box<dyn Error + Send + Sync + 'static>;

/// A file as the crate for ext4 wants it.
struct Sought<F>(F);

impl<F: File> Ext4Read for Sought<F> {
    fn read(&mut self, start: u64, bytes: &mut [u8]) -> Result<(), Failure> {
        self.0.seek(SeekFrom::Start(start))?;
        Ok(self.0.read_exact(bytes)?)
    }
}

/// The same without a file.
struct Whole<V>(V);

impl<V: Volume> Ext4Read for Whole<V> {
    fn read(&mut self, start: u64, bytes: &mut [u8]) -> Result<(), Failure> {
        Ok(self.0.read_exact_at(bytes, start)?)
    }
}

fn an_ext4_image_is_read<V: Volume>() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    make_ext4(&dir.path().join("tree"), &image);
    for block in [512, 4096] {
        let volume = V::open(&nbdkit(block, &["file", image.to_str().unwrap()]));
        let file = Box::new(Sought(volume.file(.., 0)));
        let readers: [Box<dyn Ext4Read>; 2] = [file, Box::new(Whole(volume))];
        for reader in readers {
            let fs = Ext4::load(reader).unwrap();
            for (path, content) in files() {
                let found = fs.read(&*format!("/inside/{path}")).unwrap();
                assert!(found == content, "{path}, blocks of {block}");
            }
            assert!(fs.read("/inside/nothing").is_err());
        }
    }
}
both_volumes!(an_ext4_image_is_read);

/// Makes an image with all files in a directory, which is made in `tree` first.
fn make_ext4(tree: &Path, image: &Path) {
    std::fs::create_dir_all(tree.join("inside")).unwrap();
    for (path, content) in files() {
        std::fs::write(tree.join("inside").join(path), content).unwrap();
    }
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let made = Command::new("mkfs.ext4")
        .env("PATH", path)
        .args(["-q", "-d"])
        .args([tree, image])
        .arg("16M")
        .status();
    assert!(made.expect("mkfs.ext4 is needed").success());
}
