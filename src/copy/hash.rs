//! The hash of a disk, computed while it is copied.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::zeroes::is_zero;

/// A hash function, such as SHA-256 of a crate of your choice.
pub trait Digest: Send {
    /// Adds bytes.
    fn update(&mut self, bytes: &[u8]);

    /// Returns the hash of the bytes since the last call, and begins anew.
    fn finish(&mut self) -> Vec<u8>;
}

/// A hash of a whole disk that needs no order and reads no zeroes: each block is hashed by itself, and
/// then the hashes of all blocks, in order, with the size of the disk after them (64 bits, little endian).
///
/// It is what nbdcopy prints with `--blkhash`, given the same function and length of block; its
/// defaults are SHA-256 and 64 KiB.
///
/// ```
/// # use nbd_client::{Connection, testing};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nbd_client::Result<()> {
/// # let server = testing::Server::new(testing::Export::new(1 << 20));
/// # let source = Connection::new();
/// # source.connect_stream(server.connect()).await?;
/// use nbd_client::{BlockHash, Destination, Digest, copy};
///
/// /// The sum of all bytes; use a real hash.
/// struct Sum(u64);
///
/// impl Digest for Sum {
///     fn update(&mut self, bytes: &[u8]) {
///         self.0 += bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
///     }
///
///     fn finish(&mut self) -> Vec<u8> {
///         std::mem::take(&mut self.0).to_le_bytes().into()
///     }
/// }
///
/// let sum = BlockHash::new(65536, || Sum(0));
/// let copied = copy(source, Destination::nothing()).hash(sum).await?;
/// assert!(copied.hash.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct BlockHash {
    block: u64,
    make: Arc<dyn Fn() -> Box<dyn Digest> + Send + Sync>,
}

impl BlockHash {
    /// Makes it of a function and the length of a block in bytes, which is a power of two, or is
    /// rounded up to one.
    pub fn new<D: Digest + 'static>(
        block: u32,
        digest: impl Fn() -> D + Send + Sync + 'static,
    ) -> Self {
        Self {
            block: u64::from(block.max(1)).next_power_of_two(),
            make: Arc::new(move || Box::new(digest())),
        }
    }

    /// The length of a block in bytes.
    pub(super) const fn block(&self) -> u64 {
        self.block
    }
}

impl fmt::Debug for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockHash")
            .field("block", &self.block)
            .finish_non_exhaustive()
    }
}

/// The hashes of the blocks of a part of the disk.
#[derive(Debug)]
pub(super) enum Hashes {
    /// One after the other.
    Blocks(Vec<u8>),
    /// All blocks are zero.
    Zeroes,
}

impl BlockHash {
    /// Hashes the blocks of data that begins with a block.
    pub(super) fn hash(&self, data: &[u8]) -> Hashes {
        if is_zero(data) {
            return Hashes::Zeroes;
        }
        let block = usize::try_from(self.block).unwrap_or(usize::MAX);
        let mut digest = (self.make)();
        let mut hashes = Vec::new();
        for block in data.chunks(block) {
            digest.update(block);
            hashes.extend(digest.finish());
        }
        Hashes::Blocks(hashes)
    }
}

/// The hash of a disk of which parts come in any order.
pub(super) struct Root {
    hash: BlockHash,
    digest: Box<dyn Digest>,
    /// The hash of a block of zeroes.
    zero: Vec<u8>,
    /// Up to where all parts have come, in bytes.
    reached: u64,
    /// The parts after that, by where they begin, and where they end.
    waiting: BTreeMap<u64, (u64, Hashes)>,
}

impl Root {
    pub(super) fn new(hash: BlockHash) -> Self {
        let zeroes = vec![0; usize::try_from(hash.block).unwrap_or(usize::MAX)];
        let mut digest = (hash.make)();
        digest.update(&zeroes);
        Self {
            zero: digest.finish(),
            digest,
            hash,
            reached: 0,
            waiting: BTreeMap::new(),
        }
    }

    /// Adds a part.
    pub(super) fn add(&mut self, range: &Range<u64>, hashes: Hashes) {
        self.waiting.insert(range.start, (range.end, hashes));
        while let Some((end, hashes)) = self.waiting.remove(&self.reached) {
            match hashes {
                Hashes::Blocks(hashes) => self.digest.update(&hashes),
                Hashes::Zeroes => self.add_zeroes(end - self.reached),
            }
            self.reached = end;
        }
    }

    fn add_zeroes(&mut self, length: u64) {
        for _ in 0..length / self.hash.block {
            self.digest.update(&self.zero);
        }
        // The last block of the disk may be short.
        let rest = usize::try_from(length % self.hash.block).unwrap_or_default();
        if rest > 0 {
            let mut digest = (self.hash.make)();
            digest.update(&vec![0; rest]);
            self.digest.update(&digest.finish());
        }
    }

    /// Returns the hash of all.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        self.digest.update(&self.reached.to_le_bytes());
        self.digest.finish()
    }
}
