//! The hash of what is copied.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use md5::Md5;
use nbd_client::{BlockHash, Digest};
use sha1::Sha1;
use sha2::digest::{Digest as _, FixedOutputReset};
use sha2::{Sha224, Sha256, Sha384, Sha512};
use tokio::fs::OpenOptions;

use super::Failure;
use crate::size::size;

/// The function if nothing is said.
pub(crate) const DEFAULT: &str = "sha256";

/// How long a block is if nothing is said, in bytes.
const BLOCK: u32 = 64 << 10;

/// A hash function of the family of `sha2`.
struct Function<D>(D);

impl<D: sha2::digest::Digest + FixedOutputReset + Send> Digest for Function<D> {
    fn update(&mut self, bytes: &[u8]) {
        sha2::digest::Digest::update(&mut self.0, bytes);
    }

    fn finish(&mut self) -> Vec<u8> {
        self.0.finalize_reset().to_vec()
    }
}

/// Reads the function and the length of its blocks, by nbdcopy's rule.
pub(crate) fn parse(text: &str) -> Result<BlockHash, &'static str> {
    let (function, block) = match text.split_once('/') {
        Some((function, block)) => (function, size(block)?),
        None => (text, BLOCK),
    };
    if !block.is_power_of_two() {
        return Err("expected blocks of a power of 2");
    }
    Ok(match function.to_ascii_lowercase().as_str() {
        "md5" => BlockHash::new(block, || Function(Md5::new())),
        "sha1" => BlockHash::new(block, || Function(Sha1::new())),
        "sha224" => BlockHash::new(block, || Function(Sha224::new())),
        "sha256" => BlockHash::new(block, || Function(Sha256::new())),
        "sha384" => BlockHash::new(block, || Function(Sha384::new())),
        "sha512" => BlockHash::new(block, || Function(Sha512::new())),
        _ => return Err("expected md5, sha1, sha224, sha256, sha384 or sha512"),
    })
}

/// A file that is opened before the copy and gets the hash after it.
#[derive(Debug)]
pub(crate) struct HashFile {
    path: PathBuf,
    file: File,
    /// Whether it is only there because this opened it, and is empty.
    is_new: bool,
}

impl HashFile {
    /// Opens it, and leaves what is in it.
    pub(crate) async fn open(path: &Path) -> Result<Self, Failure> {
        let is_new = !path.exists();
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).open(path).await;
        let file = file.map_err(|error| failed(path, &error))?;
        let (path, file) = (path.into(), file.into_std().await);
        Ok(Self { path, file, is_new })
    }

    /// Puts the hash in place of what is in it.
    pub(crate) fn write(mut self, hash: &[u8]) -> Result<(), Failure> {
        // A pipe has no length.
        let cut = match self.file.metadata() {
            Ok(metadata) if metadata.is_file() => self.file.set_len(0),
            _ => Ok(()),
        };
        let written = cut.and_then(|()| writeln!(self.file, "{}", hex(hash)));
        written.map_err(|error| failed(&self.path, &error))?;
        self.is_new = false;
        Ok(())
    }
}

impl Drop for HashFile {
    fn drop(&mut self) {
        if self.is_new {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    format!("cannot write the hash to {}: {error}", path.display()).into()
}

pub(crate) fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
