//! The hash of what is copied.

use std::fs;
use std::path::Path;

use md5::Md5;
use nbd_client::{BlockHash, Digest};
use sha1::Sha1;
use sha2::digest::{Digest as _, FixedOutputReset};
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::Failure;
use crate::out::say;
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

/// Prints a hash, or writes it to a file.
pub(crate) fn print(hash: &[u8], file: Option<&Path>) -> Result<(), Failure> {
    let hash = hex(hash);
    let Some(path) = file else {
        say!("{hash}");
        return Ok(());
    };
    let written = fs::write(path, format!("{hash}\n"));
    written.map_err(|error| format!("cannot write the hash to {}: {error}", path.display()).into())
}

pub(crate) fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
