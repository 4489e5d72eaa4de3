//! B: block status.

use futures::{StreamExt, TryStreamExt};
use nbd_client::testing::{Export, Server};
use nbd_client::wire::{ChunkType as Kind, Command, Errno, ProtocolError, ReplyStyle};
use nbd_client::{Connection, Extent, context::BASE_ALLOCATION};

use crate::answer::*;
use crate::harness::*;

/// The id of the context that is asked for.
const ID: u32 = CONTEXTS[0].0;

/// What the extents in the answer to a status of 64 KiB at 4096 are taken for.
fn taken_for(extents: &[(u64, u64)], expected: &[(u64, u64, u64)]) {
    let says = |to: &To| to.status(ID, extents, DONE);
    let as_expected = |got: &Got| got.extents() == expected;
    row(
        &CHUNKED,
        Ask::Status,
        &says,
        Outcome::Tolerated(&as_expected),
    );
}

#[test]
fn b01_an_unknown_context_kills_the_connection() {
    let says = |to: &To| to.status(77, &[(4096, 0)], DONE);
    let unknown = Outcome::Fatal(is!(ProtocolError::UnknownContext(77)));
    row(&CHUNKED, Ask::Status, &says, unknown);
}

#[test]
fn b02_an_empty_extent_kills_the_connection() {
    for extents in [&[(0, 0)][..], &[(4096, 0), (0, 1)], &[(0, 1), (4096, 0)]] {
        let says = |to: &To| to.status(ID, extents, DONE);
        let empty = Outcome::Fatal(is!(ProtocolError::Extents(_)));
        row(&CHUNKED, Ask::Status, &says, empty);
    }
}

/// The head of a status chunk of a wrong length is enough.
fn wrong_length(style: ReplyStyle, lengths: impl IntoIterator<Item = u64>) {
    for length in lengths {
        let says = |to: &To| to.chunk_head(to.status_kind(), length);
        let wrong = Outcome::Fatal(is!(ProtocolError::Length { .. }));
        row(&[style], Ask::Status, &says, wrong);
    }
}

#[test]
fn b04_a_status_without_extents_kills_the_connection() {
    wrong_length(ReplyStyle::Structured, [4]);
    wrong_length(ReplyStyle::Extended, [8]);
}

#[test]
fn b05_a_status_with_a_part_of_an_extent_kills_the_connection() {
    wrong_length(ReplyStyle::Structured, [0, 1, 2, 3, 5, 8, 11, 13, 16]);
    wrong_length(ReplyStyle::Extended, [0, 1, 4, 7, 12, 16, 23, 25, 32]);
}

#[test]
fn b07_a_missing_context_kills_the_connection() {
    for (id, _) in CONTEXTS {
        let says = |to: &To| to.status(id, &[(4096, 0)], DONE);
        let missing = Outcome::Fatal(is!(ProtocolError::MissingStatus(1)));
        row(&CHUNKED, Ask::StatusTwo, &says, missing);
    }
    let says = |to: &To| to.status(ID, &[(4096, 0)], MORE).repeat(2);
    let twice = Outcome::Fatal(is!(ProtocolError::DuplicateStatus(ID)));
    row(&CHUNKED, Ask::StatusTwo, &says, twice);
}

#[test]
fn b08_a_status_without_any_status_kills_the_connection() {
    let missing = Outcome::Fatal(is!(ProtocolError::MissingStatus(1)));
    row(&CHUNKED, Ask::Status, &To::none, missing);
}

#[test]
fn b09_extents_past_the_end_of_the_export_are_cut_off() {
    let most = u64::from(u32::MAX);
    let whole = [(most, 0), (most, 1), (most, 3)];
    // The first covers all that was asked about.
    taken_for(&whole, &[(4096, most, 0)]);
    let says = |to: &To| to.status(ID, &[(1 << 40, 3)], DONE);
    let cut = Outcome::Tolerated(&|got| got.extents() == [(4096, SIZE - 4096, 3)]);
    row(&EXTENDED, Ask::Status, &says, cut);
}

#[test]
fn b09_extents_whose_sum_overflows_kill_the_connection() {
    for length in [u64::MAX, u64::MAX - 4095] {
        let says = |to: &To| to.status(ID, &[(length, 0)], DONE);
        let overflow = Outcome::Fatal(is!(ProtocolError::Extents(_)));
        row(&EXTENDED, Ask::Status, &says, overflow);
    }
}

#[test]
fn b10_extents_past_the_requested_range_are_dropped() {
    taken_for(&[(65536, 0), (4096, 1)], &[(4096, 65536, 0)]);
    let last = [(4096, 65535, 0), (4096 + 65535, 4096, 1)];
    taken_for(&[(65535, 0), (4096, 1), (1, 2)], &last);
}

#[test]
fn b12_more_than_a_million_extents_kill_the_connection_at_the_head() {
    for count in [(1 << 20) + 1, 1 << 21] {
        wrong_length(ReplyStyle::Structured, [4 + 8 * count]);
        wrong_length(ReplyStyle::Extended, [8 + 16 * count]);
    }
}

#[test]
fn b13_extents_that_end_inside_a_block_are_told_as_they_are() {
    let expected = [(4096, 1000, 3), (5096, 511, 0), (5607, 4096, 3)];
    taken_for(&[(1000, 3), (511, 0), (4096, 3)], &expected);
}

#[tokio::test]
async fn b13_a_block_that_is_in_part_a_hole_counts_as_data() {
    // One extent at a time, as qemu-nbd 3.1 had them: a query cannot begin where one ends.
    let extents = [(5000, 3), (100, 0), (10_000, 3), (1 << 20, 0)];
    for extended in [false, true] {
        let export = Export::new(1 << 20)
            .block_sizes(4096, 4096, 1 << 20)
            .allocation(false)
            .context(BASE_ALLOCATION, extents);
        let server = Server::builder()
            .max_extents(1)
            .extended_headers(extended)
            .export("", export)
            .build();
        let conn = Connection::builder().meta_context(BASE_ALLOCATION).build();
        conn.connect_stream(server.connect()).await.unwrap();
        let found = conn.extents(BASE_ALLOCATION, ..).try_collect::<Vec<_>>();
        let extent = |start, end, flags| Extent::new(start, end - start, flags);
        let expected = [
            extent(0, 5000, 3),
            extent(5000, 8192, 0),
            extent(8192, 15_100, 3),
            extent(15_100, 16_384, 0),
            extent(16_384, 1 << 20, 0),
        ];
        assert_eq!(found.await.unwrap(), expected);
        let joint: Vec<_> = conn.joint_extents(..).try_collect().await.unwrap();
        let joint: Vec<_> = joint.iter().map(|e| (e.offset, e.length)).collect();
        assert_eq!(joint, expected.map(|e| (e.offset, e.length)));
    }
}

#[test]
fn b15_a_status_may_cover_less_than_was_asked_for() {
    taken_for(&[(1, 7)], &[(4096, 1, 7)]);
    each(&CHUNKED, async |style, transport| {
        let (conn, mut peer) = with_status(style, transport, SIZE).await;
        let extents = conn.extents(BASE_ALLOCATION, 0..10_000);
        let extents = tokio::spawn(extents.try_collect::<Vec<_>>());
        for at in (0..10_000).step_by(1000) {
            let head = peer
                .expect_command(Command::BLOCK_STATUS)
                .await
                .unwrap()
                .head;
            assert_eq!(head.offset, at, "from where the last ended");
            let reply = To { style, head }.status(ID, &[(1000, at)], DONE);
            peer.send_bytes(&reply).await.unwrap();
        }
        let extents = extents.await.unwrap().unwrap();
        let expected = (0..10).map(|i| Extent::new(1000 * i, 1000, 1000 * i));
        assert!(extents.into_iter().eq(expected));
        goodbye(&conn, peer).await;
    });
}

/// A connection that can ask for the status of an export of `size` bytes.
async fn with_status(
    style: ReplyStyle,
    transport: Transport,
    size: u64,
) -> (Connection, nbd_client::testing::Peer) {
    let builder = Connection::builder().meta_context(BASE_ALLOCATION);
    transport.ready_of(size, style, builder).await
}

#[test]
fn b16_endless_extents_are_asked_for_only_as_they_are_taken() {
    each(&CHUNKED, async |style, transport| {
        let (conn, mut peer) = with_status(style, transport, 1 << 62).await;
        // It answers every query with as many bytes one by one as it is let.
        let script = tokio::spawn(async move {
            let bytes = [(1, 0), (1, 1)].repeat(500);
            let mut queries = 0;
            while let Ok(request) = peer.expect_request().await {
                let head = request.head;
                if head.command != Command::BLOCK_STATUS {
                    break;
                }
                let reply = To { style, head }.status(ID, &bytes, DONE);
                peer.send_bytes(&reply).await.unwrap();
                queries += 1;
            }
            queries
        });
        let extents = conn.extents(BASE_ALLOCATION, ..);
        let taken: Vec<_> = extents.take(10_000).try_collect().await.unwrap();
        assert_eq!(taken[9999], Extent::new(9999, 1, 1));
        // The stream was given up, and the connection goes on.
        conn.disconnect().await.unwrap();
        assert_eq!(script.await.unwrap(), 10);
    });
}

#[test]
fn b17_an_error_fails_the_status_only() {
    let failed = |errno| move |error: &nbd_client::RequestError| error.errno() == errno;
    let (chunked, simple) = (failed(Errno::EIO), failed(Errno::ENOTSUP));
    let says = |to: &To| to.error(Errno::EIO, "", DONE);
    row(&CHUNKED, Ask::Status, &says, Outcome::Failed(&chunked));
    let says = |to: &To| to.simple(Errno::ENOTSUP);
    row(&STRUCTURED, Ask::Status, &says, Outcome::Failed(&simple));
}

#[test]
fn b18_an_error_after_the_status_fails_the_request() {
    let says = |to: &To| {
        let mut bytes = to.status(ID, &[(4096, 0)], MORE);
        bytes.extend(to.error(Errno::EIO, "", DONE));
        bytes
    };
    let failed = Outcome::Failed(&|error| error.errno() == Errno::EIO);
    row(&CHUNKED, Ask::Status, &says, failed);
}

// P-170: qemu takes the first, too.
#[test]
fn the_first_of_several_extents_is_the_one_that_was_asked_for() {
    for more in [&[(512, 1)][..], &[(512, 0), (4096, 3)], &[(1 << 20, 1)]] {
        let extents = [&[(512, 0)], more].concat();
        let says = |to: &To| to.status(ID, &extents, DONE);
        let first = Outcome::Tolerated(&|got| got.extents() == [(4096, 512, 0)]);
        row(&CHUNKED, Ask::StatusOne, &says, first);
    }
}

#[test]
fn no_extent_although_one_was_asked_for_kills_the_connection() {
    let says = |to: &To| to.chunk(Kind::NONE, "", DONE);
    let missing = Outcome::Fatal(is!(ProtocolError::MissingStatus(1)));
    row(&CHUNKED, Ask::StatusOne, &says, missing);
}
