//! A disk with a sector that cannot be read.

use bytes::BytesMut;
use futures::TryStreamExt;
use nbd_client::wire::Errno;
use nbd_client::{Builder, Connection, Error, ErrorKind};

use super::connect;
use crate::shared::random::Random;
use crate::shared::server::{Dir, Server};

const SIZE: usize = 1 << 20;
/// Where the bad sector begins.
const BAD: u64 = 128 * 512;

/// A server whose disk has a bad sector, the disk, and what is on it.
fn server() -> (Server, Dir, Vec<u8>) {
    let dir = Dir::new();
    let data = Random::new(16).bytes(SIZE);
    let disk = dir.file("disk", &data);
    let rule = "[inject-error]\nevent = \"none\"\nerrno = \"5\"\nsector = \"128\"\n";
    let rules = dir.file("rules", rule);
    let image = format!(
        "driver=raw,file.driver=blkdebug,file.config={rules},\
         file.image.driver=file,file.image.filename={disk}"
    );
    (Server::qemu(&["--image-opts", &image]), dir, data)
}

fn assert_eio<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.unwrap_err();
    let is_eio = matches!(&error, Error::Request(error) if error.errno() == Errno::EIO);
    assert!(is_eio, "{error}");
}

/// Reads around the bad sector and in it: each fails or succeeds for itself.
async fn read_around(builder: Builder) {
    let (server, _dir, data) = server();
    let conn = connect(&server, builder).await;
    let good = BAD as usize + 512;
    for _ in 0..3 {
        let (bad, before, behind) = tokio::join!(
            conn.read(BAD, 512).into_future(),
            conn.read(0, BAD as usize).into_future(),
            conn.read(good as u64, SIZE - good).into_future()
        );
        assert_eio(bad);
        assert!(before.unwrap() == data[..BAD as usize]);
        assert!(behind.unwrap() == data[good..]);
        assert_eio(conn.read(0, SIZE).await);
        assert_eio(conn.read_into(0, BytesMut::zeroed(SIZE)).await);
        let chunks = conn.read_structured(BAD - 4096, 8192);
        assert_eio(chunks.try_collect::<Vec<_>>().await);
    }
    conn.disconnect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_sector_fails_the_reads_of_it_and_no_others() {
    read_around(Connection::builder().dont_fragment_reads(true)).await;
    let structured = Connection::builder().extended_headers(false);
    read_around(structured.dont_fragment_reads(true)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_sector_fails_the_reads_of_it_where_replies_are_simple() {
    let simple = Connection::builder().structured_replies(false);
    read_around(simple.clone()).await;
    read_around(simple.dont_fragment_reads(true)).await;
}

// The protocol has error chunks for this, but qemu-nbd 10 says "Failed to send reply" on its
// standard error, and hangs up. Here it may do better one day, and may not do worse.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_sector_read_in_pieces_is_an_error_or_the_end_of_the_connection() {
    let (server, _dir, data) = server();
    let conn = connect(&server, Connection::builder()).await;
    match conn.read(BAD, 512).await {
        Err(error) if error.kind() == ErrorKind::Disconnected => {
            assert!(server.stderr().contains("Failed to send reply"));
            let again = connect(&server, Connection::builder()).await;
            assert!(again.read(0, 4096).await.unwrap() == data[..4096]);
        }
        result => assert_eio(result),
    }
}
