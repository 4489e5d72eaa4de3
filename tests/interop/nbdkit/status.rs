//! Extents of nbdkit's one metadata context, and reads in pieces.

use futures::TryStreamExt;
use nbd_client::{Chunk, Connection, Error, Extent, InvalidRequest};

use crate::shared::server::Server;

const BASE: &str = "base:allocation";

async fn connect(args: &[&str]) -> (Connection, Server) {
    let server = Server::nbdkit(args);
    let conn = Connection::builder().meta_context(BASE).build();
    conn.connect_unix(server.socket()).await.unwrap();
    (conn, server)
}

/// Every extent of the export.
async fn map(conn: &Connection) -> Vec<Extent> {
    let size = conn.size().unwrap();
    let mut extents: Vec<Extent> = Vec::new();
    let mut offset = 0;
    while offset < size {
        let status = conn.block_status(offset, size - offset).await.unwrap();
        let found = status.get(BASE).unwrap();
        assert_eq!(found[0].offset, offset);
        offset = found.last().unwrap().end();
        extents.extend(found);
    }
    assert_eq!(offset, size);
    extents
}

both_runtimes!(holes_are_where_nothing_was_written);
async fn holes_are_where_nothing_was_written() {
    const HOLE: u64 = Extent::HOLE | Extent::ZERO;
    let (conn, _server) = connect(&["memory", "10M"]).await;
    conn.write(1 << 20, vec![1; 1 << 20]).await.unwrap();
    let expected = [
        Extent::new(0, 1 << 20, HOLE),
        Extent::new(1 << 20, 1 << 20, 0),
        Extent::new(2 << 20, 8 << 20, HOLE),
    ];
    assert_eq!(merged(map(&conn).await), expected);
}

// nbdkit answers twice who asks for a context twice.
#[tokio::test]
async fn a_context_that_is_asked_for_twice_is_one() {
    let server = Server::nbdkit(&["memory", "1M"]);
    let builder = Connection::builder().meta_context(BASE).meta_context(BASE);
    let conn = builder.build();
    conn.connect_unix(server.socket()).await.unwrap();
    assert_eq!(
        conn.export().unwrap().contexts().collect::<Vec<_>>(),
        [BASE]
    );
    let extents = map(&conn).await;
    assert_eq!(extents.last().unwrap().end(), 1 << 20);
}

// P-172, P-175: hundreds of extents, more than one answer may hold.
both_runtimes!(a_sparse_disk_is_mapped_to_its_end);
async fn a_sparse_disk_is_mapped_to_its_end() {
    let (conn, _server) = connect(&["sparse-random", "10G", "seed=1"]).await;
    let extents = map(&conn).await;
    let total: u64 = extents.iter().map(|extent| extent.length).sum();
    assert_eq!(total, 10 << 30);
    let data = extents.iter().find(|extent| extent.flags == 0).unwrap();
    let held = conn.read(data.offset, 4096).await.unwrap();
    assert!(held.iter().any(|&byte| byte != 0));
}

// P-170: REQ_ONE gives one extent.
both_runtimes!(one_extent_is_what_req_one_gives);
async fn one_extent_is_what_req_one_gives() {
    let (conn, _server) = connect(&["sparse-random", "1G", "seed=1"]).await;
    let many = conn.block_status(0, 1 << 30).await.unwrap();
    assert!(many.get(BASE).unwrap().len() > 1);
    let one = conn.block_status(0, 1 << 30).req_one().await.unwrap();
    assert_eq!(one.get(BASE).unwrap().len(), 1);
}

// P-085: block status needs selected contexts.
both_runtimes!(without_contexts_no_status_is_asked_for);
async fn without_contexts_no_status_is_asked_for() {
    let server = Server::nbdkit(&["memory", "1M"]);
    let conn = Connection::new();
    conn.connect_unix(server.socket()).await.unwrap();
    let error = conn.block_status(0, 4096).await.unwrap_err();
    assert!(
        matches!(error, Error::Invalid(InvalidRequest::NoContexts)),
        "{error}"
    );
}

// P-077: contexts come in any order, ids once.
both_runtimes!(a_context_the_server_does_not_have_is_missing_and_no_error);
async fn a_context_the_server_does_not_have_is_missing_and_no_error() {
    let server = Server::nbdkit(&["memory", "1M"]);
    let conn = Connection::builder()
        .meta_context("x-nobody:knows")
        .meta_context(BASE)
        .build();
    conn.connect_unix(server.socket()).await.unwrap();
    let export = conn.export().unwrap();
    assert!(export.has_context(BASE));
    assert!(!export.has_context("x-nobody:knows"));
    assert_eq!(conn.block_status(0, 4096).await.unwrap().len(), 1);
}

// P-062: dependent features need structured replies; P-070: contexts need structured replies.
both_runtimes!(without_structured_replies_there_are_no_contexts);
async fn without_structured_replies_there_are_no_contexts() {
    let (conn, _server) = connect(&["--no-sr", "memory", "1M"]).await;
    assert_eq!(conn.export().unwrap().contexts().count(), 0);
    assert!(!conn.export().unwrap().can_df());
    conn.read(0, 512).await.unwrap();
}

// P-161: content comes in any order; P-162: content covers the whole request.
both_runtimes!(the_pieces_of_a_read_are_the_read);
async fn the_pieces_of_a_read_are_the_read() {
    let (conn, _server) = connect(&["sparse-random", "1G", "seed=1", "percent=50"]).await;
    let length = 8 << 20;
    let whole = conn.read(4096, length).await.unwrap();
    let mut held = vec![0; length];
    let mut chunks = conn.read_structured(4096, length);
    let mut total = 0;
    while let Some(chunk) = chunks.try_next().await.unwrap() {
        total += chunk.length();
        if let Chunk::Data { offset, data } = chunk {
            let start = (offset - 4096) as usize;
            held[start..start + data.len()].copy_from_slice(&data);
        }
    }
    assert_eq!(total, length as u64);
    assert!(held == whole);
}

// P-166: DF means one chunk of content.
both_runtimes!(a_read_that_must_not_be_fragmented_is_one_piece);
async fn a_read_that_must_not_be_fragmented_is_one_piece() {
    let (conn, _server) = connect(&["sparse-random", "1G", "seed=1"]).await;
    assert!(conn.export().unwrap().can_df());
    let chunks = conn.read_structured(0, 65536).dont_fragment();
    let chunks: Vec<Chunk> = chunks.try_collect().await.unwrap();
    assert_eq!(chunks.len(), 1, "{chunks:?}");
}

/// P-173: neighbours of the same status as one.
fn merged(extents: Vec<Extent>) -> Vec<Extent> {
    let mut merged: Vec<Extent> = Vec::new();
    for extent in extents {
        match merged.last_mut() {
            Some(last) if last.flags == extent.flags => last.length += extent.length,
            _ => merged.push(extent),
        }
    }
    merged
}
