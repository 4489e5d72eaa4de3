//! Copies of random disks between random places.

use std::path::Path;

use super::*;
use crate::shared::long;
use crate::shared::random::Random;

/// A random disk: runs of data and of zeroes of all lengths.
fn content(random: &mut Random, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut at = 0;
    while at < size {
        let length = match random.below(4) {
            0 => random.below(600),
            1 => 4096 * random.below(12),
            2 => random.below(200_000),
            _ => 65536 * random.below(4),
        };
        let end = (at + length as usize + 1).min(size);
        if random.below(2) == 0 {
            bytes[at..end].copy_from_slice(&random.bytes(end - at));
        }
        at = end;
    }
    bytes
}

/// An export with this content, rounded up to its blocks.
fn export(random: &mut Random, content: &[u8]) -> Export {
    let minimum = [1, 512, 4096][random.below(3) as usize];
    let preferred = [512, 4096, 65536][random.below(3) as usize].max(minimum);
    let size = content.len().next_multiple_of(minimum as usize);
    let mut bytes = content.to_vec();
    bytes.resize(size, 0);
    let export = Export::new(size as u64).block_sizes(minimum, preferred, 32 << 20);
    for (number, block) in bytes.chunks(4096).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            export.write(number as u64 * 4096, block);
        }
    }
    export
}

/// A connection of a random kind.
async fn connection(random: &mut Random, export: &Export) -> Connection {
    let builder = match random.below(3) {
        0 => Connection::builder(),
        1 => builder().structured_replies(false).extended_headers(false),
        _ => builder(),
    };
    connect_with(&Server::new(export.clone()), builder).await
}

async fn source(random: &mut Random, directory: &Path, content: &[u8]) -> Source {
    match random.below(4) {
        0 => {
            let path = directory.join("source");
            std::fs::write(&path, content).unwrap();
            Source::file(path)
        }
        1 => Source::stream(std::io::Cursor::new(content.to_vec())),
        _ => {
            let export = export(random, content);
            connection(random, &export).await.into()
        }
    }
}

fn set_up(random: &mut Random, copying: Copying) -> Copying {
    let mut copying = copying
        .request_size(1 << (9 + random.below(12)))
        .requests(1 + random.below(20) as usize)
        .extents(random.below(4) > 0)
        .allocated(random.below(4) == 0);
    match random.below(4) {
        0 => copying = copying.sparse(None),
        1 => copying = copying.sparse(512),
        _ => {}
    }
    copying
}

async fn to_export(random: &mut Random, source: Source, content: &[u8]) {
    // The source may have been rounded up to its blocks.
    let rest = content.len().next_multiple_of(4096);
    let size = rest + random.below(3) as usize * 5000;
    let before = match random.below(3) {
        0 => vec![0; size],
        _ => random.bytes(size),
    };
    let is_zero = before.iter().all(|byte| *byte == 0);
    let destination = export(random, &before);
    let target = connection(random, &destination).await;
    let mut copying = set_up(random, copy(source, target));
    if is_zero && random.below(2) == 0 {
        copying = copying.destination_is_zero(true);
    }
    let copied = run(copying).await.unwrap();
    let found = destination.contents(0, size);
    assert!(
        found[..content.len()] == *content,
        "a wrong copy: {copied:?}"
    );
    assert!(found[rest..] == before[rest..], "too much was written");
    assert_eq!(copied.data + copied.zeroes, copied.size);
}

async fn to_file(random: &mut Random, source: Source, directory: &Path, content: &[u8]) {
    let path = directory.join("destination");
    if random.below(2) == 0 {
        std::fs::write(&path, random.bytes(300_000)).unwrap();
    }
    let copying = set_up(random, copy(source, Destination::file(&path)));
    let copied = run(copying).await.unwrap();
    check(&std::fs::read(&path).unwrap(), content, &copied);
}

async fn to_stream(random: &mut Random, source: Source, content: &[u8]) {
    let (ours, theirs) = tokio::io::duplex(10_000);
    let mut theirs = theirs;
    let taken = tokio::spawn(async move {
        let mut all = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut theirs, &mut all)
            .await
            .map(|_| all)
    });
    let copying = set_up(random, copy(source, Destination::stream(ours)));
    let copied = run(copying).await.unwrap();
    let found = watch(taken).await.unwrap().unwrap();
    check(&found, content, &copied);
}

/// The source may have been rounded up to its blocks.
fn check(found: &[u8], content: &[u8], copied: &Copied) {
    assert!(found.len() - content.len() < 4096);
    assert!(
        found[..content.len()] == *content,
        "a wrong copy: {copied:?}"
    );
    assert!(found[content.len()..].iter().all(|byte| *byte == 0));
    assert_eq!(found.len() as u64, copied.size);
}

both_runtimes!(random_disks_are_copied_as_they_are);

async fn random_disks_are_copied_as_they_are() {
    let mut random = Random::new(1);
    for case in 0..200 * long::factor() {
        let mut random = random.fork();
        let directory = tempfile::tempdir().unwrap();
        let size = match random.below(8) {
            0 => random.below(3),
            1 => random.below(5000),
            _ => random.below(1 << 20),
        };
        let content = content(&mut random, size as usize);
        println!("case {case}: {size} bytes");
        let source = source(&mut random, directory.path(), &content).await;
        match random.below(4) {
            0 => to_file(&mut random, source, directory.path(), &content).await,
            1 => to_stream(&mut random, source, &content).await,
            _ => to_export(&mut random, source, &content).await,
        }
    }
}
