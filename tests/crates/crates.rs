//! A `Cursor` in the hands of crates that read and write files.
//!
//! Each test is run on exports with blocks of 512 and of 4096 bytes, in process and of nbdkit, which
//! refuse requests that are not aligned. What needs files of the standard library runs on a thread
//! of its own, over `SyncIoBridge`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod archives;
mod disks;

use std::future::Future;
use std::time::Duration;

use nbd_client::testing::{Export, Server};
use nbd_client::{Connection, Cursor};
use tokio_util::io::SyncIoBridge;

/// The size of the exports, in bytes.
const SIZE: u64 = 16 << 20;

/// An export to use, and its name for messages.
struct Place {
    name: String,
    /// The minimum block size, in bytes.
    block: u32,
    conn: Connection,
    /// Keeps the server in process.
    _server: Option<Server>,
}

/// Connects to nbdkit, which serves `plugin` with blocks of this size and refuses anything else.
async fn nbdkit(block: u32, plugin: &[&str]) -> Connection {
    let conn = Connection::new();
    let mut words = [
        "nbdkit",
        "-s",
        "--exit-with-parent",
        "--filter=blocksize-policy",
    ]
    .to_vec();
    let sizes = [
        format!("blocksize-minimum={block}"),
        "blocksize-preferred=4096".to_owned(),
        "blocksize-maximum=1M".to_owned(),
        "blocksize-error-policy=error".to_owned(),
    ];
    words.extend(plugin);
    words.extend(sizes.iter().map(String::as_str));
    conn.connect_command(words).await.unwrap();
    assert!(conn.read(0, 511).await.is_err(), "nothing unaligned");
    conn
}

/// The exports to test on. They are empty.
async fn places() -> Vec<Place> {
    let mut places = Vec::new();
    for block in [512, 4096] {
        let server = Server::new(Export::new(SIZE).block_sizes(block, 4096, 1 << 20));
        let conn = Connection::new();
        conn.connect_stream(server.connect()).await.unwrap();
        places.push(Place {
            name: format!("in process, blocks of {block}"),
            block,
            conn,
            _server: Some(server),
        });
        places.push(Place {
            name: format!("nbdkit, blocks of {block}"),
            block,
            conn: nbdkit(block, &["memory", "16M"]).await,
            _server: None,
        });
    }
    places
}

/// Waits for something that must happen, but not for ever.
async fn within<F: Future>(future: F) -> F::Output {
    let result = tokio::time::timeout(Duration::from_secs(120), future).await;
    result.expect("it has not happened after two minutes")
}

/// Uses a cursor as a file of the standard library, on a thread of its own.
async fn as_file<T: Send + 'static>(
    cursor: Cursor,
    work: impl FnOnce(SyncIoBridge<Cursor>) -> T + Send + 'static,
) -> T {
    let bridge = SyncIoBridge::new(cursor);
    within(tokio::task::spawn_blocking(|| work(bridge)))
        .await
        .unwrap()
}

/// Content that does not compress to nothing, and differs from seed to seed.
fn content(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    (0..length).map(|_| next()).collect()
}

/// Names and contents of the files that the tests store: empty, small, and of several requests.
fn files() -> Vec<(String, Vec<u8>)> {
    let lengths = [0, 1, 511, 512, 4097, 70_000, 1_000_003];
    let files = (0u32..).zip(lengths);
    files
        .map(|(seed, length)| (format!("file-{length}.bin"), content(seed, length)))
        .collect()
}
