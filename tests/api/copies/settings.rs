//! What can be set.

use std::time::Instant;

use super::*;
use nbd_client::RateLimit;

both_runtimes!(only_dirty_ranges_are_copied_and_dirty_zeroes_are_written);

async fn only_dirty_ranges_are_copied_and_dirty_zeroes_are_written() {
    const BITMAP: &str = "qemu:dirty-bitmap:b";
    let size = 1 << 20;
    let (clean, dirty) = (0, 1);
    let source = Export::new(size).context(
        BITMAP,
        [
            (131_072, clean),
            (65536, dirty),
            (131_072, clean),
            (131_072, dirty),
            (size - 458_752, clean),
        ],
    );
    source.fill(0, 65536, 1);
    source.fill(131_072, 65536, 2);
    let destination = Export::new(size);
    destination.fill(0, size, 9);
    let from = connect_with(&Server::new(source), builder().meta_context(BITMAP)).await;
    let copying = copy(&from, connect(&destination).await).only(BITMAP);
    // Even if somebody says that it is zero.
    let copied = run(copying.destination_is_zero(true)).await.unwrap();
    assert_eq!(copied.data, 65536);
    assert_eq!(copied.zeroes, 131_072);
    assert_eq!(copied.skipped, size - 196_608);
    let found = destination.contents(0, size as usize);
    let of = |range: std::ops::Range<usize>, byte: u8| found[range].iter().all(|it| *it == byte);
    assert!(of(0..131_072, 9) && of(131_072..196_608, 2) && of(196_608..327_680, 9));
    assert!(of(327_680..458_752, 0) && of(458_752..size as usize, 9));

    let error = failure(copy(&from, Destination::nothing()).only("qemu:dirty-bitmap:c")).await;
    assert!(error.to_string().contains("qemu:dirty-bitmap:c"), "{error}");
}

both_runtimes!(an_allocated_destination_has_room_for_its_zeroes);

async fn an_allocated_destination_has_room_for_its_zeroes() {
    let directory = tempfile::tempdir().unwrap();
    let blocks = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        let path = directory.path().join(name);
        std::fs::metadata(path).unwrap().blocks() * 512
    };
    let source = sparse(8 << 20);
    let from = connect(&source).await;
    let to = |name: &str| Destination::file(directory.path().join(name));
    run(copy(&from, to("sparse"))).await.unwrap();
    run(copy(&from, to("full")).allocated(true)).await.unwrap();
    assert!(blocks("sparse") < 1 << 20);
    assert!(blocks("full") >= 8 << 20);
    let read = |name: &str| std::fs::read(directory.path().join(name)).unwrap();
    assert!(read("sparse") == read("full"));
}

both_runtimes!(a_limit_on_the_rate_holds_and_can_be_lifted);

async fn a_limit_on_the_rate_holds_and_can_be_lifted() {
    let source = Export::new(1 << 20);
    source.fill(0, 1 << 20, 1);
    let from = connect(&source).await;
    let limit = RateLimit::new(1 << 20);
    let begun = Instant::now();
    let copying = copy(&from, Destination::nothing()).request_size(65536);
    let copying = spawn(copying.rate(&limit));
    // As slow as that, it would take hours.
    limit.set(100);
    let another = copy(&from, Destination::nothing()).request_size(65536);
    let another = spawn(another.rate(&limit));
    tokio::task::yield_now().await;
    limit.set(None);
    watch(copying).await.unwrap().unwrap();
    watch(another).await.unwrap().unwrap();
    // At the least: fifteen of sixteen requests after the first at this rate.
    let limit = RateLimit::new(4 << 20);
    let slow = copy(&from, Destination::nothing()).request_size(65536);
    let slow_begun = Instant::now();
    run(slow.rate(&limit)).await.unwrap();
    assert!(slow_begun.elapsed() >= Duration::from_millis(230));
    assert!(begun.elapsed() < Duration::from_secs(60));
}

both_runtimes!(memory_is_bounded);

async fn memory_is_bounded() {
    let source = Export::new(1 << 20);
    source.fill(0, 1 << 20, 1);
    let server = Server::new(source);
    server.pause();
    let from = connect_with(&server, builder()).await;
    let copying = copy(&from, Destination::nothing()).request_size(65536);
    let copying = spawn(copying.memory(4 * 65536).extents(false));
    while from.in_flight() < 4 {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
        assert!(from.in_flight() <= 4);
    }
    server.resume();
    watch(copying).await.unwrap().unwrap();
}

/// How many reads a copy of 32 MiB makes from a server that takes this long for each, in virtual time.
async fn reads_at(latency: Duration) -> u64 {
    let source = Export::new(32 << 20);
    let server = Server::builder().export("", source.clone());
    let server = server.latency(latency).build();
    let from = connect_with(&server, Connection::builder()).await;
    let copied = run(copy(&from, Destination::nothing())).await.unwrap();
    assert_eq!(copied.size, 32 << 20);
    source.counters().reads
}

#[tokio::test(start_paused = true)]
async fn requests_are_longer_where_answers_take_long() {
    assert_eq!(reads_at(Duration::from_millis(1)).await, 128);
    let far = reads_at(Duration::from_millis(20)).await;
    assert_eq!(far, 16 + 28, "the first are short");
}
