//! Extended headers, which qemu-nbd has since version 8.2.

use nbd_client::{Connection, Error, Extent, InvalidRequest};

use super::bitmap::{self, BASE, DEPTH, DIRTY};
use super::connect;
use crate::shared::random::Random;
use crate::shared::server::{Dir, Server, run};

const TIB: u64 = 1 << 40;

/// Fails where qemu-nbd is too old for any of these tests.
fn require_version() {
    let text = run("qemu-nbd", &["--version"]);
    let version = text.split_whitespace().nth(1).unwrap();
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    assert!(
        version >= (8, 2),
        "this test needs a qemu-nbd with extended headers, which came with 8.2; \
         this is {}.{}; tests/run leaves these tests out",
        version.0,
        version.1
    );
}

/// One tebibyte of zeroes.
fn huge() -> Server {
    require_version();
    let image = "driver=null-co,size=1T,read-zeroes=on";
    Server::qemu(&["-r", "--image-opts", image])
}

// X-03: an extended request has 32 bytes; X-07: extended replies carry the request's offset.
both_runtimes!(extended_headers_are_agreed_on);
async fn extended_headers_are_agreed_on() {
    require_version();
    let dir = Dir::new();
    let disk = dir.disk("disk", 1 << 20);
    let server = Server::qemu(&["-f", "raw", &disk]);
    let conn = connect(&server, Connection::builder()).await;
    let protocol = conn.protocol().unwrap();
    assert!(protocol.extended_headers);
    assert!(protocol.structured_replies);
    let data = Random::new(5).bytes(70_000);
    conn.write(4321, data.clone()).fua().await.unwrap();
    assert!(conn.read(4321, 70_000).await.unwrap() == data);
    assert!(std::fs::read(&disk).unwrap()[4321..4321 + 70_000] == data);
}

// X-08: wide status only with extended headers.
both_runtimes!(one_extent_is_longer_than_32_bits_can_say);
async fn one_extent_is_longer_than_32_bits_can_say() {
    let server = huge();
    let conn = connect(&server, Connection::builder().meta_context(BASE)).await;
    let status = conn.block_status(0, TIB).await.unwrap();
    let extents = status.get(BASE).unwrap();
    assert_eq!(extents.len(), 1, "{extents:?}");
    assert_eq!((extents[0].offset, extents[0].length), (0, TIB));
    assert_ne!(extents[0].flags & Extent::ZERO, 0);
}

// P-172: the same disk with 32-bit headers comes in pieces.
both_runtimes!(without_extended_headers_an_extent_fits_32_bits);
async fn without_extended_headers_an_extent_fits_32_bits() {
    let server = huge();
    let builder = Connection::builder()
        .meta_context(BASE)
        .extended_headers(false);
    let conn = connect(&server, builder).await;
    let status = conn.block_status(0, TIB).await.unwrap();
    let last = status.get(BASE).unwrap().last().unwrap();
    assert!(last.end() <= 1 << 32, "{last:?}");
    assert!(last.end() >= 1 << 31, "{last:?}");
}

// X-06: the effect of a command may be longer than 4 GiB.
both_runtimes!(zeroes_are_written_over_more_than_4_gib_at_once);
async fn zeroes_are_written_over_more_than_4_gib_at_once() {
    require_version();
    let dir = Dir::new();
    let disk = dir.disk("disk", 6 << 30);
    let server = Server::qemu(&["-f", "raw", "--discard=unmap", &disk]);
    let conn = connect(&server, Connection::builder()).await;
    conn.write((6 << 30) - 4096, vec![1; 4096]).await.unwrap();
    conn.write_zeroes(0, 6 << 30).await.unwrap();
    let data = conn.read((6 << 30) - 4096, 4096).await.unwrap();
    assert_eq!(data, vec![0; 4096]);
    conn.trim(0, 5 << 30).await.unwrap();
}

both_runtimes!(one_status_answers_for_every_context);
async fn one_status_answers_for_every_context() {
    require_version();
    let (server, _dir) = bitmap::server();
    let conn = connect(&server, bitmap::contexts()).await;
    let status = conn.block_status(0, 64 << 20).await.unwrap();
    assert_eq!(status.len(), 3);
    let hole = Extent::HOLE | Extent::ZERO;
    assert_eq!(status.get(BASE).unwrap(), bitmap::written(0, hole));
    assert_eq!(status.get(DEPTH).unwrap(), bitmap::written(1, 0));
    assert_eq!(status.get(DIRTY).unwrap(), bitmap::dirty());
}

// X-10: a choice of contexts is a payload.
both_runtimes!(a_status_can_be_limited_to_some_contexts);
async fn a_status_can_be_limited_to_some_contexts() {
    require_version();
    let (server, _dir) = bitmap::server();
    let conn = connect(&server, bitmap::contexts()).await;
    assert!(conn.export().unwrap().can_block_status_payload());
    let status = conn.block_status(0, 64 << 20).contexts([DIRTY]).await;
    let status = status.unwrap();
    assert_eq!(status.len(), 1);
    assert_eq!(status.get(DIRTY).unwrap(), bitmap::dirty());
    let status = conn.block_status(0, 64 << 20).contexts([BASE, DIRTY]).await;
    let status = status.unwrap();
    assert_eq!(status.len(), 2);
    assert_eq!(status.get(DIRTY).unwrap(), bitmap::dirty());
    assert!(status.get(BASE).is_some() && status.get(DEPTH).is_none());
}

// P-170: REQ_ONE gives one extent; X-10: a choice of contexts is a payload.
both_runtimes!(one_extent_of_one_context_is_all_there_is);
async fn one_extent_of_one_context_is_all_there_is() {
    require_version();
    let (server, _dir) = bitmap::server();
    let conn = connect(&server, bitmap::contexts()).await;
    let status = conn
        .block_status(2 << 20, 62 << 20)
        .contexts([DIRTY])
        .req_one();
    let expected = [Extent::new(2 << 20, 65536, Extent::DIRTY)];
    assert_eq!(status.await.unwrap().get(DIRTY).unwrap(), expected);
}

// X-10: the server would answer EINVAL.
both_runtimes!(a_context_that_was_not_negotiated_is_refused_without_asking_the_server);
async fn a_context_that_was_not_negotiated_is_refused_without_asking_the_server() {
    require_version();
    let (server, _dir) = bitmap::server();
    let conn = connect(&server, Connection::builder().meta_context(BASE)).await;
    let error = conn.block_status(0, 4096).contexts([DIRTY]).await;
    let expected = Error::from(InvalidRequest::UnknownContext {
        name: DIRTY.to_owned(),
        negotiated: vec![BASE.to_owned()],
    });
    assert_eq!(error.unwrap_err().to_string(), expected.to_string());
}
