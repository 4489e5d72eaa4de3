//! Requests for empty ranges: nothing is sent, and nothing that would fail otherwise succeeds.

use bytes::BytesMut;
use futures::StreamExt;
use nbd_client::testing::{Export, Server};
use nbd_client::wire::TransmissionFlags;
use nbd_client::{Connection, Error, InvalidRequest, Strict};

use crate::support::*;

const SIZE: u64 = (1 << 20) + 512;

async fn connect(export: &Export) -> Connection {
    let conn = Connection::builder()
        .meta_context("base:allocation")
        .build();
    let server = Server::new(export.clone());
    conn.connect_stream(server.connect()).await.unwrap();
    conn
}

both_runtimes!(an_empty_range_is_read_and_changed_without_traffic);
async fn an_empty_range_is_read_and_changed_without_traffic() {
    let export = Export::new(SIZE).block_sizes(512, 4096, 1 << 20);
    let conn = connect(&export).await;
    let sent = conn.stats().bytes_sent;
    // At the ends, inside a block, and in between.
    for offset in [0, 100, 4096, SIZE - 1, SIZE] {
        assert!(conn.read(offset, 0).await.unwrap().is_empty());
        let buffer = conn.read_into(offset, BytesMut::new()).await.unwrap();
        assert!(buffer.is_empty());
        assert!(conn.read_structured(offset, 0).next().await.is_none());
        conn.write(offset, "").await.unwrap();
        conn.write(offset, "").fua().await.unwrap();
        conn.write_zeroes(offset, 0).no_hole().await.unwrap();
        conn.trim(offset, 0).await.unwrap();
        conn.cache(offset, 0).await.unwrap();
    }
    assert_eq!(conn.stats().bytes_sent, sent);
    assert!(!conn.has_unflushed_writes());
    // The block status of nothing has no extent to answer with.
    let error = conn.block_status(0, 0).await.unwrap_err();
    assert_matches!(error, Error::Invalid(InvalidRequest::ZeroLength(_)));
    assert_eq!(conn.stats().bytes_sent, sent);
}

#[tokio::test]
async fn an_empty_range_outside_the_export_is_refused() {
    let conn = connect(&Export::new(SIZE)).await;
    for offset in [SIZE + 1, u64::MAX] {
        for result in [
            conn.read(offset, 0).await.map(drop),
            conn.write(offset, "").await,
            conn.trim(offset, 0).await,
            conn.read_structured(offset, 0)
                .next()
                .await
                .unwrap()
                .map(drop),
        ] {
            assert_matches!(
                result,
                Err(Error::Invalid(InvalidRequest::OutOfBounds {
                    length: 0,
                    ..
                }))
            );
        }
    }
}

#[tokio::test]
async fn what_is_not_offered_is_not_offered_for_an_empty_range() {
    let flags = TransmissionFlags::HAS_FLAGS;
    let poor = connect(&Export::new(SIZE).flags(flags)).await;
    for result in [
        poor.trim(0, 0).await,
        poor.write_zeroes(0, 0).await,
        poor.cache(0, 0).await,
        poor.write(0, "").fua().await,
    ] {
        assert_matches!(
            result,
            Err(Error::Invalid(
                InvalidRequest::Unsupported(_) | InvalidRequest::UnsupportedFlag(_)
            ))
        );
    }
    let read_only = connect(&Export::new(SIZE).read_only(true)).await;
    let error = read_only.write(0, "").await.unwrap_err();
    assert_matches!(error, Error::Invalid(InvalidRequest::ReadOnly(_)));
    read_only.read(0, 0).await.unwrap();
}

#[tokio::test]
async fn fua_that_is_emulated_needs_no_flush_for_an_empty_range() {
    let flags = TransmissionFlags::HAS_FLAGS | TransmissionFlags::SEND_FLUSH;
    let export = Export::new(SIZE).flags(flags);
    let conn = Connection::builder().emulate_fua(true).build();
    let server = Server::new(export.clone());
    conn.connect_stream(server.connect()).await.unwrap();
    conn.write(0, "").fua().await.unwrap();
    assert_eq!(export.counters().requests(), 0);
}

#[tokio::test]
async fn nothing_succeeds_after_the_end_not_even_for_an_empty_range() {
    let conn = connect(&Export::new(SIZE)).await;
    let reader = conn.read(0, 0);
    conn.disconnect().await.unwrap();
    assert_matches!(reader.await, Err(Error::Closed(_)));
    assert_matches!(conn.write(0, "").await, Err(Error::Closed(_)));
    let chunk = conn.read_structured(0, 0).next().await;
    assert_matches!(chunk, Some(Err(Error::Closed(_))));
    let new = Connection::new();
    let state = new.read(0, 0).await.unwrap_err();
    assert_matches!(state, Error::Invalid(InvalidRequest::State { .. }));
}

#[tokio::test]
async fn the_server_is_asked_on_demand() {
    let export = Export::new(SIZE);
    let conn = connect(&export).await;
    conn.set_strict(Strict::all() - Strict::ZERO_SIZE);
    for result in [
        conn.read(0, 0).await.map(drop),
        conn.write(0, "").await,
        conn.block_status(0, 0).await.map(drop),
    ] {
        assert_matches!(result, Err(Error::Request(_)));
    }
    assert_eq!(export.counters().requests(), 3);
}
