//! Hashes of what is copied.

use super::*;
use nbd_client::{BlockHash, Digest};
use sha2::{Digest as _, Sha256};

#[derive(Default)]
struct Sha(Sha256);

impl Digest for Sha {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&mut self) -> Vec<u8> {
        self.0.finalize_reset().to_vec()
    }
}

async fn hash(export: &Export, block: u32, step: usize) -> String {
    let hash = BlockHash::new(block, Sha::default);
    let copying = copy(connect(export).await, Destination::nothing()).hash(hash);
    hex(run(copying.request_size(step)).await.unwrap())
}

fn hex(copied: Copied) -> String {
    let bytes = copied.hash.expect("there is a hash");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn export(size: u64, parts: &[(u64, &[u8])]) -> Export {
    let export = Export::new(size);
    for (offset, data) in parts {
        export.write(*offset, data);
    }
    export
}

// The values are those of the tests of nbdcopy.
both_runtimes!(hashes_are_those_of_nbdcopy);
async fn hashes_are_those_of_nbdcopy() {
    let pattern = b"12345678".repeat(512 * 256);
    for (export, expected) in [
        (
            export(0, &[]),
            "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc",
        ),
        (
            export(5, &[(0, b"hello")]),
            "337355feb53a5309d5aba92796223c2c84ffab930e706c01fef573a2722545e6",
        ),
        (
            export((1 << 20) + 7, &[(0, b"hello"), (1 << 20, b"goodbye")]),
            "61b8f3a8cea76e16eeff7ce27f1b7711c1f1e437f5038cec17773772a4bded28",
        ),
        (
            export(1 << 20, &[(0, &pattern)]),
            "cbb388edd25e567b85f504c7b345497f9fb4f6bbf4e39768809184b9f9e678f8",
        ),
    ] {
        for step in [512, 65536, 1 << 20] {
            assert_eq!(hash(&export, 65536, step).await, expected, "{step}");
        }
    }
}

both_runtimes!(every_way_of_copying_gives_the_same_hash);
async fn every_way_of_copying_gives_the_same_hash() {
    let source = sparse((4 << 20) + 512);
    let expected = hash(&source, 4096, 65536).await;
    let with = |copying: Copying| copying.hash(BlockHash::new(4096, Sha::default));
    let from = connect(&source).await;
    let to = connect(&Export::new(8 << 20)).await;
    assert_eq!(hex(run(with(copy(&from, to))).await.unwrap()), expected);
    let out = Destination::stream(tokio::io::sink());
    assert_eq!(hex(run(with(copy(&from, out))).await.unwrap()), expected);
    let plain = connect_with(&Server::new(source.clone()), Connection::builder()).await;
    let copied = run(with(copy(plain, Destination::nothing())))
        .await
        .unwrap();
    assert_eq!(hex(copied), expected);
    let bytes = std::io::Cursor::new(source.contents(0, (4 << 20) + 512));
    let copied = run(with(copy(Source::stream(bytes), Destination::nothing()))).await;
    assert_eq!(hex(copied.unwrap()), expected);
    let part = copy(from, Destination::nothing()).only("qemu:dirty-bitmap:b");
    let error = failure(with(part)).await;
    assert!(matches!(error.fault(), CopyFault::Impossible(_)), "{error}");
}
