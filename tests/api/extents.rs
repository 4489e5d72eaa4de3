//! Streams of extents: exact cover, progress, merging, contexts that cover different lengths.

use futures::TryStreamExt;
use nbd_client::testing::{Builder, Export, Server};
use nbd_client::wire::{Command, Errno, ProtocolError};
use nbd_client::{Connection, Error, Extent, InvalidRequest, context};

const DIRTY: &str = "qemu:dirty-bitmap:b";
const WIDE: &str = "x:wide";

/// A disk with two contexts of its own beside its allocation.
fn disk() -> Export {
    let disk = Export::new(1 << 20)
        .context(DIRTY, (0..1024).map(|n| (1000, n % 3 / 2)))
        .context(WIDE, [(700_000, u64::MAX), (1 << 20, 5)])
        .log_requests(10_000);
    disk.fill(65_536, 131_072, 7);
    disk.fill(500_000, 1, 7);
    disk
}

async fn connect(server: Builder, disk: &Export, contexts: &[&str]) -> Connection {
    let server = server.export("", disk.clone()).build();
    let mut builder = Connection::builder();
    for context in contexts {
        builder = builder.meta_context(*context);
    }
    let conn = builder.build();
    conn.connect_stream(server.connect()).await.unwrap();
    conn
}

/// Servers that cut their answers differently.
fn servers() -> Vec<Builder> {
    let mut servers = Vec::new();
    for extended in [false, true] {
        for overshoot in [false, true] {
            for most in [1, 2, 7, 1 << 20] {
                let server = Server::builder()
                    .extended_headers(extended)
                    .overshoot_extents(overshoot)
                    .max_extents(most);
                servers.push(server);
            }
        }
    }
    servers
}

/// Checks that extents cover exactly a range, and returns them without their offsets.
fn lengths(extents: &[Extent], mut at: u64, end: u64) -> Vec<(u64, u64)> {
    for extent in extents {
        assert_eq!(extent.offset, at, "gap or overlap in {extents:?}");
        assert!(extent.length > 0);
        at = extent.end();
    }
    assert_eq!(at, end);
    extents.iter().map(|e| (e.length, e.flags)).collect()
}

#[tokio::test]
async fn merged_extents_are_the_same_however_the_server_cuts_them() {
    let disk = disk();
    for server in servers() {
        let conn = connect(server, &disk, &[context::BASE_ALLOCATION]).await;
        let extents = conn.extents(context::BASE_ALLOCATION, ..).merged();
        let extents: Vec<_> = extents.try_collect().await.unwrap();
        let hole = Extent::HOLE | Extent::ZERO;
        let found = lengths(&extents, 0, 1 << 20);
        let page = 500_000 / 65_536 * 65_536;
        assert_eq!(
            found,
            [
                (65_536, hole),
                (131_072, 0),
                (page - 196_608, hole),
                (65_536, 0),
                ((1 << 20) - page - 65_536, hole)
            ]
        );
    }
}

#[tokio::test]
async fn any_range_is_covered_exactly() {
    let disk = disk();
    for server in servers() {
        let conn = connect(server, &disk, &[DIRTY]).await;
        for (start, end) in [
            (0, 1),
            (999, 1001),
            (1, 1 << 20),
            (5_500, 5_501),
            (7, 3_007),
        ] {
            let extents = conn.extents(DIRTY, start..end).merged();
            let extents: Vec<_> = extents.try_collect().await.unwrap();
            lengths(&extents, start, end);
            let expected = |at: u64| at / 1000 % 3 / 2;
            for extent in &extents {
                assert_eq!(extent.flags, expected(extent.offset), "{extent:?}");
                assert_eq!(extent.flags, expected(extent.end() - 1), "{extent:?}");
            }
        }
    }
}

#[tokio::test]
async fn ranges_of_all_forms_are_taken() {
    let conn = connect(Server::builder(), &disk(), &[DIRTY]).await;
    let size = 1 << 20;
    for (extents, start, end) in [
        (conn.extents(DIRTY, ..), 0, size),
        (conn.extents(DIRTY, 10..), 10, size),
        (conn.extents(DIRTY, ..10), 0, 10),
        (conn.extents(DIRTY, ..=10), 0, 11),
        (conn.extents(DIRTY, 5..=10), 5, 11),
        (conn.extents(DIRTY, 10..10), 10, 10),
        (conn.extents(DIRTY, size..), size, size),
    ] {
        let extents: Vec<_> = extents.try_collect().await.unwrap();
        lengths(&extents, start, end);
    }
}

#[tokio::test]
async fn range_outside_of_the_export_is_an_error() {
    let conn = connect(Server::builder(), &disk(), &[DIRTY]).await;
    let size: u64 = 1 << 20;
    for extents in [
        conn.extents(DIRTY, ..=size),
        conn.extents(DIRTY, size + 1..),
        conn.extents(DIRTY, ..=u64::MAX),
    ] {
        let error = extents.try_collect::<Vec<_>>().await.unwrap_err();
        let outside = matches!(
            error,
            Error::Invalid(InvalidRequest::OutOfBounds {
                size: 1_048_576,
                ..
            })
        );
        assert!(outside, "{error}");
    }
    #[allow(clippy::reversed_empty_ranges, reason = "it is a mistake")]
    let error = conn.extents(DIRTY, 9..5).try_next().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid range: it ends at 5, before it starts at 9"
    );
    assert!(conn.is_ready());
}

#[tokio::test]
async fn context_that_was_not_negotiated_is_an_error() {
    let conn = connect(Server::builder(), &disk(), &[DIRTY]).await;
    let error = conn.extents(WIDE, ..).try_next().await.unwrap_err();
    let unknown = Error::from(InvalidRequest::UnknownContext {
        name: WIDE.into(),
        negotiated: vec![DIRTY.into()],
    });
    assert_eq!(error.to_string(), unknown.to_string());

    let conn = connect(Server::builder(), &disk(), &[]).await;
    let error = conn.extents(WIDE, ..).try_next().await.unwrap_err();
    assert_eq!(error.errno(), Some(22), "{error}");
    let error = conn.joint_extents(..).try_next().await.unwrap_err();
    assert_eq!(error.errno(), Some(22), "{error}");
}

// P-114: requests are aligned, ranges need not be. P-121: nor need the end of the export be.
#[tokio::test]
async fn requests_are_aligned_whatever_the_range() {
    let disk = Export::new(100_000)
        .block_sizes(4096, 4096, 1 << 20)
        .context(WIDE, [(4096, 0), (8192, 1), (1 << 20, 2)])
        .log_requests(100);
    let conn = connect(Server::builder().max_extents(2), &disk, &[WIDE]).await;
    let extents: Vec<_> = conn
        .extents(WIDE, 5000..98_000)
        .try_collect()
        .await
        .unwrap();
    let found = lengths(&extents, 5000, 98_000);
    assert_eq!(found, [(12_288 - 5000, 1), (98_000 - 12_288, 2)]);
    for head in disk.log() {
        assert_eq!(head.command, Command::BLOCK_STATUS);
        assert_eq!(head.offset % 4096 + head.length % 4096, 0);
    }
}

#[tokio::test]
async fn server_that_stands_still_is_a_violation_and_no_endless_loop() {
    // One extent at a time, that ends in the middle of a block: nothing can be asked beyond it.
    let disk = Export::new(1 << 20)
        .block_sizes(4096, 4096, 1 << 20)
        .context(WIDE, [(5000, 0), (1 << 20, 1)]);
    let conn = connect(Server::builder().max_extents(1), &disk, &[WIDE]).await;
    let mut extents = conn.extents(WIDE, 4096..);
    let first = extents.try_next().await.unwrap();
    assert_eq!(first, Some(Extent::new(4096, 904, 0)));
    let error = extents.try_next().await.unwrap_err();
    let stuck = matches!(error, Error::Protocol(ProtocolError::Extents(_), _));
    assert!(stuck, "{error}");
    assert_eq!(extents.try_next().await.unwrap(), None);
    assert!(conn.closed().await.to_string().contains("inside a block"));
}

#[tokio::test]
async fn joint_extents_carry_every_context_over_a_common_range() {
    let disk = disk();
    for server in servers() {
        let contexts = [context::BASE_ALLOCATION, DIRTY, WIDE];
        let conn = connect(server.clone(), &disk, &contexts).await;
        let joint: Vec<_> = conn
            .joint_extents(3..900_001)
            .merged()
            .try_collect()
            .await
            .unwrap();
        let mut at = 3;
        for extent in &joint {
            assert_eq!(extent.offset, at);
            at = extent.end();
        }
        assert_eq!(at, 900_001);
        // What each context says is what it says alone.
        for context in conn.export().unwrap().contexts() {
            let alone = conn.extents(context, 3..900_001).merged();
            let alone: Vec<_> = alone.try_collect().await.unwrap();
            let mut pieces = joint.iter().map(|extent| extent.get(context).unwrap());
            for whole in alone {
                let mut at = whole.offset;
                while at < whole.end() {
                    let piece = pieces.next().unwrap();
                    assert_eq!((piece.offset, piece.flags), (at, whole.flags), "{context}");
                    at = piece.end();
                }
                assert_eq!(at, whole.end());
            }
        }
        assert_eq!(joint[0].flags("x:none"), None);
    }
}

#[tokio::test]
async fn contexts_that_lag_behind_are_asked_for_alone() {
    // One long extent beside many short ones, and answers of two extents each.
    let disk = Export::new(1 << 20)
        .context(DIRTY, (0..1024).map(|n| (1024, n % 2)))
        .context(WIDE, [(1 << 20, 5)])
        .log_requests(10_000);
    let conn = connect(Server::builder().max_extents(2), &disk, &[WIDE, DIRTY]).await;
    let joint: Vec<_> = conn.joint_extents(..).try_collect().await.unwrap();
    assert_eq!(joint.len(), 1024);
    let log = disk.log();
    assert_eq!(log.len(), 512);
    // Effect length and one context, not two.
    assert!(log[1..].iter().all(|head| head.length == 8 + 4));
}

#[tokio::test]
async fn one_context_of_several_is_asked_for_alone() {
    for (contexts, payload) in [(&[WIDE, DIRTY][..], 8 + 4), (&[DIRTY], 1 << 20)] {
        let disk = disk();
        let conn = connect(Server::builder(), &disk, contexts).await;
        let extents: Vec<_> = conn.extents(DIRTY, ..).try_collect().await.unwrap();
        lengths(&extents, 0, 1 << 20);
        let asked: Vec<_> = disk.log().iter().map(|head| head.length).collect();
        assert_eq!(
            asked,
            [payload],
            "the length of the range, or of a list of contexts"
        );
    }
}

#[tokio::test]
async fn hole_of_many_terabytes_is_one_request() {
    let disk = Export::new(10 << 40).log_requests(100);
    disk.fill(5 << 40, 65_536, 1);
    let conn = connect(Server::builder(), &disk, &[context::BASE_ALLOCATION]).await;
    let extents = conn.extents(context::BASE_ALLOCATION, ..);
    let extents: Vec<_> = extents.try_collect().await.unwrap();
    assert_eq!(extents.len(), 3);
    assert_eq!(disk.log().len(), 1);
}

#[tokio::test]
async fn k36_hole_of_many_terabytes_takes_compact_headers_a_request_each_four_gigabytes() {
    let disk = Export::new(10 << 40);
    disk.fill(5 << 40, 65_536, 1);
    let server = Server::builder().extended_headers(false);
    let conn = connect(server, &disk, &[context::BASE_ALLOCATION]).await;
    let extents = conn.extents(context::BASE_ALLOCATION, ..).merged();
    let extents: Vec<_> = extents.try_collect().await.unwrap();
    assert_eq!(extents.len(), 3);
    lengths(&extents, 0, 10 << 40);
    let requests = disk.counters().statuses;
    assert!((2560..2580).contains(&requests), "{requests}");
}

#[tokio::test]
async fn extents_are_asked_for_only_when_they_are_wanted() {
    let disk = disk();
    let conn = connect(Server::builder().max_extents(3), &disk, &[DIRTY]).await;
    let mut extents = conn.extents(DIRTY, ..);
    assert_eq!(disk.log().len(), 0);
    for _ in 0..3 {
        extents.try_next().await.unwrap();
    }
    assert_eq!(disk.log().len(), 1);
    extents.try_next().await.unwrap();
    assert_eq!(disk.log().len(), 2);
}

#[tokio::test]
async fn failure_is_the_last_item_and_leaves_the_connection_usable() {
    let disk = disk();
    let fail = |request: &nbd_client::wire::request::RequestHead| {
        let fails = request.command == Command::BLOCK_STATUS && request.offset > 0;
        fails.then(|| (Errno::EIO, "bad map".into()))
    };
    let server = Server::builder().max_extents(4).fail_with(fail);
    let conn = connect(server, &disk, &[DIRTY]).await;
    let mut extents = conn.extents(DIRTY, ..).merged();
    let mut before = Vec::new();
    let error = loop {
        match extents.try_next().await {
            Ok(extent) => before.push(extent.unwrap()),
            Err(error) => break error,
        }
    };
    assert_eq!(error.errno(), Some(5), "{error}");
    // 2000 clean, 1000 dirty, 1000 clean: all that the first answer said.
    assert_eq!(lengths(&before, 0, 4000), [(2000, 0), (1000, 1), (1000, 0)]);
    assert_eq!(extents.try_next().await.unwrap(), None);
    assert!(conn.is_ready());
}

#[tokio::test]
async fn dropped_streams_leave_the_connection_usable() {
    let disk = disk();
    let server = Server::builder().export("", disk.clone()).build();
    let conn = Connection::builder().meta_context(DIRTY).build();
    conn.connect_stream(server.connect()).await.unwrap();
    server.pause();
    let mut extents = conn.extents(DIRTY, ..);
    tokio::select! {
        biased;
        item = extents.try_next() => panic!("{item:?}"),
        () = server.held(1) => {}
    }
    drop(extents);
    server.resume();
    let extents: Vec<_> = conn.extents(DIRTY, ..).try_collect().await.unwrap();
    lengths(&extents, 0, 1 << 20);
}
