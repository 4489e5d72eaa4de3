//! What a disk should hold, beside what it does hold.

use std::fs;

use nbd_client::Connection;

use crate::shared::random::Random;

/// Sizes and offsets are multiples of this, which suits every server.
const BLOCK: u64 = 512;

/// The content that a series of commands should leave behind.
pub(crate) struct Model {
    bytes: Vec<u8>,
    /// P-140: what was trimmed may hold anything.
    known: Vec<bool>,
}

impl Model {
    /// Of a disk of zeroes.
    pub(crate) fn new(size: u64) -> Self {
        let size = usize::try_from(size).unwrap();
        Self {
            bytes: vec![0; size],
            known: vec![true; size],
        }
    }

    /// Runs `count` random commands one after the other, checking each read, and at last makes
    /// them durable.
    pub(crate) async fn exercise(&mut self, conn: &Connection, random: &mut Random, count: usize) {
        let export = conn.export().unwrap();
        let blocks = self.bytes.len() as u64 / BLOCK;
        for _ in 0..count {
            let start = random.below(blocks);
            let length = BLOCK * (1 + random.below((blocks - start).min(128)));
            let offset = BLOCK * start;
            let range = offset as usize..(offset + length) as usize;
            match random.below(6) {
                0 | 1 => {
                    let data = random.bytes(length as usize);
                    self.bytes[range.clone()].copy_from_slice(&data);
                    self.known[range].fill(true);
                    let write = conn.write(offset, data);
                    let fua = export.can_fua() && random.below(4) == 0;
                    if fua { write.fua().await } else { write.await }.unwrap();
                }
                2 if export.can_zero() => {
                    self.bytes[range.clone()].fill(0);
                    self.known[range].fill(true);
                    let zero = conn.write_zeroes(offset, length);
                    let no_hole = random.below(2) == 0;
                    if no_hole { zero.no_hole() } else { zero }.await.unwrap();
                }
                3 if export.can_trim() => {
                    self.known[range].fill(false);
                    conn.trim(offset, length).await.unwrap();
                }
                4 if export.can_flush() => conn.flush().await.unwrap(),
                _ => {
                    let data = conn.read(offset, length as usize).await.unwrap();
                    self.verify(range.start, &data);
                }
            }
        }
        conn.flush().await.unwrap();
    }

    /// Checks what is held at an offset.
    pub(crate) fn verify(&self, offset: usize, held: &[u8]) {
        let range = offset..offset + held.len();
        let expected = self.bytes[range.clone()].iter().zip(&self.known[range]);
        for (at, (held, (expected, known))) in held.iter().zip(expected).enumerate() {
            assert!(
                !known || held == expected,
                "byte {} is {held:#x}, not {expected:#x}",
                offset + at
            );
        }
    }

    /// Checks a file from beginning to end.
    pub(crate) fn verify_file(&self, path: &str) {
        let held = fs::read(path).unwrap();
        assert_eq!(held.len(), self.bytes.len(), "the size of the file");
        self.verify(0, &held);
    }
}

/// Caches, zeroes and trims 10 GiB by one call each, and looks around the places where messages may
/// meet, and at the ends.
pub(crate) async fn ten_gibibytes(conn: &Connection) {
    let length = 10 << 30;
    let inside = [4096, (4 << 30) - 4096, 4 << 30, 8 << 30, length];
    let outside = [0, 4096 + length];
    for at in inside.into_iter().chain(outside) {
        conn.write(at, vec![7; 4096]).await.unwrap();
    }
    conn.cache(4096, length).await.unwrap();
    conn.write_zeroes(4096, length).await.unwrap();
    for at in inside {
        assert_eq!(conn.read(at, 4096).await.unwrap(), vec![0; 4096], "{at}");
    }
    for at in outside {
        assert_eq!(conn.read(at, 4096).await.unwrap(), vec![7; 4096], "{at}");
    }
    conn.trim(4096, length).await.unwrap();
}
