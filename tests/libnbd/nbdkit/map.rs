//! meta-base-allocation; a 10 TiB export and one with very many extents.

use futures::TryStreamExt;
use nbd_client::{Connection, Extent, context};

use super::connect;
use crate::shared::server::Dir;

const BASE: &str = context::BASE_ALLOCATION;

/// The script of libnbd's test: data, a hole, a hole that reads as zeroes, zeroes, data.
const EXTENTS: &str = "cat <<END
0     8192
8192  8192  hole
16384 16384 hole,zero
32768 16384 zero
49152 16384
END";

async fn mapped() -> Connection {
    let extents = format!("extents={EXTENTS}");
    let plugin = [
        "eval",
        "get_size=echo 65536",
        "pread=exit 1",
        "can_extents=exit 0",
        &extents,
    ];
    let builder = Connection::builder()
        .meta_context("libnbd:nothing")
        .meta_context(BASE);
    connect(builder, &plugin).await
}

fn extents(list: &[(u64, u64, u64)]) -> Vec<Extent> {
    let extent = |&(offset, length, flags)| Extent::new(offset, length, flags);
    list.iter().map(extent).collect()
}

both_runtimes!(every_kind_of_extent_is_told_apart);
async fn every_kind_of_extent_is_told_apart() {
    let conn = mapped().await;
    assert!(conn.can_meta_context(BASE).unwrap());
    assert!(!conn.can_meta_context("libnbd:nothing").unwrap());
    let all = extents(&[
        (0, 8192, 0),
        (8192, 8192, Extent::HOLE),
        (16384, 16384, Extent::HOLE | Extent::ZERO),
        (32768, 16384, Extent::ZERO),
        (49152, 16384, 0),
    ]);
    let status = conn.block_status(0, 65536).await.unwrap();
    assert_eq!(status.get(BASE).unwrap(), all);
    assert_eq!(status.len(), 1);
    let stream: Vec<_> = conn.extents(BASE, ..).try_collect().await.unwrap();
    assert_eq!(stream, all);
    let words: Vec<_> = all.iter().map(|e| e.status(BASE).to_string()).collect();
    assert_eq!(words, ["data", "hole", "hole,zero", "zero", "data"]);
}

both_runtimes!(range_between_extents_is_told_as_far_as_the_server_likes);
async fn range_between_extents_is_told_as_far_as_the_server_likes() {
    let conn = mapped().await;
    let status = conn.block_status(32256, 1024).await.unwrap();
    let found = status.get(BASE).unwrap();
    let hole = Extent::HOLE | Extent::ZERO;
    assert_eq!(found, extents(&[(32256, 512, hole), (32768, 16384, 2)]));
    // P-170: REQ_ONE gives one extent.
    let status = conn.block_status(32256, 1024).req_one().await.unwrap();
    assert_eq!(status.get(BASE).unwrap(), extents(&[(32256, 512, hole)]));
    // The stream cuts what goes beyond.
    let cut: Vec<_> = conn
        .extents(BASE, 32256..33280)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(cut, extents(&[(32256, 512, hole), (32768, 512, 2)]));
}

both_runtimes!(ten_terabytes_of_nothing_are_one_extent);
async fn ten_terabytes_of_nothing_are_one_extent() {
    let builder = Connection::builder().meta_context(BASE);
    let conn = connect(builder, &["memory", "10T"]).await;
    conn.write(5 << 40, vec![1; 4096]).await.unwrap();
    let map: Vec<_> = conn.extents(BASE, ..).merged().try_collect().await.unwrap();
    assert_eq!(map.len(), 3, "{map:?}");
    assert_eq!(map[2].end(), 10 << 40);
    // Compact headers: at least one request for every 4 GiB, and not many more.
    let requests = conn.stats().messages_sent;
    assert!((2560..2700).contains(&requests), "{requests}");
}

/// The largest amount of memory this process has had, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse().unwrap()
}

#[test]
fn map_of_a_hundred_thousand_extents_takes_little_memory() {
    // Alone in its process: the peak is that of all tests together.
    const ALONE: &str = "LIBNBD_MAP_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "nbdkit::map::map_of_a_hundred_thousand_extents_takes_little_memory";
        let test = std::env::current_exe().unwrap();
        let output = std::process::Command::new(test)
            .args(["--exact", name, "--nocapture"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        assert!(text.contains("1 passed"), "no test is called {name}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        // Ten terabytes, of which the list says how they alternate.
        const EXTENTS: u64 = 100_000;
        const EACH: u64 = (10 << 40) / EXTENTS / 512 * 512;
        let dir = Dir::new();
        let mut list = String::new();
        for number in (0..EXTENTS).step_by(2) {
            list += &format!("{} {EACH}\n", number * EACH);
        }
        let list = dir.file("extents", list);
        let plugin = ["--filter=extentlist", "memory", "10T"];
        let list = format!("extentlist={list}");
        let plugin = [&plugin[..], &[&list]].concat();
        let conn = connect(Connection::builder().meta_context(BASE), &plugin).await;
        let before = peak();
        let (mut count, mut end) = (0, 0);
        let mut map = conn.extents(BASE, ..).merged();
        while let Some(extent) = map.try_next().await.unwrap() {
            assert_eq!(extent.offset, end);
            end = extent.end();
            count += 1;
        }
        assert_eq!(end, 10 << 40);
        assert!(count >= EXTENTS, "{count}");
        // All of them at once would be 2.4 MB in this form alone.
        let grown = peak() - before;
        assert!(grown < 1024, "{grown} KiB for {count} extents");
    });
}
