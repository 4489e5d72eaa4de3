//! Streams of extents whose meaning is known.

use futures::TryStreamExt;
use nbd_client::testing::{Export, Server};
use nbd_client::{Allocation, Connection, Error, InvalidRequest, context};

use crate::support::*;

const BASE: &str = context::BASE_ALLOCATION;

async fn connect(export: Export, contexts: &[&str]) -> Connection {
    let mut builder = Connection::builder();
    for name in contexts {
        builder = builder.meta_context(*name);
    }
    let conn = builder.build();
    let server = Server::builder().export("", export).max_extents(2).build();
    conn.connect_stream(server.connect()).await.unwrap();
    conn
}

both_runtimes!(allocation_has_the_words_of_the_protocol_and_joins_what_is_alike);
async fn allocation_has_the_words_of_the_protocol_and_joins_what_is_alike() {
    use Allocation::{Data, Hole, Undefined, Zero};
    // Unknown flags are ignored.
    let flags = [0, 0x10, 2, 3, 3, 1, 1, 0];
    let export = Export::new(8 * 4096)
        .allocation(false)
        .context(BASE, flags.map(|flags| (4096, flags)));
    let conn = connect(export, &[BASE]).await;
    let extents: Vec<_> = conn.allocation(..).try_collect().await.unwrap();
    let found: Vec<_> = extents
        .iter()
        .map(|extent| (extent.offset / 4096, extent.end() / 4096, extent.kind))
        .collect();
    assert_eq!(
        found,
        [
            (0, 2, Data),
            (2, 3, Zero),
            (3, 5, Hole),
            (5, 7, Undefined),
            (7, 8, Data)
        ]
    );
    let facts = [Data, Zero, Hole, Undefined].map(|kind| (kind.is_zero(), kind.is_allocated()));
    assert_eq!(
        facts,
        [(false, true), (true, true), (true, false), (false, false)]
    );
    let part: Vec<_> = conn.allocation(4000..9000).try_collect().await.unwrap();
    assert_eq!(part.len(), 2);
    assert_eq!((part[0].offset, part[1].end()), (4000, 9000));
    let empty: Vec<_> = conn.allocation(5..5).try_collect().await.unwrap();
    assert!(empty.is_empty());
    let outside = conn.allocation(..=8 * 4096).try_next().await;
    assert_matches!(
        outside,
        Err(Error::Invalid(InvalidRequest::OutOfBounds { .. }))
    );
}

#[tokio::test]
async fn a_bitmap_says_what_is_dirty() {
    let name = context::qemu_dirty_bitmap("monday");
    let export = Export::new(5 * 4096).context(&name, [0, 1, 1, 0, 1].map(|flags| (4096, flags)));
    let conn = connect(export, &[BASE, &name]).await;
    let extents: Vec<_> = conn
        .dirty_extents("monday", ..)
        .try_collect()
        .await
        .unwrap();
    let found: Vec<_> = extents
        .iter()
        .map(|extent| (extent.offset / 4096, extent.end() / 4096, extent.is_dirty))
        .collect();
    assert_eq!(
        found,
        [(0, 1, false), (1, 3, true), (3, 4, false), (4, 5, true)]
    );
}

#[tokio::test]
async fn a_context_that_is_missing_is_named_with_those_that_are_there() {
    let name = context::qemu_dirty_bitmap("monday");
    let export = || Export::new(1 << 20).context(&name, [(1 << 20, 1)]);
    let conn = connect(export(), &[BASE, &name]).await;
    let sent = conn.stats().messages_sent;
    let mut extents = conn.dirty_extents("mondya", ..);
    let error = extents.try_next().await.unwrap_err();
    assert_matches!(
        &error,
        Error::Invalid(InvalidRequest::UnknownContext { name: missing, negotiated })
            if missing == "qemu:dirty-bitmap:mondya" && *negotiated == [BASE, &name]
    );
    assert_eq!(
        error.to_string(),
        "metadata context \"qemu:dirty-bitmap:mondya\" was not negotiated, but \"base:allocation\", \
         \"qemu:dirty-bitmap:monday\" were: ask for it with `Builder::meta_context`"
    );
    assert!(extents.try_next().await.unwrap().is_none());
    assert_eq!(conn.stats().messages_sent, sent);
    let conn = connect(export(), &[]).await;
    let error = conn.allocation(..).try_next().await.unwrap_err();
    assert_matches!(
        error,
        Error::Invalid(InvalidRequest::UnknownContext { negotiated, .. })
            if negotiated.is_empty()
    );
}
